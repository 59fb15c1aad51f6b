#!/usr/bin/env python3
"""Large files in parts: by ranges of a host's raw URLs, and by the stream of their own pack."""

import mmap
import os
import random
import subprocess
from pathlib import Path

from e2e import env, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers

MIB = repos.MIB
BIG, OTHER = "64MiB.bin", "8MiB.bin"
BLOCK = 128 << 10              # of a large file, as it is kept
SLACK = 64 << 10                # headers, and what is no content


def many():
    """32 files of 3 MiB, in a folder."""
    def make(path):
        rng = random.Random(32)
        with repos.Importer(path) as repo:
            repo.commit("refs/heads/main", {
                b"dir/file%02d" % n: ("100644", rng.randbytes(3 * MIB + n)) for n in range(32)})
    return repos.once("many-large.git", make)


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.repo = repos.large()
        self.server.add(self.repo, "o/large")
        self.raw = self.server.publish(self.repo, "o/large")
        clone = repos.clone(self.repo)
        self.want = {name: (clone / name).read_bytes() for name in (BIG, OTHER)}
        self.config = env.folder("config") / "config"
        self.config.write_text(self.server.host())

    def mount(self, t, way, *options, repo="o/large", **how):
        """way: "range" (the host has raw URLs) or "stream" (git alone)."""
        if way == "range":
            return t.use(Mount(f"forge:{repo}", "--config", self.config, *options, **how))
        return t.use(Mount(self.server.url(repo), *options, **how))


def pread(mount, name, length, off):
    """One read of a program that reads at random."""
    with open(mount.join(name), "rb", buffering=0) as file:
        return os.pread(file.fileno(), length, off)


def raw(result):
    """The bytes that a command wrote."""
    return result.out.encode(errors="surrogateescape")


def wait_whole(mount, name):
    path = os.path.join(mount.path, name)
    proc.wait_until(lambda: mount.status(path)["cached"], 30, f"{name} to be in the cache")


def packs():
    """One tells the size and then the bytes, but for a reader that comes too late for that."""
    return 1 if env.patience() == 1 else 2


def received(mount):
    return mount.stats()["bytes_received"]


def in_small_requests(mount):
    """What an ordinary user gets: requests of 128 KiB."""
    dev = os.stat(mount.path).st_dev
    path = Path(f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}/read_ahead_kb")
    path.write_text("128\n")


@tap.limit(200)
def test_the_first_bytes_come_without_the_rest(t, w):
    for way in ("range", "stream"):
        mount = w.mount(t, way)
        os.stat(mount.join(BIG))
        before = received(mount)
        result = proc.run("head", "-c", "100", mount.join(BIG))
        t.ok(raw(result) == w.want[BIG][:100], f"{way}: the first 100 bytes")
        t.at_most(received(mount) - before, 2 * MIB, f"{way}: bytes that came for them")
        kind = mount.stats()["batches"]
        t.at_most(kind["large"] + kind["objects"], packs(),
                  f"{way}: packs for its size and its bytes")
        t.at_most(kind["ranges"], 8 if way == "range" else 0, f"{way}: ranges")
        mount.unmount()


@tap.limit(300)
def test_a_whole_file_from_end_to_end(t, w):
    for way in ("range", "stream"):
        mount = w.mount(t, way)
        before = received(mount)
        t.ok(mount.read(BIG) == w.want[BIG], f"{way}: the bytes")
        again = mount.stats()["cache_dropped"] * BLOCK    # no room: it is asked for once more
        if env.patience() > 1:
            again += 1 * MIB    # a reader so slow that a stream is let go, and begins again
        mount.idle()    # a call's bytes are counted when it has ended
        came = received(mount) - before
        t.at_least(came, len(w.want[BIG]), f"{way}: each byte came")
        t.at_most(came, len(w.want[BIG]) * 1.01 + SLACK + again, f"{way}: each byte came once")
        wait_whole(mount, BIG)
        mount.unmount()
        offline = w.mount(t, way, "--offline", cache=mount.cache)
        t.ok(offline.read(BIG) == w.want[BIG], f"{way}: the bytes from the cache alone")
        offline.unmount()


