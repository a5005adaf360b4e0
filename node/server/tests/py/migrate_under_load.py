#!/usr/bin/env python3
"""Moves slots back and forth between two shards while clients write to them, and checks every acknowledged write.

Needs redis-py (PyPI) and a running cluster, for example of `holdfast local-cluster --shards 2`:

    migrate_under_load.py --port 7000 --rounds 4 --writers 8

With `--kill 'holdfast server DIR/node-{port}/holdfast.conf'` each round kills the source's or the target's primary (kill -9) at a
random moment of the migration and starts it again a second later by that command; the slots must end on exactly one side.

Each writer appends numbers to lists of its own, one write at a time, so that the list in the end shows what was lost,
what came twice and what came out of order. A write of unknown outcome (a lost connection, -UNCERTAIN) may be there or not. Prints
one line a round and exits with 1 when anything is wrong.
"""

import argparse
import os
import random
import shlex
import signal
import subprocess
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


def settled(args, ports, limit=60):
    """Waits until every node knows the same owners of all slots and no job runs; returns the primaries."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            views = []
            for port in ports:
                client = redis.Redis(host=args.host, port=port, socket_timeout=2)
                known = primaries(client)
                views.append({p: sorted(map(tuple, slots)) for p, (_, slots) in known.items()})
                jobs = client.execute_command("CLUSTER GETSLOTMIGRATIONS")
                for job in jobs:
                    job = job if isinstance(job, dict) else dict(zip(job[::2], job[1::2]))
                    assert job[b"state"] in (b"success", b"failed", b"cancelled")
            covered = sum(int(r[-1]) - int(r[0]) + 1 for slots in views[0].values() for r in slots)
            assert all(view == views[0] for view in views) and covered == 16384
            return known
        except (AssertionError, redis.RedisError):
            time.sleep(0.1)
    raise SystemExit(f"the cluster has not settled within {limit} s: {views}")


def kill_and_restart(args, port, delay):
    """kill -9 after a while, and a start a second later."""
    pid = redis.Redis(host=args.host, port=port).info("server")["process_id"]
    time.sleep(delay)
    os.kill(int(pid), signal.SIGKILL)
    time.sleep(1)
    subprocess.Popen(shlex.split(args.kill.format(port=port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def chaos(args, writers, ports):
    """Rounds with kills."""
    for r in range(args.rounds):
        known = settled(args, ports)
        source, target = random.sample(sorted(known), 2)
        slots = known[source][1]
        first = int(slots[0][0])
        last = min(int(slots[0][-1]), first + args.slots - 1)
        victim, delay = random.choice([source, target]), random.choice([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
        killer = threading.Thread(target=kill_and_restart, args=(args, victim, delay))
        killer.start()
        outcome = "begun"
        try:
            redis.Redis(host=args.host, port=source, socket_timeout=2).execute_command(
                "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", known[target][0]
            )
        except redis.RedisError as error:
            outcome = repr(error)
        killer.join()
        begin = time.monotonic()
        after = settled(args, ports)
        print(f"round {r}: {source} -> {target}, {first}-{last} {outcome}, killed {victim} after {delay} s; settled in {time.monotonic() - begin:.1f} s as {[(p, s) for p, (_, s) in sorted(after.items())]}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--keys", type=int, default=50, help="lists of each writer")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slots", type=int, default=4000, help="slots moved in a round")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between rounds")
    parser.add_argument("--kill", help="kill primaries; the command that starts the node of {port}")
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
    nodes = node.execute_command("CLUSTER NODES")
    data = [int(a.rsplit(":", 1)[1]) for a, n in nodes.items() if "slave" in n["flags"] or n["slots"]]
    if args.kill:
        time.sleep(args.pause)
        chaos(args, writers, data)
        args.rounds = 0
    for r in range(args.rounds):
        time.sleep(args.pause)
        # Primaries change where nodes are short of time.
        known = settled(args, data)
        owns = [p for p, (_, s) in known.items() if any(int(a[0]) <= first <= int(a[-1]) for a in s)]
        source, target = owns[0], next(p for p in sorted(known) if p != owns[0])
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
    # After a lost connection redis-py itself sends a command again.
    sys.exit(1 if failed or lost or disorder or (twice and not args.kill) else 0)


if __name__ == "__main__":
    main()
