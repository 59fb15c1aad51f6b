#!/usr/bin/env python3
"""The remote stopped and started again: what was read stays, what was not says why."""

from e2e import differential, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, expect_failure


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.repo = repos.small()
        self.clone = repos.clone(self.repo)
        self.url = self.server.add(self.repo, "r.git")


def stopped(t, w):
    w.server.stop()
    t.defer(lambda: w.server.stop() or w.server.start())


def test_a_second_mount_of_what_was_read(t, w):
    first = t.use(Mount(w.url))
    t.equal(differential.compare(first.path, w.clone).differences, [], "differences online")
    identity = {k: first.status()[k] for k in ("commit", "tree", "source")}
    inodes = {p: (first.stat(p).st_ino, first.stat(p).st_mtime) for p in repos.blobs(w.repo)}
    first.idle()
    first.unmount()
    stopped(t, w)
    second = t.use(Mount(w.url, "--timeout", "3", cache=first.cache))
    t.contains(second.result.err, "offline", "the mount says that it is offline")
    t.equal(differential.compare(second.path, w.clone).differences, [], "differences offline")
    t.equal({k: second.status()[k] for k in identity}, identity, "identity")
    t.equal({p: (second.stat(p).st_ino, second.stat(p).st_mtime) for p in inodes}, inodes,
            "inode numbers and times")


def test_a_file_that_was_never_read(t, w):
    mount = t.use(Mount(w.url, "--timeout", "3"))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file is read")
    mount.idle()
    stopped(t, w)
    t.equal(mount.read("dir/inner"), b"inner\n", "what was read is still there")
    before = mount.log()
    t.raises(5, mount.read, "dir/sub/leaf")
    lines = [line for line in mount.log()[len(before):].splitlines()
             if w.server.base in line and (" error " in line or " warn " in line)]
    t.ok(1 <= len(lines) <= 2 and "onnect" in lines[-1],
         "one log line says why, after one that says that it tries again",
         *mount.log()[len(before):].splitlines()[-15:])
    w.server.start()
    t.equal(mount.read("dir/sub/leaf"), b"leaf\n", "the file when the remote is back")


def test_the_offline_option(t, w):
    first = t.use(Mount(w.url))
    t.equal(differential.compare(first.path, w.clone).differences, [], "differences online")
    first.idle()
    first.unmount()
    start = w.server.settle()
    second = t.use(Mount(w.url, "--offline", cache=first.cache))
    t.equal(differential.compare(second.path, w.clone).differences, [], "differences")
    t.equal(w.server.count(start, w.server.settle()), 0, "requests with --offline")
    t.ok("offline" in str(second.status()).lower(), "status says so", second.status())


def test_the_offline_option_with_files_missing(t, w):
    first = t.use(Mount(w.url))
    first.list()
    first.list("dir")
    first.idle()
    first.unmount()
    start = w.server.settle()
    second = t.use(Mount(w.url, "--offline", cache=first.cache))
    t.raises(5, second.read, "dir/sub/leaf")
    t.equal(w.server.count(start, w.server.settle()), 0, "requests with --offline")


def test_offline_and_never_mounted(t, w):
    for option in ((), ("--offline",)):
        if not option:
            stopped(t, w)
        result = expect_failure(w.url, "--timeout", "2", *option)
        t.equal(result.rc, 1, f"exit code {option}")
        t.contains(result.err, w.url, f"message {option}")


def test_another_ref_offline(t, w):
    commit = repos.rev(w.repo)
    first = t.use(Mount(w.url))
    t.equal(first.read("dir/inner"), b"inner\n", "online")
    first.idle()
    first.unmount()
    stopped(t, w)
    second = t.use(Mount(w.url, "--ref", commit, "--timeout", "3", cache=first.cache))
    t.equal(second.read("dir/inner"), b"inner\n", "the same commit by its id")
    result = expect_failure(w.url, "--ref", "other", "--timeout", "2", cache=first.cache)
    t.equal(result.rc, 1, "a ref that was never resolved")


def test_back_while_a_reader_waits(t, w):
    mount = t.use(Mount(w.url, "--timeout", "20"))
    mount.list("dir")
    mount.idle()
    w.server.stop()
    from e2e.mounts import Readers
    reader = Readers(["dir/inner"], mount.read).start()
    proc.wait_until(lambda: mount.stats()["flights"] > 0 or reader.results or reader.errors, 20,
                    "the read to be on its way")
    w.server.start()
    t.equal(reader.join(60), 0, "stuck readers")
    t.equal(reader.results, {"dir/inner": b"inner\n"}, "the read is answered when it is back")


tap.run([
    test_a_second_mount_of_what_was_read,
    test_a_file_that_was_never_read,
    test_the_offline_option,
    test_the_offline_option_with_files_missing,
    test_offline_and_never_mounted,
    test_another_ref_offline,
    test_back_while_a_reader_waits,
], World, needs=("program", "fuse", "lighttpd"))