@tap.limit(400)
def test_several_mounts_at_once_bring_each_byte_once(t, w):
    for way in ("range", "stream"):
        first = w.mount(t, way)
        mounts = [first] + [w.mount(t, way, cache=first.cache) for _ in range(3)]
        for mount in mounts:
            os.stat(mount.join(BIG))
        start = w.server.settle()    # the packs that told its size are given up
        readers = Readers([m.path for m in mounts],
                          lambda path: Path(path, BIG).read_bytes() == w.want[BIG]).start()
        t.equal(readers.join(), 0, f"{way}: stuck readers")
        t.equal(readers.results, {m.path: True for m in mounts}, f"{way}: the bytes are right")
        for mount in mounts:
            mount.idle()
        most = len(w.want[BIG]) * 11 // 10 + len(mounts) * SLACK
        if env.patience() > 1 or any(mount.stats()["cache_dropped"] for mount in mounts):
            # Too slow to be waited for, or a block that the cache had no room for is missing.
            most = len(w.want[BIG]) * len(mounts) + len(mounts) * SLACK
        t.at_most(w.server.sent(start, w.server.settle()), most, f"{way}: bytes for all of them")
        for mount in mounts:
            mount.unmount()


@tap.limit(200)
def test_random_reads_bring_little_more_than_they_ask_for(t, w):
    for small in (False, True):
        mount = w.mount(t, "range")
        if small:
            in_small_requests(mount)
        os.stat(mount.join(BIG))
        w.server.settle()    # the pack that told its size is given up, and may still be on its way
        rng = random.Random(1)
        spots = [4 * MIB * n + rng.randrange(MIB) for n in range(1, 15)]
        rng.shuffle(spots)
        before = received(mount)
        for off in spots:
            t.ok(pread(mount, BIG, MIB, off) == w.want[BIG][off:off + MIB], f"1 MiB at {off}")
        t.at_most(received(mount) - before, 2 * MIB * len(spots),
                  f"bytes for {len(spots)} MiB in requests of {'128 KiB' if small else '1 MiB'}")
        mount.unmount()


@tap.limit(200)
def test_programs_that_look_here_and_there(t, w):
    data = w.want[BIG]
    for way in ("range", "stream"):
        mount = w.mount(t, way)
        path = mount.join(BIG)
        result = proc.run("tail", "-c", "1000", path)
        t.ok(raw(result) == data[-1000:], f"{way}: tail")
        result = proc.run("head", "-c", "3000000", path)
        t.ok(raw(result) == data[:3000000], f"{way}: head")
        with open(path, "rb") as file, \
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            for off in (40 * MIB, 5, len(data) - 1, 20 * MIB + 77, 40 * MIB - 3):
                t.ok(view[off:off + 9] == data[off:off + 9], f"{way}: mapped at {off}")
        with open(path, "rb") as file:
            for off in (MIB, 0, 3 * MIB, 2 * MIB, 9 * MIB, 8 * MIB, 100):
                file.seek(off)
                t.ok(file.read(50000) == data[off:off + 50000], f"{way}: to and fro, {off}")
        other = repos.clone(w.repo) / OTHER
        t.equal(proc.run("cmp", mount.join(OTHER), other).rc, 0, f"{way}: cmp")
        t.equal(proc.run("cmp", path, mount.join(OTHER)).rc, 1, f"{way}: cmp of two large files")
        mount.unmount()


@tap.limit(200)
def test_wrong_bytes_are_withdrawn(t, w):
    server = t.use(GitHttpServer())
    server.add(w.repo, "o/large")
    wrong = server.publish(w.repo, "o/large") / OTHER
    with open(wrong, "r+b") as file:
        file.seek(8 * MIB - 10)
        file.write(b"not right")
    config = env.folder("config") / "config"
    config.write_text(server.host())
    mount = t.use(Mount("forge:o/large", "--config", config))
    data = w.want[OTHER]
    with open(mount.join(OTHER), "rb", buffering=0) as file:
        t.ok(os.pread(file.fileno(), MIB, 0) == data[:MIB], "the part that is right")
        for off in range(MIB, 8 * MIB, MIB):       # the last of them, nobody can judge
            try:
                os.pread(file.fileno(), MIB, off)
            except OSError:
                pass
        proc.wait_until(lambda: mount.log_lines("its bytes are not"), 20, "the log to say so")

        def healed():
            try:
                return os.pread(file.fileno(), MIB, 7 * MIB) == data[7 * MIB:]
            except OSError:
                return False
        proc.wait_until(healed, 20, "the right bytes, in a file that was open all the time")
    t.ok(mount.read(OTHER) == data, "all of it")
    wait_whole(mount, OTHER)
    mount.unmount()
    server.stop()
    offline = t.use(Mount("forge:o/large", "--config", config, "--offline", cache=mount.cache))
    t.ok(offline.read(OTHER) == data, "and from the cache alone")


