#!/usr/bin/env python3
"""Moves slots back and forth between two shards while clients write to them, and checks every acknowledged write.

Needs redis-py (PyPI) and a running cluster, for example of `holdfast local-cluster --shards 2`:

    migrate_under_load.py --port 7000 --rounds 4 --writers 8

Each writer appends numbers to lists of its own, one write at a time, so that the list in the end shows what was lost,
what came twice and what came out of order. A write of unknown outcome (a lost connection, -UNCERTAIN) may be there or not. Prints
one line a round and exits with 1 when anything is wrong.
"""

import argparse
import sys
import threading
import time

import redis
from redis.cluster import ClusterNode, RedisCluster


class Writer(threading.Thread):
    """Appends numbers to its lists and notes what was acknowledged."""

    def __init__(self, args, number, stop):
        super().__init__(daemon=True)
        self.client = RedisCluster(startup_nodes=[ClusterNode(args.host, args.port)])
        self.keys = [f"{{{args.run}-{number}-{i}}}list" for i in range(args.keys)]
        self.stop = stop
        self.acked = {key: [] for key in self.keys}
        self.unknown = {key: set() for key in self.keys}
        self.longest = 0.0
        self.refused = []
        self.count = 0

    def run(self):
        n = 0
        while not self.stop.is_set():
            key = self.keys[n % len(self.keys)]
            n += 1
            begin = time.monotonic()
            try:
                self.client.rpush(key, n)
                self.acked[key].append(n)
                self.count += 1
            except (redis.ConnectionError, redis.TimeoutError) as error:
                self.unknown[key].add(n)
                self.refused.append(repr(error))
            except redis.RedisError as error:
                self.unknown[key].add(n)
                self.refused.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - begin)


def primaries(client):
    """Node id and slots of each primary, by port."""
    out = {}
    for line in client.execute_command("CLUSTER NODES").items():
        address, node = line
        if "master" in node["flags"] and node["slots"]:
            out[int(address.rsplit(":", 1)[1])] = (node["node_id"], node["slots"])
    return out


def wait_for_job(client, limit):
    """The newest job's state, once it is over."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        jobs = client.execute_command("CLUSTER GETSLOTMIGRATIONS")
        # A map under RESP3, a flat list under RESP2.
        job = jobs[0] if isinstance(jobs[0], dict) else dict(zip(jobs[0][::2], jobs[0][1::2]))
        if job[b"state"] in (b"success", b"failed", b"cancelled"):
            return job
        time.sleep(0.005)
    raise SystemExit(f"a migration did not end within {limit} s: {job}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--keys", type=int, default=50, help="lists of each writer")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slots", type=int, default=4000, help="slots moved in a round")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between rounds")
    args = parser.parse_args()
    args.run = f"{time.time_ns():x}"

    node = redis.Redis(host=args.host, port=args.port)
    known = primaries(node)
    ports = sorted(known)[:2]
    if len(ports) < 2:
        raise SystemExit("two shards with slots are needed")
    first = min(int(slots[0]) for slots in known[ports[0]][1])
    last = first + args.slots - 1

    stop = threading.Event()
    writers = [Writer(args, i, stop) for i in range(args.writers)]
    for writer in writers:
        writer.start()
    failed = False
    for r in range(args.rounds):
        time.sleep(args.pause)
        source, target = ports[r % 2], ports[(r + 1) % 2]
        client = redis.Redis(host=args.host, port=source)
        before, begin = sum(w.count for w in writers), time.monotonic()
        for writer in writers:
            writer.longest = 0.0
        client.execute_command(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", known[target][0]
        )
        job = wait_for_job(client, 120)
        took = time.monotonic() - begin
        time.sleep(0.2)
        rate = (sum(w.count for w in writers) - before) / (time.monotonic() - begin)
        longest = max(w.longest for w in writers) * 1000
        state, message = job[b"state"].decode(), job[b"message"].decode()
        print(f"round {r}: {source} -> {target} {state} in {took:.2f} s, {rate:.0f} writes/s, longest write {longest:.0f} ms. {message}")
        failed |= state != "success"
    time.sleep(args.pause)
    stop.set()
    for writer in writers:
        writer.join()

    lost = twice = disorder = 0
    reader = RedisCluster(startup_nodes=[ClusterNode(args.host, args.port)])
    for writer in writers:
        for key in writer.keys:
            found = [int(n) for n in reader.lrange(key, 0, -1)]
            lost += len(set(writer.acked[key]) - set(found))
            twice += len(found) - len(set(found))
            strangers = set(found) - set(writer.acked[key]) - writer.unknown[key]
            known_order = [n for n in found if n not in writer.unknown[key]]
            disorder += known_order != sorted(known_order) or bool(strangers)
    refused = [e for w in writers for e in w.refused]
    total = sum(w.count for w in writers)
    print(f"{total} acknowledged writes: {lost} lost, {twice} twice, {disorder} lists out of order, {len(refused)} refused or unknown")
    for error in sorted(set(refused))[:5]:
        print("  ", error)
    sys.exit(1 if failed or lost or twice or disorder else 0)


if __name__ == "__main__":
    main()
