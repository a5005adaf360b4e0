"""valkey-glide's cluster client against a running cluster: valkey_glide.py PORT SECONDS

The same steps as redis_py.py.
"""

import asyncio
import sys
import time

from glide import (
    ClusterBatch,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    GlideError,
    NodeAddress,
)


async def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    client = await GlideClusterClient.create(
        GlideClusterClientConfiguration(
            addresses=[NodeAddress("127.0.0.1", port)], request_timeout=3000
        )
    )
    for n in range(300):
        assert await client.set(f"glide:{n}", str(n)) == "OK"
    for n in range(300):
        assert await client.get(f"glide:{n}") == str(n).encode()
    assert await client.mset({"{glide}a": "1", "b": "2"}) == "OK"
    assert await client.mget(["{glide}a", "b"]) == [b"1", b"2"]
    assert await client.incrby("glide:counter", 41) == 41
    assert await client.hset("glide:hash", {"f": "v"}) == 1
    assert await client.hgetall("glide:hash") == {b"f": b"v"}
    assert await client.rpush("glide:list", ["a", "b"]) == 2
    assert await client.lrange("glide:list", 0, -1) == [b"a", b"b"]
    assert await client.sadd("glide:set", ["x"]) == 1
    assert await client.zadd("glide:zset", {"one": 1.0}) == 1
    assert await client.zscore("glide:zset", "one") == 1.0
    batch = ClusterBatch(is_atomic=True)
    batch.set("{glide}t", "1")
    batch.incr("{glide}t")
    assert await client.exec(batch, raise_on_error=True) == ["OK", 2]
    print("READY", flush=True)

    acknowledged, errors = [], 0
    begin = time.time()
    n = 0
    while time.time() - begin < seconds:
        n += 1
        try:
            if await client.set(f"glide:steady:{n}", str(n)) == "OK":
                acknowledged.append(n)
        except GlideError:
            errors += 1
            await asyncio.sleep(0.05)
    for n in acknowledged:
        value = None
        for attempt in range(100):
            try:
                value = await client.get(f"glide:steady:{n}")
                break
            except GlideError:
                await asyncio.sleep(0.1)
        assert value == str(n).encode(), f"glide:steady:{n} is {value!r}"
    await client.close()
    print(f"valkey-glide: {len(acknowledged)} acknowledged, {errors} errors, nothing lost")


asyncio.run(main())
