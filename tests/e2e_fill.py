#!/usr/bin/env python3
"""--fill: what nobody asked for comes in the background, and gives way to who asks."""

import os

from e2e import differential, faults, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount


class World:
    def __init__(self, t):
        self.repo = repos.sources()
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())


def filled(mount):
    return mount.log_lines("parts of the tree seen to")


@tap.limit(200)
def test_the_rest_comes_by_itself(t, w):
    for object_info in (True, False):
        name = f"fill-{object_info}.git"
        mount = t.use(Mount(w.server.add(w.repo, name, object_info=object_info), "--fill"))
        proc.wait_until(lambda m=mount: filled(m), 120, "the tree to be filled")
        mount.idle()
        start = w.server.settle()
        report = differential.compare(mount.path, w.clone)
        t.equal(report.differences, [], f"{name}: differences")
        t.equal(w.server.contents(start, w.server.settle()), 0, f"{name}: requests for content")
        t.equal(mount.unmount().rc, 0, f"{name}: umount")


@tap.limit(200)
def test_without_it_nothing_comes(t, w):
    mount = t.use(Mount(w.server.add(w.repo, "plain.git")))
    start = w.server.settle()
    mount.list()
    mount.idle()
    t.equal(w.server.count(start, w.server.settle()), 0, "requests")
    t.equal(filled(mount), [], "lines about filling")


@tap.limit(200)
def test_a_reader_does_not_wait_for_it(t, w):
    server = t.use(faults.FaultServer())
    mount = t.use(Mount(server.add(w.repo), "--fill"))
    rule = server.rule(faults.stall(100), kind="content", times=1)
    t.ok(proc.wait_until(lambda: rule.gate.waiting, 60, fail=False), "the first piece stalls")
    path = sorted(repos.blobs(w.repo))[-1]
    t.ok(mount.read(path) == (w.clone / os.fsdecode(path)).read_bytes(), "a file meanwhile")
    rule.release()


@tap.limit(200)
def test_it_ends_with_the_mount(t, w):
    server = t.use(faults.FaultServer())
    mount = t.use(Mount(server.add(w.repo), "--fill"))
    rule = server.rule(faults.stall(100), kind="content")
    t.ok(proc.wait_until(lambda: rule.gate.waiting, 60, fail=False), "the first piece stalls")
    t.equal(mount.unmount().rc, 0, "umount")
    rule.release()


tap.run([
    test_the_rest_comes_by_itself,
    test_without_it_nothing_comes,
    test_a_reader_does_not_wait_for_it,
    test_it_ends_with_the_mount,
], World, needs=("program", "fuse", "lighttpd"))
