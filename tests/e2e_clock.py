#!/usr/bin/env python3
"""A wall clock that is years off, or set back or forth between two mounts."""

import os

from e2e import differential, env, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

YEARS = 10 * 365 * 86400

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *out)
{
	int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	const char *off = getenv("E2E_CLOCK_OFF");
	int rc = real(id, out);
	if (rc == 0 && id == CLOCK_REALTIME && off)
		out->tv_sec += atol(off);
	return rc;
}
"""


class World:
    """A server, and a library that moves the program's wall clock."""

    def __init__(self, t):
        if env.sanitized():
            raise tap.Skip("a sanitizer wants to be the first library")
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(repos.small(), "r.git")
        self.clone = repos.clone(repos.small())
        folder = env.folder("shim")
        (folder / "shim.c").write_text(_SHIM)
        done = proc.run(*os.environ.get("CC", "cc").split(), "-shared", "-fPIC", "-o",
                        folder / "shim.so", folder / "shim.c", "-ldl")
        if done.rc:
            raise tap.Skip("no compiler for the shim: " + done.err[:200])
        self.shim = str(folder / "shim.so")

    def environ(self, off):
        return {"LD_PRELOAD": self.shim, "E2E_CLOCK_OFF": str(off)}


def check(t, mount, w, what):
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], f"{what}: differences")
    t.at_least(mount.stats()["uptime_s"], 0, f"{what}: uptime")
    t.at_most(mount.stats()["uptime_s"], 10000, f"{what}: uptime")
    t.equal(mount.unmount().rc, 0, f"{what}: umount")


def test_set_between_two_mounts(t, w):
    for first, second in ((YEARS, 0), (0, -YEARS), (-YEARS, 0), (0, YEARS)):
        what = f"{first // YEARS * 10:+} and then {second // YEARS * 10:+} years"
        mount = t.use(Mount(w.url, environ=w.environ(first)))
        check(t, mount, w, f"{what}: first")
        for options in (("--offline",), ()):
            again = t.use(Mount(w.url, *options, cache=mount.cache, environ=w.environ(second)))
            check(t, again, w, f"{what}: again {' '.join(options)}")


def test_the_shim_moves_the_clock(t, w):
    mount = t.use(Mount(w.url, environ=w.environ(YEARS)))
    here = os.stat(mount.cache).st_ctime
    t.at_least(mount.status()["started"] - here, YEARS - 86400, "seconds that it is off")


tap.run([
    test_the_shim_moves_the_clock,
    test_set_between_two_mounts,
], World, needs=("program", "fuse", "lighttpd"))
