#!/usr/bin/env python3
"""A repository with everything a tree may hold, over plain http, against a clone of it."""

import hashlib
import mmap
import os
import subprocess

from e2e import differential, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers, read_whole


class World:
    def __init__(self, t):
        self.repo = repos.torture()
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(self.repo)
        self.mount = t.use(Mount(self.url))


@tap.limit(300)
def test_everything_is_as_in_the_clone(t, w):
    report = differential.compare(w.mount.path, w.clone, mtime=repos.COMMIT_TIME)
    t.equal(report.differences, [], "differences")
    t.equal(report.files, len(repos.blobs(w.repo)), "files compared")
    t.at_least(report.links, 8, "links compared")
    t.note(f"{w.server.by_kind()}")


def test_everything_again_costs_nothing(t, w):
    w.mount.idle()
    start = w.server.settle()
    report = differential.compare(w.mount.path, w.clone)
    t.equal(report.differences, [], "differences")
    t.equal([str(r) for r in w.server.requests(start, w.server.settle())], [], "requests")


def test_a_large_file_read_in_odd_ways(t, w):
    want = (w.clone / os.fsdecode(repos.BIG_FILE)).read_bytes()
    path = w.mount.join(repos.BIG_FILE)
    fd = os.open(path, os.O_RDONLY)
    t.defer(os.close, fd)
    size = len(want)
    for at, length in ((0, 1), (size - 1, 10), (size, 10), (4095, 2), (33 << 20, 3 << 20),
                       (size - 5000, 1 << 20), (1234567, 7654321)):
        t.ok(os.pread(fd, length, at) == want[at:at + length], f"pread of {length} at {at}")
    t.equal(os.lseek(fd, 100, os.SEEK_HOLE), size, "SEEK_HOLE")
    t.equal(os.lseek(fd, 100, os.SEEK_DATA), 100, "SEEK_DATA")
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as view:
        t.equal(hashlib.sha256(view).digest(), hashlib.sha256(want).digest(), "mmap of the whole")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    t.ok(read_whole(path) == want, "the whole again from the cache on disk")


def test_odd_places_on_a_cold_mount(t, w):
    mount = t.use(Mount(w.url))
    deep = b"deep/" + b"/".join(b"d%d" % n for n in range(100)) + b"/bottom"
    t.equal(mount.read(deep), b"a hundred levels down\n", "a file a hundred levels down")
    longest = "names/" + "é" * 127 + "z"
    t.equal(mount.read(longest), b"255 bytes, 128 characters\n", "a name of 255 bytes")
    t.equal(mount.read("empty"), b"", "the empty file")
    t.equal(os.readlink(mount.join("links/dangling")), b"no/such/file", "a dangling link")
    t.equal(mount.read("links/relative"), b"# torture\n", "through a relative link")
    t.equal(mount.list("sub"), [], "a gitlink is an empty folder")
    t.equal(len(mount.list("many")), 5000, "names in the large folder")
    t.raises(2, os.lstat, mount.join("no such file"))
    t.raises(2, os.lstat, mount.join("sub/nothing"))
    t.raises(20, os.lstat, mount.join("one/below"))
    t.raises(36, os.lstat, mount.join("n" * 256))
    t.raises(40, os.stat, mount.join("links/self"))
    done = subprocess.run([mount.join("script")], stdout=subprocess.PIPE, check=False)
    t.equal(done.stdout, b"hello\n", "running a script from the mount")
    t.raises(13, os.execv, mount.join("README.md"), ["x"])
    facts = os.statvfs(mount.path)
    t.equal(facts.f_namemax, 255, "statfs: longest name")
    t.at_least(facts.f_bsize, 512, "statfs: block size")
    t.ok(facts.f_flag & os.ST_RDONLY, "statfs: read-only")


def test_the_large_folder_by_many_threads(t, w):
    mount = t.use(Mount(w.url))
    names = [b"many/f%04d.txt" % n for n in range(0, 5000, 3)]
    readers = Readers(names, lambda name: mount.read(name), threads=64).start()
    t.equal(readers.join(), 0, "stuck threads")
    t.equal(readers.errors, {}, "errors")
    clone = os.fsencode(w.clone)
    wrong = [n for n in names if read_whole(os.path.join(clone, n)) != readers.results.get(n)]
    t.equal(wrong, [], "wrong bytes")


tap.run([
    test_everything_is_as_in_the_clone,
    test_everything_again_costs_nothing,
    test_a_large_file_read_in_odd_ways,
    test_odd_places_on_a_cold_mount,
    test_the_large_folder_by_many_threads,
], World, needs=("program", "fuse", "lighttpd"))
