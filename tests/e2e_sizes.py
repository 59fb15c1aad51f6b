#!/usr/bin/env python3
"""Sizes: never guessed, and cheap, on servers that tell them and on servers that do not."""

import mmap
import os

from e2e import proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers

LARGE = (1 << 20) - 1                    # what is above is surely above the program's limit


class World:
    def __init__(self, t):
        self.repo = repos.mixed()
        self.blobs = repos.blobs(self.repo)
        self.clone = repos.clone(self.repo)
        self.folders = repos.folder_count(self.repo)
        self.large = [p for p, (_, size) in self.blobs.items() if size > LARGE]
        self.server = t.use(GitHttpServer())
        self.urls = {"told": self.server.add(self.repo, "told.git"),
                     "not told": self.server.add(self.repo, "untold.git", object_info=False)}


def wrong_sizes(mount, w, paths=None):
    return [p for p in paths or w.blobs if mount.stat(p).st_size != w.blobs[p][1]]


def test_ls_of_one_folder_costs_one_request(t, w):
    for how, url in w.urls.items():
        mount = t.use(Mount(url))
        mount.list("d05")
        mount.idle()
        start = w.server.settle()
        t.equal(proc.run("ls", "-l", mount.path + "/d05").rc, 0, f"ls -l, sizes {how}")
        mount.idle()
        end = w.server.settle()
        t.at_most(w.server.count(start, end), 1, f"requests, sizes {how}",
                  *map(str, w.server.requests(start, end)))
        paths = [p for p in w.blobs if p.startswith(b"d05/")]
        t.equal(wrong_sizes(mount, w, paths), [], f"wrong sizes, sizes {how}")


def test_ls_of_a_folder_with_large_files(t, w):
    mount = t.use(Mount(w.urls["not told"]))
    mount.list("d03")
    mount.idle()
    start = w.server.settle()
    t.equal(proc.run("ls", "-l", mount.path + "/d03").rc, 0, "ls -l")
    mount.idle()
    end = w.server.settle()
    t.at_most(w.server.count(start, end), 1 + 2, "requests")
    t.equal(wrong_sizes(mount, w, [p for p in w.blobs if p.startswith(b"d03/")]), [],
            "wrong sizes")


def test_whole_tree(t, w):
    for how, url, limit in (("told", w.urls["told"], 2),
                            ("not told", w.urls["not told"], w.folders + len(w.large))):
        mount = t.use(Mount(url))
        start = w.server.settle()
        proc.run("ls", "-lR", mount.path)
        mount.idle()
        end = w.server.settle()
        t.at_most(w.server.count(start, end), limit, f"requests of ls -lR, sizes {how}")
        if how == "told":
            t.equal(w.server.contents(start, end), 0, "requests for content")
        t.equal(wrong_sizes(mount, w), [], f"wrong sizes, sizes {how}")


def test_sizes_are_remembered(t, w):
    first = t.use(Mount(w.urls["not told"]))
    proc.run("ls", "-lR", first.path)
    first.idle()
    first.unmount()
    second = t.use(Mount(w.urls["not told"], cache=first.cache))
    start = w.server.settle()
    t.equal(wrong_sizes(second, w), [], "wrong sizes after a remount")
    second.idle()
    t.equal(w.server.count(start, w.server.settle()), 0, "requests for sizes after a remount")


def test_a_map_without_stat_has_the_bytes(t, w):
    for how, url in w.urls.items():
        mount = t.use(Mount(url))
        path = mount.join("d01/f001")
        want = (w.clone / "d01/f001").read_bytes()
        # The program under test here is one that maps without asking for the size.
        got = proc.run("python3", "-c", _MAPS, path, str(len(want)))
        t.equal(got.out, want.hex(), f"bytes of a map without fstat, sizes {how}")
        fd = os.open(path, os.O_RDONLY)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as view:
            t.equal(view[:], want, f"bytes of a map with fstat, sizes {how}")
        os.close(fd)


_MAPS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
fd = os.open(sys.argv[1], os.O_RDONLY)
length = int(sys.argv[2])
at = libc.mmap(None, length, 1, 2, fd, 0)
sys.stdout.write(ctypes.string_at(at, length).hex())
"""


def test_many_ask_for_sizes_at_once(t, w):
    for how, url in w.urls.items():
        mount = t.use(Mount(url))
        start = w.server.settle()
        paths = [p for p in w.blobs if p not in w.large]
        readers = Readers(paths, lambda p, m=mount: m.stat(p).st_size, threads=64).start()
        t.equal(readers.join(), 0, f"stuck threads, sizes {how}")
        t.equal(readers.errors, {}, f"errors, sizes {how}")
        wrong = [p for p in paths if readers.results.get(p) != w.blobs[p][1]]
        t.equal(wrong, [], f"wrong sizes, sizes {how}")
        mount.idle()
        t.at_most(w.server.count(start, w.server.settle()), len(paths) // 20,
                  f"requests, sizes {how}")


def test_a_read_asks_for_the_size_first(t, w):
    """Otherwise two reads of one file at once could leave the kernel with the wrong end of it."""
    mount = t.use(Mount(w.server.add(repos.small(), "first.git")))
    fd = os.open(mount.join("dir/inner"), os.O_RDONLY)
    t.defer(os.close, fd)
    t.equal(os.read(fd, 1 << 20), b"inner\n", "the file, read without a stat")
    latency = mount.stats()["latency_us"]
    t.equal(latency["getattr"]["count"], 1, "sizes that the kernel asked for")
    t.equal(latency["read_hit"]["count"] + latency["read_miss"]["count"], 1,
            "reads: one, as long as the file")


tap.run([
    test_a_read_asks_for_the_size_first,
    test_ls_of_one_folder_costs_one_request,
    test_ls_of_a_folder_with_large_files,
    test_whole_tree,
    test_sizes_are_remembered,
    test_a_map_without_stat_has_the_bytes,
    test_many_ask_for_sizes_at_once,
], World, needs=("program", "fuse", "lighttpd"))