def test_without_raw_files_git_streams(t, w):
    server = t.use(GitHttpServer())
    server.add(w.repo, "o/large")
    config = env.folder("config") / "config"
    config.write_text(server.host())
    mount = t.use(Mount("forge:o/large", "--config", config))
    t.ok(mount.read(OTHER) == w.want[OTHER], "the bytes")
    kind = mount.stats()["batches"]
    t.at_most(kind["large"] + kind["objects"], packs(), "packs for its size and its bytes")
    t.ok(mount.log_lines("cannot be had in parts"), "the log says why")
    asked = mount.stats()["requests"]["range"]
    t.ok(mount.read(BIG)[:1000] == w.want[BIG][:1000], "another file")
    t.equal(mount.stats()["requests"]["range"], asked, "it did not try again")


def test_a_subdirectory_and_strange_names(t, w):
    name = b"odd ?#%41 \xc3\xbcml\xc3\xa4ut"

    def make(path):
        with repos.Importer(path) as repo:
            repo.commit("refs/heads/main", {
                b"a/b c/" + name: ("100644", random.Random(3).randbytes(2 * MIB))})
    repo = repos.once("odd-large.git", make)
    w.server.add(repo, "o/odd")
    w.server.publish(repo, "o/odd")
    mount = w.mount(t, "range", "--subdir", "a/./b c/", repo="o/odd")
    t.ok(mount.read(name) == random.Random(3).randbytes(2 * MIB), "the bytes")
    t.equal(mount.stats()["batches"]["large"], 0, "streams")
    t.at_least(mount.stats()["batches"]["ranges"], 2, "ranges")


@tap.limit(300)
def test_many_readers_stay_within_their_memory(t, w):
    repo = many()
    w.server.add(repo, "o/many")
    w.server.publish(repo, "o/many")
    clone = repos.clone(repo)
    names = [f"dir/file{n:02}" for n in range(32)]
    for way in ("range", "stream"):
        mount = w.mount(t, way, "--memory", "32M", repo="o/many")
        with proc.RssSampler(mount.pid) as memory:
            readers = Readers(names, mount.read).start()
            t.equal(readers.join(200), 0, f"{way}: stuck readers")
        t.equal(readers.errors, {}, f"{way}: errors")
        wrong = [n for n in names if readers.results[n] != (clone / n).read_bytes()]
        t.equal(wrong, [], f"{way}: files with wrong bytes")
        if not env.sanitized():
            t.at_most(memory.max_kib, 64 << 10, f"{way}: KiB of RssAnon")
        mount.unmount()


def test_a_reader_that_is_killed_leaves_the_rest_alone(t, w):
    mount = w.mount(t, "stream")
    os.stat(mount.join(BIG))
    with subprocess.Popen(["sh", "-c", 'cat "$1" | (head -c 100000; sleep 100)', "sh",
                           mount.join(BIG)], stdout=subprocess.PIPE,
                          start_new_session=True) as reader:
        t.ok(reader.stdout.read(100000) == w.want[BIG][:100000], "what was read")
        os.killpg(reader.pid, 9)
    proc.wait_until(lambda: not mount.stats()["flights"], 30, "the stream to end")
    t.at_most(received(mount), 8 * MIB, "bytes that came")


tap.run([
    test_the_first_bytes_come_without_the_rest,
    test_a_whole_file_from_end_to_end,
    test_several_mounts_at_once_bring_each_byte_once,
    test_random_reads_bring_little_more_than_they_ask_for,
    test_programs_that_look_here_and_there,
    test_wrong_bytes_are_withdrawn,
    test_without_raw_files_git_streams,
    test_a_subdirectory_and_strange_names,
    test_many_readers_stay_within_their_memory,
    test_a_reader_that_is_killed_leaves_the_rest_alone,
], World, needs=("program", "fuse", "lighttpd"))
