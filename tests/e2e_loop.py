#!/usr/bin/env python3
"""Mounts and unmounts in a loop: nothing grows. 10 times, 200 with XCPFS_LONG=1."""

import os

from e2e import env, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

TIMES = 200 if env.LONG else 10


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(repos.small())


@tap.limit(900 if env.LONG else 150)
def test_mount_read_unmount(t, w):
    cache, where = env.folder("cache"), env.folder("mnt")
    files, bad = [], []
    for _ in range(TIMES):
        mount = Mount(w.url, cache=cache, at=where)
        try:
            mount.start()
            if mount.read("dir/inner") != b"inner\n" or mount.unmount().rc:
                bad.append(mount.log()[-500:])
        finally:
            mount.clean_up()
        files.append(sum(len(names) for _, _, names in os.walk(cache)))
    t.equal(bad, [], f"mounts of {TIMES} that failed")
    t.equal(proc.program_children(), [], "processes left")
    t.equal(os.listdir(env.scratch() / "run" / "xcpfs")
            if (env.scratch() / "run" / "xcpfs").exists() else [], [], "control sockets left")
    t.at_most(files[-1], files[2] + 2, "files in the cache folder", files)


@tap.limit(900 if env.LONG else 150)
def test_one_daemon_under_use(t, w):
    """Descriptors, threads and memory of one daemon over many rounds of work."""
    mount = t.use(Mount(w.url))

    def round_of_work():
        for name in ("dir/inner", "file1", "dir/sub/leaf", "run.sh"):
            fd = os.open(mount.join(name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.read(fd, 1 << 20)
            os.close(fd)
        mount.list("dir")
        mount.status()
        mount.stats()
    for _ in range(TIMES):
        round_of_work()
    mount.idle()
    before = (proc.fd_count(mount.pid), proc.thread_count(mount.pid))
    memory = proc.status_field(mount.pid, "RssAnon")
    for _ in range(5 * TIMES):
        round_of_work()
    mount.idle()
    t.at_most(proc.fd_count(mount.pid), before[0] + 2, "descriptors")
    t.at_most(proc.thread_count(mount.pid), before[1] + 10, "threads")
    if env.sanitized():
        t.skip("memory does not grow", "sanitizers keep what was freed")
    else:
        t.at_most(proc.status_field(mount.pid, "RssAnon"), memory + 4096, "KiB of RssAnon")


tap.run([test_mount_read_unmount, test_one_daemon_under_use], World,
        needs=("program", "fuse", "lighttpd"))
