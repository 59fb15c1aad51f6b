#!/usr/bin/env python3
"""The cache under a limit, without its index, looked after by hand, and shared with a container."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

from e2e import differential, env, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

MIB = 1 << 20
LIMIT = 16 * MIB


def noisy():
    """Forty megabytes that do not shrink, in files of all sizes, and some that do."""
    def make(path):
        rng = random.Random(5)
        files = {f"noise/{i:04}.bin".encode(): ("100644", rng.randbytes(
            rng.choice((2000, 30000, 70000, 400000)))) for i in range(320)}
        files |= {f"text/{i:04}.c".encode(): ("100644", repos.text(rng, 6000))
                  for i in range(400)}
        with repos.Importer(path) as importer:
            importer.commit("refs/heads/main", files)
    return repos.once("noisy.git", make)


class World:
    def __init__(self, t):
        self.repo = noisy()
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(self.repo)


def usage(cache):
    return int(proc.run("du", "-s", "--block-size=1", cache).out.split()[0])


def cache_verb(t, cache, *words, status=0):
    done = proc.xcpfs("cache", "--json", "-c", cache, *words)
    t.equal(done.rc, status, f"exit status of cache {words[0]}")
    return json.loads(done.out) if done.out.strip() else None


def test_the_limit(t, w):
    mount = t.use(Mount(w.url, "--cache-size", "16M"))
    most = 0

    def look(_):
        nonlocal most
        most = max(most, usage(mount.cache))
    walk = differential.Comparison(mount.path, w.clone, on_file=look)
    t.equal(walk.run().differences, [], "differences")
    mount.idle()
    look(None)
    t.at_most(most, LIMIT * 105 // 100, "bytes of the cache at any time")
    t.at_least(mount.stats()["cache_given_up"], 100, "records that made room")
    t.equal(mount.stats()["cache_faults"], 0, "faults")
    t.equal(mount.stats()["cache_bytes"] // MIB, usage(mount.cache) // MIB, "MiB in stats and du")
    info = cache_verb(t, mount.cache, "info")
    t.at_most(abs(info["disk_bytes"] - usage(mount.cache)), LIMIT // 20, "off in cache info")
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences again")


def test_the_index_is_lost(t, w):
    first = t.use(Mount(w.url))
    t.equal(differential.compare(first.path, w.clone).differences, [], "differences")
    first.idle()
    first.unmount()
    shutil.rmtree(Path(first.cache) / "v1" / "index")
    start = w.server.settle()
    second = t.use(Mount(w.url, cache=first.cache))
    t.equal(differential.compare(second.path, w.clone).differences, [], "differences")
    second.idle()
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content")
    second.unmount()
    found = cache_verb(t, first.cache, "verify", "--rebuild")
    t.equal(found["bad_objects"], 0, "bad objects")
    t.at_least(found["rebuilt_records"], 700, "records found again")
    w.cache = first.cache


def test_verify(t, w):
    found = cache_verb(t, w.cache, "verify")
    t.equal(found["bad_objects"], 0, "bad objects")
    t.at_least(found["objects"], 700, "objects")
    for segment in (Path(w.cache) / "v1" / "segments").iterdir():
        with open(segment, "r+b") as f:
            f.seek(os.path.getsize(segment) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 1]))
    found = cache_verb(t, w.cache, "verify", status=1)
    t.at_least(found["bad_objects"], 1, "bad objects after a flipped bit")
    mount = t.use(Mount(w.url, cache=w.cache))
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences")
    mount.idle()
    t.equal(mount.stats()["cache_faults"], 0, "faults: what was bad is forgotten")
    mount.unmount()
    t.equal(cache_verb(t, w.cache, "verify")["bad_objects"], 0, "bad objects at last")


def test_gc_under_a_mount(t, w):
    mount = t.use(Mount(w.url, cache=w.cache))
    before = usage(w.cache)
    freed = cache_verb(t, w.cache, "gc", "--to", "8M")["freed_bytes"]
    t.at_most(usage(w.cache), 8 * MIB * 105 // 100, "bytes after gc")
    t.at_most(abs(before - usage(w.cache) - freed), MIB, "off in freed_bytes")
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences")
    t.equal(mount.stats()["cache_faults"], 0, "faults")
    t.equal(cache_verb(t, w.cache, "gc", "--to", "8x", status=2), None, "output for a wrong size")


def test_no_cache_yet(t, _):
    nowhere = env.folder("empty") / "nowhere"
    t.equal(cache_verb(t, nowhere, "verify")["objects"], 0, "objects verified")
    t.equal(cache_verb(t, nowhere, "gc", "--to", "1M")["freed_bytes"], 0, "bytes freed")
    t.equal(cache_verb(t, nowhere, "info")["objects"], 0, "objects")


def test_a_container_finds_what_the_host_stored(t, w):
    host = t.use(Mount(w.url))
    t.equal(differential.compare(host.path, w.clone).differences, [], "differences")
    host.idle()
    start = w.server.settle()
    script = f"""set -e
{env.XCPFS} mount -c {host.cache} {w.url} "$1"
cat "$1"/noise/*.bin | sha256sum
{env.XCPFS} umount "$1"
"""
    at = env.folder("container")
    done = subprocess.run(["unshare", "-pf", "--mount-proc", "sh", "-c", script, "sh", str(at)],
                          capture_output=True, text=True, check=False, timeout=120)
    t.ok(done.returncode == 0, "the container ends well", done.returncode, done.stderr)
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content by it")
    own = subprocess.run(f"cat {w.clone}/noise/*.bin | sha256sum", shell=True, capture_output=True,
                         text=True, check=True)
    t.equal(done.stdout.split()[0], own.stdout.split()[0], "the sum of what it read")


def prefetch(t, w, cache, *words, status=0):
    done = proc.xcpfs("prefetch", "--json", "-c", cache, *words)
    t.equal(done.rc, status, f"exit status of prefetch {' '.join(words[1:])}")
    return json.loads(done.out) if done.out.strip() else done.err


def test_prefetch(t, w):
    cache = env.folder("prefetch")
    start = w.server.settle()
    dry = prefetch(t, w, cache, w.url, "--dry-run")
    t.equal((dry["files"], dry["files_missing"]), (720, 720), "files, and missing ones")
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content by a dry run")
    some = prefetch(t, w, cache, w.url, "text/0001.c", "text/0002.c")
    t.equal((some["files"], some["files_missing"]), (2, 0), "files below two paths")
    start = w.server.settle()
    whole = prefetch(t, w, cache, w.url)
    t.equal((whole["files"], whole["files_missing"], whole["files_failed"]), (720, 0, 0), "files")
    t.at_least(whole["files_cached_before"], 2, "files that were here")
    t.at_most(w.server.count(start, w.server.settle()), 12, "requests for everything")
    start = w.server.settle()
    again = prefetch(t, w, cache, w.url)
    t.equal(again["files_cached_before"], 720, "files that were here the second time")
    mount = t.use(Mount(w.url, cache=cache))
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences")
    mount.idle()
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content afterwards")


def test_pins(t, w):
    cache = env.folder("pins")
    limit = ("--cache-size", "24M")
    prefetch(t, w, cache, w.url, "--pin", *limit, "noise", status=1)    # too much of the limit
    prefetch(t, w, cache, w.url, "--pin", *limit, "text")
    t.equal(prefetch(t, w, cache, w.url, "--pin", "--dry-run", status=2)[:6], "xcpfs ", "a word")
    (pin,) = cache_verb(t, cache, "pins")["pins"]
    t.equal((pin["ref"], pin["path"], pin["objects_missing"]), ("HEAD", "text", 0), "the pin")
    t.at_least(pin["objects"], 402, "objects: commit, trees, files")
    mount = t.use(Mount(w.url, *limit, cache=cache))
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences")
    mount.idle()
    t.at_least(mount.stats()["cache_given_up"], 100, "records that made room")
    info = cache_verb(t, cache, "info")
    t.equal([p["path"] for p in info["pins"]], ["text"], "pins in info")
    t.equal(info["mounts"], 1, "mounts that use it")
    t.ok(0 <= info["hit_rate"] <= 1, "a hit rate")
    (share,) = info["repositories"]
    # a tree makes room, too: then nobody can tell what was below it
    t.equal(share["files"], 400 if share["directories_unseen"] else 720, "files of the repository")
    t.ok(400 <= share["files_cached"] <= share["files"], "files of it that are here", share)
    one = cache_verb(t, cache, "info", w.url)
    t.equal(one["files_cached"], share["files_cached"], "the same of the source alone")
    mount.unmount()
    offline = t.use(Mount(w.url, "--offline", *limit, cache=cache))
    walk = differential.Comparison(os.path.join(offline.path, "text"), w.clone / "text")
    t.equal(walk.run().differences, [], "differences below what is pinned, offline")
    offline.unmount()
    cache_verb(t, cache, "unpin", w.url, "noise", status=1)
    t.equal(cache_verb(t, cache, "unpin", w.url)["unpinned"], 1, "pins removed")
    t.equal(cache_verb(t, cache, "pins")["pins"], [], "pins that are left")
    pinned = cache_verb(t, cache, "pin", w.url, "text/0001.c", "text/0002.c")
    t.equal(pinned["objects_missing"], 0, "objects missing of two files")
    t.equal(len(cache_verb(t, cache, "pins")["pins"]), 2, "pins of two paths")
    cache_verb(t, cache, "pin", w.url, "text/nowhere", status=1)
    cache_verb(t, cache, "pin", status=2)
    cache_verb(t, cache, "gc", w.url, status=2)


def test_a_pinned_large_file(t, w):
    cache = env.folder("pin-large")
    url = w.server.add(repos.large(), "o/large")
    limit = ("--cache-size", "24M")
    prefetch(t, w, cache, url, "--pin", *limit, "8MiB.bin")
    (pin,) = cache_verb(t, cache, "pins")["pins"]
    t.equal((pin["path"], pin["objects_missing"]), ("8MiB.bin", 0), "the pin")
    t.at_least(pin["disk_bytes"], 8 * MIB, "bytes of it")
    mount = t.use(Mount(w.url, *limit, cache=cache))
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences of another")
    mount.idle()
    t.at_least(mount.stats()["cache_given_up"], 100, "records that made room")
    mount.unmount()
    offline = t.use(Mount(url, "--offline", *limit, cache=cache))
    want = (repos.clone(repos.large()) / "8MiB.bin").read_bytes()
    t.ok(offline.read("8MiB.bin") == want, "its bytes, offline")


def test_clear_of_one_source(t, w):
    cache = env.folder("clear")
    prefetch(t, w, cache, w.url)
    cache_verb(t, cache, "pin", w.url, "text/0001.c")
    before = usage(cache)
    cache_verb(t, cache, "clear", w.url + "-not", status=1)
    freed = cache_verb(t, cache, "clear", w.url)["freed_bytes"]
    t.at_least(freed, before // 2, "bytes freed")
    t.at_most(abs(before - usage(cache) - freed), MIB, "off in freed_bytes")
    share = cache_verb(t, cache, "info", w.url)
    t.equal(share["files_cached"], 1, "files that are still here: the pinned one")
    t.equal(prefetch(t, w, cache, w.url)["files_cached_before"], 1, "files here: the pinned one")
    mount = t.use(Mount(w.url, cache=cache))
    t.equal(differential.compare(mount.path, w.clone).differences, [], "differences")
    t.equal(mount.stats()["cache_faults"], 0, "faults")


def test_the_scope_of_sharing(t, w):
    cache = env.folder("scope")
    twin = w.server.add(w.repo, "o/twin")
    here = ("text/0001.c", "text/0002.c")
    scoped = ("--cache-scope", "repo")
    prefetch(t, w, cache, w.url, *here)
    t.equal(prefetch(t, w, cache, twin, *here)["files_cached_before"], 2, "of a twin: shared")
    t.equal(prefetch(t, w, cache, w.url, *scoped, *here)["files_cached_before"], 0, "not shared")
    t.equal(prefetch(t, w, cache, twin, *scoped, *here)["files_cached_before"], 0, "nor by a twin")
    t.equal(prefetch(t, w, cache, twin, *scoped, *here)["files_cached_before"], 2, "but by itself")
    host = ("--cache-scope", "host")
    t.equal(prefetch(t, w, cache, w.url, *host, *here)["files_cached_before"], 0, "by the host")
    t.equal(prefetch(t, w, cache, twin, *host, *here)["files_cached_before"], 2, "the host's twin")
    share = cache_verb(t, cache, "info", *scoped, twin)
    t.equal(share["files_cached"], 2, "files of the twin's own part")
    mount = t.use(Mount(twin, *scoped, cache=cache))
    dirs = sorted(p.name.split("-")[0] for p in Path(cache).iterdir())
    t.equal(dirs, ["host", "repo", "repo", "v1"], "folders in the cache")
    mount.unmount()
    prefetch(t, w, cache, w.url, "--cache-scope", "mine", status=2)


def test_prefetch_goes_wrong(t, w):
    cache = env.folder("prefetch-wrong")
    t.contains(prefetch(t, w, cache, w.url, "text/nowhere", status=1), "text/nowhere",
               "what the error says of a path")
    t.contains(prefetch(t, w, cache, w.url + "-not", status=1), "-not", "of a repository")
    prefetch(t, w, cache, status=2)
    prefetch(t, w, cache, w.url, "--cache-size", "3", status=2)


tap.run([
    test_the_limit,
    test_the_index_is_lost,
    test_verify,
    test_gc_under_a_mount,
    test_no_cache_yet,
    test_a_container_finds_what_the_host_stored,
    test_prefetch,
    test_pins,
    test_a_pinned_large_file,
    test_clear_of_one_source,
    test_the_scope_of_sharing,
    test_prefetch_goes_wrong,
], World, needs=("program", "fuse", "lighttpd"))
