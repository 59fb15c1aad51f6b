#!/usr/bin/env python3
"""Two daemons on one cache folder: right bytes, few of them twice."""

import os
import signal

from e2e import differential, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers


class World:
    def __init__(self, t):
        self.repo = repos.sources()
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(self.repo)


def test_two_at_once(t, w):
    start = w.server.settle()
    alone = t.use(Mount(w.url))
    t.equal(differential.compare(alone.path, w.clone).differences, [], "differences of one alone")
    alone.idle()
    middle = w.server.settle()
    one = t.use(Mount(w.url))
    two = t.use(Mount(w.url, cache=one.cache))
    both = Readers([one.path, two.path],
                   lambda path: differential.compare(path, w.clone).differences).start()
    t.equal(both.join(), 0, "stuck readers")
    t.equal(both.results, {one.path: [], two.path: []}, "differences of two at once")
    one.idle()
    two.idle()
    end = w.server.settle()
    t.at_most(w.server.sent(middle, end), w.server.sent(start, middle) * 11 // 10 + 4096,
              "bytes for two on one cache")
    w.cache = one.cache


def test_what_one_read_the_other_has(t, w):
    one = t.use(Mount(w.url))
    two = t.use(Mount(w.url, cache=one.cache))
    t.equal(differential.compare(one.path, w.clone).differences, [], "differences of the first")
    one.idle()
    start = w.server.settle()
    t.equal(differential.compare(two.path, w.clone).differences, [], "differences of the second")
    two.idle()
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content by the second")


def test_one_of_them_is_killed(t, w):
    one = t.use(Mount(w.url))
    two = t.use(Mount(w.url, cache=one.cache))
    count = [0]

    def on_file(_):
        count[0] += 1
        if count[0] == 100:
            two.kill()
    walk = differential.Comparison(one.path, w.clone, on_file=on_file)
    other = Readers([two.path], lambda p: differential.compare(p, w.clone)).start()
    t.equal(walk.run().differences, [], "differences of the one that lives")
    t.equal(other.join(), 0, "stuck readers of the one that was killed")


def test_one_of_them_is_stopped(t, w):
    one = t.use(Mount(w.url))
    two = t.use(Mount(w.url, cache=one.cache))
    count = [0]

    def on_file(_):
        count[0] += 1
        if count[0] == 100:
            os.kill(two.pid, signal.SIGSTOP)
    t.defer(os.kill, two.pid, signal.SIGCONT)
    other = Readers([two.path], lambda p: differential.compare(p, w.clone).differences).start()
    walk = differential.Comparison(one.path, w.clone, on_file=on_file)
    t.equal(walk.run().differences, [], "differences of the one that goes on")
    os.kill(two.pid, signal.SIGCONT)
    t.equal(other.join(), 0, "stuck readers of the one that was stopped")
    t.equal(other.results, {two.path: []}, "its differences")


def test_the_folder_is_removed_between_mounts(t, w):
    first = t.use(Mount(w.url))
    first.read("file0000.c")
    first.idle()
    first.unmount()
    proc.run("rm", "-rf", first.cache)
    second = t.use(Mount(w.url, cache=first.cache))
    t.equal(second.read("file0000.c"), (w.clone / "file0000.c").read_bytes(), "a file")
    t.equal(os.stat(first.cache).st_mode & 0o777, 0o700, "mode of the cache folder")


def test_several_repositories_in_one_cache(t, w):
    other = w.server.add(repos.small())
    one = t.use(Mount(w.url))
    two = t.use(Mount(other, cache=one.cache))
    t.equal(two.read("dir/inner"), b"inner\n", "a file of the second repository")
    t.equal(one.read("file0000.c"), (w.clone / "file0000.c").read_bytes(), "one of the first")


tap.run([
    test_two_at_once,
    test_what_one_read_the_other_has,
    test_one_of_them_is_killed,
    test_one_of_them_is_stopped,
    test_the_folder_is_removed_between_mounts,
    test_several_repositories_in_one_cache,
], World, needs=("program", "fuse", "lighttpd"))
