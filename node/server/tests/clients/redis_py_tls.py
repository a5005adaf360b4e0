"""redis-py by TLS: arguments are the port, and the files of the authority, the certificate and its key."""

import sys

import redis

port, authority, certificate, key = sys.argv[1:]
client = redis.Redis(
    host="127.0.0.1",
    port=int(port),
    ssl=True,
    ssl_ca_certs=authority,
    ssl_certfile=certificate,
    ssl_keyfile=key,
)
big = b"x" * 3_000_000
assert client.set("big", big)
assert client.get("big") == big
with client.pipeline(transaction=False) as pipeline:
    for i in range(2000):
        pipeline.incr("n")
    assert pipeline.execute()[-1] == 2000
# A stranger, who shows no certificate.
stranger = redis.Redis(host="127.0.0.1", port=int(port), ssl=True, ssl_ca_certs=authority, retry=None)
try:
    stranger.ping()
except redis.exceptions.RedisError:
    print("fine")
