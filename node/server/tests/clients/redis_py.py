"""redis-py's cluster client against a running cluster: redis_py.py PORT SECONDS

Everyday commands first; then writes for SECONDS, in which the caller may kill nodes; then every
acknowledged write is read back.
"""

import sys
import time

import redis
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

port, seconds = int(sys.argv[1]), float(sys.argv[2])
client = RedisCluster(
    startup_nodes=[ClusterNode("127.0.0.1", port)],
    decode_responses=True,
    socket_timeout=3,
    retry=Retry(ConstantBackoff(0.1), 10),
)

for n in range(300):
    assert client.set(f"py:{n}", n)
assert [client.get(f"py:{n}") for n in range(300)] == [str(n) for n in range(300)]
assert client.mset({"{py}a": "1", "{py}b": "2"})
assert client.mget("{py}a", "{py}b") == ["1", "2"]
assert client.incrby("py:counter", 41) + 1 == 42
client.hset("py:hash", mapping={"f": "v", "g": "w"})
assert client.hgetall("py:hash") == {"f": "v", "g": "w"}
client.rpush("py:list", "a", "b", "c")
assert client.lrange("py:list", 0, -1) == ["a", "b", "c"]
client.sadd("py:set", "x", "y")
assert client.smembers("py:set") == {"x", "y"}
client.zadd("py:zset", {"one": 1, "two": 2})
assert client.zrange("py:zset", 0, -1, withscores=True) in (
    [("one", 1.0), ("two", 2.0)],
    [["one", 1.0], ["two", 2.0]],
)
assert client.set("py:brief", "1", px=100)
time.sleep(0.2)
assert client.get("py:brief") is None
pipe = client.pipeline()
for n in range(50):
    pipe.set(f"py:pipe:{n}", n)
assert all(pipe.execute())
keys = {key for key in client.scan_iter(match="py:pipe:*", count=100)}
assert len(keys) == 50, len(keys)
subscriber = client.pubsub()
subscriber.subscribe("py:news")
deadline = time.time() + 5
heard = None
while heard is None and time.time() < deadline:
    client.publish("py:news", "hello")
    message = subscriber.get_message(ignore_subscribe_messages=True, timeout=0.2)
    heard = message and message["data"]
assert heard == "hello", heard
print("READY", flush=True)

acknowledged, errors = [], 0
begin = time.time()
n = 0
while time.time() - begin < seconds:
    n += 1
    try:
        if client.set(f"py:steady:{n}", n):
            acknowledged.append(n)
    except (redis.RedisError, OSError):
        errors += 1
        time.sleep(0.05)

for n in acknowledged:
    for attempt in range(100):
        try:
            value = client.get(f"py:steady:{n}")
            break
        except (redis.RedisError, OSError):
            time.sleep(0.1)
    assert value == str(n), f"py:steady:{n} is {value!r}"
print(f"redis-py {redis.__version__}: {len(acknowledged)} acknowledged, {errors} errors, nothing lost")
