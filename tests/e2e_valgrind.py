#!/usr/bin/env python3
"""A whole mount, crawl and unmount under valgrind. Takes long: only with XCPFS_LONG=1."""

from e2e import differential, env, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

# Not the errors of libraries in code that is never reached at the end of a process.
VALGRIND = ("valgrind", "-q", "--error-exitcode=77", "--leak-check=full",
            "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite",
            "--child-silent-after-fork=yes")


def world(t):
    if not env.LONG:
        raise tap.Skip("takes long; XCPFS_LONG=1 runs it")
    if env.sanitized():
        raise tap.Skip("the program has sanitizers already")
    return t.use(GitHttpServer())


@tap.limit(900)
def test_mount_crawl_unmount(t, server):
    repo = repos.mixed()
    for options in ((), ("-o", "xattr")):
        mount = t.use(Mount(server.add(repo), *options, foreground=True, timeout=200,
                            under=VALGRIND))
        report = differential.compare(mount.path, repos.clone(repo))
        t.equal(report.differences, [], "differences")
        t.equal(mount.unmount().rc, 0, "umount")
        said = mount.process.stderr.read().decode(errors="replace").splitlines()
        rc = mount.process.wait(200)
        t.ok(rc == 0, f"exit code {rc} (77: errors or leaks)", *said[:60])


tap.run([test_mount_crawl_unmount], world,
        needs=("program", "fuse", "lighttpd", "valgrind"))
