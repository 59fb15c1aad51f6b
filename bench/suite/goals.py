"""The goals: what a result has to show, at 50 ms and 100 Mbit unless the row says otherwise."""

import operator
from dataclasses import dataclass

_HOLDS = {"<=": operator.le, "<": operator.lt}


@dataclass
class Goal:
    what: str
    name: str
    relation: str
    limit: float

    def verdict(self, result):
        value = result.median(self.name)
        if value is None:
            return "not measured"
        return "met" if _HOLDS[self.relation](value, self.limit) else "missed"


def _wan(what, name, relation, limit):
    return Goal(what, f"50ms-100mbit.{name}", relation, limit)


GOALS = [
    _wan("mount and ls, beside a blobless clone without files",
         "medium.mount-ls.cold.ratio-blobless", "<=", 0.90),
    _wan("mount and ls, beside clone --depth 1", "medium.mount-ls.cold.ratio-clone", "<", 0.25),
    _wan("first small file after the mount, in round trips", "medium.first-byte.cold.ratio-bare",
         "<=", 2.5),
    _wan("grep -r cold with the mount, beside clone --depth 1", "medium.grep.cold.ratio-clone",
         "<=", 1.0),
    _wan("its bytes", "medium.grep.cold.ratio-bytes-clone", "<=", 1.15),
    _wan("its requests", "medium.grep.cold.requests", "<=", 12),
    _wan("tar c cold with the mount, beside clone --depth 1", "medium.tar.cold.ratio-clone",
         "<=", 1.0),
    _wan("its bytes", "medium.tar.cold.ratio-bytes-clone", "<=", 1.15),
    _wan("its requests", "medium.tar.cold.requests", "<=", 12),
    _wan("ls -lR cold without object-info, beside clone --depth 1",
         "medium.ls-lR.cold.ratio-clone", "<=", 1.0),
    _wan("its requests", "medium.ls-lR.cold.requests", "<=", 12),
    _wan("ls -lR cold with object-info, beside clone --depth 1",
         "medium.ls-lR-sizes.cold.ratio-clone", "<=", 0.30),
    _wan("its requests after the mount's", "medium.ls-lR-sizes.after.requests", "<=", 2),
    _wan("a build cold with the mount, beside clone and build", "small.build.cold.ratio-clone",
         "<=", 1.0),
    _wan("the next tag after all was read: bytes beside git fetch --depth 1",
         "medium.next-tag.full.ratio-bytes-fetch", "<=", 1.3),
    _wan("the next tag after a part was read: bytes beside the changed blobs'",
         "medium.next-tag.part.ratio-bytes-changed", "<=", 1.1),
    _wan("rg hot, beside local disk", "medium.rg.hot.ratio-local", "<=", 1.25),
    _wan("find with stat hot, beside local disk", "medium.find-stat.hot.ratio-local", "<=", 1.8),
    _wan("a rebuild hot, beside local disk", "small.build.hot.ratio-local", "<=", 1.03),
    _wan("grep -r warm, beside local disk with the page cache dropped",
         "medium.grep.warm.ratio-local", "<=", 2.0),
    Goal("1 GiB in sequence at 100 ms and 1 Gbit, beside one curl",
         "100ms-1gbit.big.sequential-1GiB.cold.ratio-curl", "<=", 0.80),
    Goal("1 GiB in sequence at 0 ms, beside rclone's mount",
         "0ms-nolimit.big.sequential-1GiB.cold.ratio-rclone", "<=", 1 / 3),
    Goal("random 1 MiB reads at 100 ms and 1 Gbit: bytes fetched per byte read",
         "100ms-1gbit.big.random-1MiB.cold.per-byte", "<=", 2.0),
    Goal("the same with requests of 128 KiB", "100ms-1gbit.big.random-1MiB-user.cold.per-byte",
         "<=", 2.0),
    Goal("256 MiB in sequence with requests of 128 KiB, beside one curl",
         "100ms-1gbit.big.sequential-256MiB-user.cold.ratio-curl", "<=", 0.80),
    Goal("first byte of 1 GiB at 100 ms and 1 Gbit, in round trips",
         "100ms-1gbit.big.first-byte-1GiB.cold.round-trips", "<=", 3.0),
    _wan("RssAnon of a crawl of more than 50,000 files, KiB", "linux.memory.crawl.rss",
         "<", 128 << 10),
    _wan("memory for each file known, bytes", "linux.memory.stat.per-file", "<", 1200),
]
