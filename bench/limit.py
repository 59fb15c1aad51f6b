#!/usr/bin/env python3
"""A cache under a limit sixteen times smaller than what is read through it.

    XCPFS=build/xcpfs top_builddir=build python3 bench/limit.py [MIB] [LIMIT_MIB]

1 GiB (MIB) of content that does not shrink, in files of 64 to 448 KiB, is read through a mount with
--cache-size 64M (LIMIT_MIB) by 8 readers, each in a random order of its own: uniform, and skewed as
real use is (Zipf). Every byte is compared. Printed are lines "name unit value": the most that du ever
said, stalls, and the hit rate beside that of an LRU that is simulated with the same trace.
"""

import hashlib
import os
import random
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e import env, proc, repos  # noqa: E402  pylint: disable=wrong-import-position
from e2e.lighttpd import GitHttpServer  # noqa: E402  pylint: disable=wrong-import-position
from e2e.mounts import Mount  # noqa: E402  pylint: disable=wrong-import-position

MIB = 1 << 20
READERS = 8


def say(name, unit, value):
    print(f"{name} {unit} {value:.3f}" if isinstance(value, float) else f"{name} {unit} {value}",
          flush=True)


def sizes(total):
    rng, out = random.Random(64), []
    while sum(out) < total:
        out.append(rng.randrange(64 << 10, 448 << 10))
    return out


def repository(total):
    """Each file in a folder of its own: nobody is to guess what is read next."""
    def make(path):
        with repos.Importer(path) as repo:
            repo.commit("refs/heads/main", {
                b"d%04d/file" % n: ("100644", random.Random(n).randbytes(size))
                for n, size in enumerate(sizes(total))})
    return repos.once(f"limit-{total // MIB}.git", make)


def orders(count, skewed):
    """For each reader what it reads."""
    reads = count // 2 if skewed else count // 4
    ranks = list(range(count))
    random.Random(3).shuffle(ranks)
    weights = [1 / (1 + rank) ** 0.9 for rank in ranks]
    for reader in range(READERS):
        rng = random.Random(1000 + reader)
        if skewed:
            yield rng.choices(range(count), weights, k=reads)
        else:
            yield rng.sample(range(count), reads)


class Lru:
    """What an LRU of that many bytes would have had."""

    def __init__(self, limit):
        self._limit, self._used, self._held = limit, 0, OrderedDict()
        self.hits = 0

    def read(self, number, size):
        if number in self._held:
            self._held.move_to_end(number)
            self.hits += 1
            return
        self._held[number] = size
        self._used += size
        while self._used > self._limit:
            self._used -= self._held.popitem(last=False)[1]


class Trace:
    """What was read, in the order it was begun; what was wrong; what took long."""

    def __init__(self, mount, hashes):
        self.mount, self.hashes = mount, hashes
        self.order, self.wrong, self.stalls, self.longest = [], 0, 0, 0.0
        self._lock = threading.Lock()

    def read(self, number):
        with self._lock:
            self.order.append(number)
        start = time.monotonic()
        with open(self.mount.join(f"d{number:04}/file"), "rb", buffering=0) as file:
            data = file.read()
            # the kernel's own cache would answer the next reader
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        took = time.monotonic() - start
        right = hashlib.sha1(data).digest() == self.hashes[number]
        with self._lock:
            self.wrong += not right
            self.stalls += took > 1
            self.longest = max(self.longest, took)


def usage(folder):
    return int(proc.run("du", "-s", "--block-size=1", folder).out.split()[0])


def run(server, repo, limit, skewed):
    name = "zipf" if skewed else "uniform"
    total = sizes(TOTAL)
    hashes = [hashlib.sha1(random.Random(n).randbytes(size)).digest()
              for n, size in enumerate(total)]
    with Mount(server.url(repo), "--cache-size", f"{limit // MIB}M", log_level="warn") as mount:
        mount.idle()
        before = mount.stats()["objects_fetched"]    # trees
        trace = Trace(mount, hashes)
        threads = [threading.Thread(target=lambda mine=mine: [trace.read(n) for n in mine])
                   for mine in orders(len(total), skewed)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, usage(mount.cache))
            threads[0].join(0.05)
        took = time.monotonic() - start
        mount.idle()
        stats = mount.stats()
        most = max(most, usage(mount.cache))
    lru = Lru(limit)
    for number in trace.order:
        lru.read(number, total[number])
    reads = len(trace.order)
    fetched = stats["objects_fetched"] - before
    say(f"{name}.reads", "n", reads)
    say(f"{name}.read", "bytes", sum(total[n] for n in trace.order))
    say(f"{name}.took", "s", took)
    say(f"{name}.wrong", "n", trace.wrong)
    say(f"{name}.du-most", "bytes", most)
    say(f"{name}.du-most-of-limit", "1", most / limit)
    say(f"{name}.stalls-over-1s", "n", trace.stalls)
    say(f"{name}.longest-read", "s", trace.longest)
    say(f"{name}.fetched", "n", fetched)
    say(f"{name}.requests", "n", sum(stats["batches"].values()))
    say(f"{name}.dropped", "n", stats["cache_dropped"])
    hits, misses = (stats["latency_us"][kind]["count"] for kind in ("read_hit", "read_miss"))
    say(f"{name}.fetched-for-nothing", "%", 100 * (1 - misses / fetched))
    say(f"{name}.hit-rate", "%", 100 * hits / (hits + misses))    # of the kernel's requests
    say(f"{name}.hit-rate-lru", "%", 100 * lru.hits / reads)


TOTAL = int(sys.argv[1]) * MIB if len(sys.argv) > 1 else 1024 * MIB
LIMIT = int(sys.argv[2]) * MIB if len(sys.argv) > 2 else 64 * MIB


def main():
    proc.become_subreaper()
    repo = repository(TOTAL)
    with GitHttpServer() as server:
        server.add(repo, "o/limit")
        for skewed in (False, True):
            run(server, "o/limit", LIMIT, skewed)


if __name__ == "__main__":
    main()
