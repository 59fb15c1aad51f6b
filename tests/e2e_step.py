#!/usr/bin/env python3
"""The next tag after one that was read: what did not change is not sent again."""

import os
import shutil
import subprocess
import zlib

from e2e import differential, env, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

CHANGED_EACH = 40                        # one file of so many


def next_tag(repo):
    """A copy with the tags v1 and v2: in v2 every so many files has a line more, one is new."""
    def make(path):
        shutil.copytree(repo, path, dirs_exist_ok=True)
        git = lambda *a, **k: env.git(*a, cwd=path, **k)      # noqa: E731
        index = dict(env={"GIT_INDEX_FILE": str(path / "index.step")})
        git("tag", "v1", "HEAD")
        git("read-tree", "HEAD", **index)
        for n, (name, (oid, _)) in enumerate(sorted(repos.blobs(path).items())):
            if n % CHANGED_EACH == 0 and is_file(git, name):
                old = git("cat-file", "blob", oid, text=False)
                new = git("hash-object", "-w", "--stdin", stdin=old + b"\na line more\n").strip()
                git("update-index", "--cacheinfo", f"100644,{new},{os.fsdecode(name)}", **index)
        new = git("hash-object", "-w", "--stdin", stdin=b"new in v2\n").strip()
        git("update-index", "--add", "--cacheinfo", f"100644,{new},new-in-v2", **index)
        tree = git("write-tree", **index).strip()
        commit = git("commit-tree", "-p", "HEAD", "-m", "v2", tree).strip()
        git("tag", "v2", commit)
        git("repack", "-q", "-a", "-d")
        (path / "index.step").unlink()
    return repos.once("step.git", make)


def is_file(git, name):
    return git("ls-tree", "HEAD", "--", os.fsdecode(name)).startswith("100")


class World:
    def __init__(self, t):
        self.repo = next_tag(repos.sources())
        self.v1 = repos.clone(self.repo, "v1")
        self.v2 = repos.clone(self.repo, "v2")
        self.server = t.use(GitHttpServer())

    def bytes_of_git(self, url):
        """What git fetch --depth 1 of v2 moves after v1."""
        folder = env.folder("git")
        env.git("init", "-q", ".", cwd=folder)
        env.git("fetch", "-q", "--depth", "1", url, "tag", "v1", cwd=folder)
        start = self.server.settle()
        env.git("fetch", "-q", "--depth", "1", url, "tag", "v2", cwd=folder)
        return self.server.sent(start, self.server.settle())


def read_v1(t, w, url, paths=None):
    """Mounts v1, reads it (all of it without paths), unmounts; gives the cache."""
    mount = t.use(Mount(url + "@v1"))
    if paths is None:
        report = differential.compare(mount.path, w.v1)
        t.equal(report.differences, [], "differences in v1")
    else:
        for path in paths:
            mount.read(path)
    mount.idle()
    t.equal(mount.unmount().rc, 0, "umount of v1")
    return mount.cache


@tap.limit(300)
def test_after_all_of_the_first_was_read(t, w):
    for object_info in (True, False):
        name = f"whole-{object_info}.git"
        url = w.server.add(w.repo, name, object_info=object_info)
        limit = w.bytes_of_git(url) * 1.3
        cache = read_v1(t, w, url)
        start = w.server.settle()
        mount = t.use(Mount(url + "@v2", cache=cache))
        report = differential.compare(mount.path, w.v2)
        t.equal(report.differences, [], f"{name}: differences in v2")
        mount.idle()
        end = w.server.settle()
        t.at_most(w.server.sent(start, end), limit, f"{name}: bytes, against git's own step")
        t.at_most(w.server.count(start, end, "fetch"), 1, f"{name}: requests for objects")


def test_after_parts_of_the_first_were_read(t, w):
    for object_info in (True, False):
        after_parts(t, w, f"parts-{object_info}.git", object_info)


def after_parts(t, w, name, object_info):
    url = w.server.add(w.repo, name, object_info=object_info)
    some = [p for n, p in enumerate(sorted(repos.blobs(w.repo, "v1"))) if n % 16 == 0]
    cache = read_v1(t, w, url, some)
    start = w.server.settle()
    mount = t.use(Mount(url + "@v2", cache=cache))
    mount.list()
    first = w.server.settle()
    t.equal(w.server.count(start, first, "fetch"), 1, "requests for the trees")
    before = repos.blobs(w.repo, "v1")
    after = repos.blobs(w.repo, "v2")
    t.ok([mount.read(p) for p in some] == [(w.v2 / os.fsdecode(p)).read_bytes() for p in some],
         "the bytes of v2")
    mount.idle()
    changed = [p for p in some if before[p] != after[p]]
    t.at_least(len(changed), 2, "changed files among them")
    end = w.server.settle()
    t.at_most(w.server.count(first, end), 2,
              f"{name}: requests: what was read before and has changed comes together")
    packed = sum(len(zlib.compress((w.v2 / os.fsdecode(p)).read_bytes(), 1))
                 for p in changed)        # the level that these repositories are packed with
    t.at_most(w.server.sent(first, end), packed * 1.1 + 1000,
              f"{name}: bytes, against the changed files'")


@tap.limit(300)
def test_a_cache_that_lost_its_content_is_no_trouble(t, w):
    """The deltas come without their bases: what cannot be made is asked for whole."""
    url = w.server.add(w.repo, "lost.git")
    cache = read_v1(t, w, url)
    segments = [p for p in subprocess.run(["find", cache, "-path", "*/segments/*", "-type", "f"],
                                          stdout=subprocess.PIPE, check=True,
                                          text=True).stdout.splitlines()]
    t.at_least(len(segments), 1, "segments")
    for path in segments:
        with open(path, "r+b") as file:
            file.truncate(4096)
    mount = t.use(Mount(url + "@v2", cache=cache))
    report = differential.compare(mount.path, w.v2)
    t.equal(report.differences, [], "differences in v2")


tap.run([
    test_after_all_of_the_first_was_read,
    test_after_parts_of_the_first_were_read,
    test_a_cache_that_lost_its_content_is_no_trouble,
], World, needs=("program", "fuse", "lighttpd"))
