// ioredis' cluster client against a running cluster: ioredis.js PORT SECONDS
// The same steps as redis_py.py.
"use strict";
const assert = require("node:assert");
const { Cluster } = require("ioredis");

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main() {
  const [port, seconds] = [Number(process.argv[2]), Number(process.argv[3])];
  const client = new Cluster([{ host: "127.0.0.1", port }], {
    clusterRetryStrategy: () => 100,
    retryDelayOnFailover: 100,
    redisOptions: { commandTimeout: 3000 },
  });
  client.on("error", () => {});

  for (let n = 0; n < 300; n++) assert.equal(await client.set(`io:${n}`, n), "OK");
  for (let n = 0; n < 300; n++) assert.equal(await client.get(`io:${n}`), String(n));
  await client.mset("{io}a", "1", "{io}b", "2");
  assert.deepEqual(await client.mget("{io}a", "{io}b"), ["1", "2"]);
  assert.equal(await client.incrby("io:counter", 41), 41);
  await client.hset("io:hash", { f: "v" });
  assert.deepEqual(await client.hgetall("io:hash"), { f: "v" });
  await client.rpush("io:list", "a", "b");
  assert.deepEqual(await client.lrange("io:list", 0, -1), ["a", "b"]);
  assert.equal(await client.sadd("io:set", "x"), 1);
  assert.equal(await client.zadd("io:zset", 1, "one"), 1);
  const results = await client.multi().set("{io}t", 1).incr("{io}t").exec();
  assert.deepEqual(results, [[null, "OK"], [null, 2]]);
  console.log("READY");

  const acknowledged = [];
  let errors = 0;
  const begin = Date.now();
  for (let n = 1; Date.now() - begin < seconds * 1000; n++) {
    try {
      if ((await client.set(`io:steady:${n}`, n)) === "OK") acknowledged.push(n);
    } catch {
      errors++;
      await sleep(50);
    }
  }
  for (const n of acknowledged) {
    let value = null;
    for (let attempt = 0; attempt < 100; attempt++) {
      try {
        value = await client.get(`io:steady:${n}`);
        break;
      } catch {
        await sleep(100);
      }
    }
    assert.equal(value, String(n), `io:steady:${n}`);
  }
  client.disconnect();
  console.log(`ioredis: ${acknowledged.length} acknowledged, ${errors} errors, nothing lost`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
