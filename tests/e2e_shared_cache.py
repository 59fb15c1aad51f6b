#!/usr/bin/env python3
"""Two daemons on one cache folder: right bytes, few of them twice."""

import os
import random
import signal

from e2e import differential, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers


def many(t, w, count):
    """Mounts on one cache folder."""
    first = t.use(Mount(w.url))
    return [first] + [t.use(Mount(w.url, cache=first.cache)) for _ in range(count - 1)]


def read_all(w, mounts):
    """Each of them compares everything; not started yet."""
    return Readers([m.path for m in mounts],
                   lambda path: differential.compare(path, w.clone).differences)


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
    w.bytes = w.server.sent(start, w.server.settle())
    at_once(t, w, 2)


def at_once(t, w, count):
    start = w.server.settle()
    mounts = many(t, w, count)
    readers = read_all(w, mounts).start()
    t.equal(readers.join(), 0, "stuck readers")
    t.equal(readers.results, {m.path: [] for m in mounts}, f"differences of {count} at once")
    for mount in mounts:
        mount.idle()
    t.at_most(w.server.sent(start, w.server.settle()), w.bytes * 11 // 10,
              f"bytes for {count} on one cache")
    for mount in mounts:
        mount.unmount()


@tap.limit(200)
def test_four_at_once(t, w):
    at_once(t, w, 4)


@tap.limit(400)
def test_sixteen_at_once(t, w):
    at_once(t, w, 16)


@tap.limit(300)
def test_some_of_many_are_stopped_and_killed(t, w):
    rng = random.Random(7)
    mounts = many(t, w, 8)
    lives, frail = mounts[:4], mounts[4:]
    stopped, dead = [], []
    count = 0

    def on_file(_):
        """Each hundred files of the one that is followed: another one stands still for a while."""
        nonlocal count
        count += 1
        if count % 100 == 0:
            stopped.append(rng.choice([m for m in frail if m not in dead]))
            os.kill(stopped[-1].pid, signal.SIGSTOP)
        if count % 100 == 60 and stopped:
            os.kill(stopped[-1].pid, signal.SIGCONT)
            if len(stopped) in (3, 6):
                stopped[-1].kill()
                dead.append(stopped[-1])
    followed = differential.Comparison(lives[0].path, w.clone, on_file=on_file)
    readers = read_all(w, lives[1:]).start()
    others = read_all(w, frail).start()
    try:
        t.equal(followed.run().differences, [], "differences of the one that is followed")
    finally:
        for mount in frail:
            if mount not in dead:
                os.kill(mount.pid, signal.SIGCONT)
    t.equal(readers.join(), 0, "stuck readers of those that live")
    t.equal(readers.results, {m.path: [] for m in lives[1:]}, "differences of those that live")
    t.at_least(len(stopped), 6, "times that one was stopped")
    t.equal(len(dead), 2, "killed")
    t.equal(others.join(), 0, "stuck readers of the others")
    paths = [m.path for m in frail if m not in dead]
    t.equal([others.results.get(path) for path in paths], [[] for _ in paths],
            "differences of those that were only stopped")


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
    test_four_at_once,
    test_sixteen_at_once,
    test_some_of_many_are_stopped_and_killed,
    test_what_one_read_the_other_has,
    test_one_of_them_is_killed,
    test_one_of_them_is_stopped,
    test_the_folder_is_removed_between_mounts,
    test_several_repositories_in_one_cache,
], World, needs=("program", "fuse", "lighttpd"))
