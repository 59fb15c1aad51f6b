#!/usr/bin/env python3
"""kill -9 of the daemon in the middle of a crawl, and everything right afterwards."""

import os
import threading

from e2e import differential, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount


class World:
    def __init__(self, t):
        self.repo = repos.sources()
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(self.repo)


def crawl_until_killed(mount, clone, files):
    """Compares from another thread and kills the daemon when so many files were read."""
    reached = threading.Event()

    def on_file(report):
        if report.files == files:
            reached.set()
    walk = differential.Comparison(mount.path, clone, on_file=on_file)

    def crawl():
        try:
            walk.run()
        except OSError:
            pass
    thread = threading.Thread(target=crawl, daemon=True)
    thread.start()
    proc.wait_until(reached.is_set, 60, f"{files} files to be read")
    mount.kill()
    thread.join(60)
    return walk.report, thread.is_alive()


@tap.limit(300)
def test_killed_in_the_middle_of_a_crawl(t, w):
    mount = Mount(w.url)
    t.defer(mount.clean_up)
    mount.start()
    for files in (1, 40, 400, 1000):
        report, stuck = crawl_until_killed(mount, w.clone, files)
        t.ok(not stuck, f"the crawler ends when the daemon is killed at {files} files")
        t.equal([d for d in report.differences if "differ" in d], [], "wrong bytes before it")
        # The next mount cleans up after the dead one.
        mount = Mount(w.url, cache=mount.cache, at=mount.path)
        t.defer(mount.clean_up)
        mount.start()
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], "differences after four kills")
    t.equal(report.files, len(repos.blobs(w.repo)), "files compared")
    t.equal(mount.unmount().rc, 0, "umount")
    start = w.server.settle()
    mount = t.use(Mount(w.url, cache=mount.cache))
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], "differences after a remount")
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content")


def test_killed_while_it_writes_a_large_file(t, _):
    repo = repos.large()
    server = t.use(GitHttpServer())
    url = server.add(repo)
    mount = Mount(url)
    t.defer(mount.clean_up)
    mount.start()
    fd = os.open(mount.join("64MiB.bin"), os.O_RDONLY)
    reader = threading.Thread(target=_read_ignoring_errors, args=(fd,), daemon=True)
    reader.start()
    proc.wait_until(lambda: cache_bytes(mount.cache) > 1 << 20 or not reader.is_alive(), 60,
                    "bytes in the cache")
    mount.kill()
    reader.join(30)
    t.ok(not reader.is_alive(), "the reader ends")
    try:
        os.close(fd)
    except OSError:
        pass                                            # the connection is gone
    mount = Mount(url, cache=mount.cache, at=mount.path)
    t.defer(mount.clean_up)
    mount.start()
    report = differential.compare(mount.path, repos.clone(repo))
    t.equal(report.differences, [], "differences")


def cache_bytes(folder):
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total


def _read_ignoring_errors(fd):
    try:
        while os.read(fd, 1 << 20):
            pass
    except OSError:
        pass


tap.run([
    test_killed_in_the_middle_of_a_crawl,
    test_killed_while_it_writes_a_large_file,
], World, needs=("program", "fuse", "lighttpd"))
