#!/usr/bin/env python3
"""The daemon's own memory (RssAnon), the largest value over the whole run."""

from e2e import differential, env, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers

LIMIT_KIB = 64 << 10


class World:
    def __init__(self, t):
        if env.sanitized():
            raise tap.Skip("memory means nothing in a build with sanitizers")
        self.server = t.use(GitHttpServer())


@tap.limit(300)
def test_five_thousand_files(t, w):
    repo = repos.sources(5000, 300)
    mount = t.use(Mount(w.server.add(repo)))
    with proc.RssSampler(mount.pid) as memory:
        report = differential.compare(mount.path, repos.clone(repo))
        mount.idle()
    t.equal(report.differences, [], "differences")
    t.equal(report.files, 5000, "files read")
    t.at_least(memory.samples, 10, "samples")
    t.at_most(memory.max_kib, LIMIT_KIB, "KiB of RssAnon")


def test_a_large_file(t, w):
    repo = repos.large()
    url = w.server.add(repo)
    want = (repos.clone(repo) / "64MiB.bin").read_bytes()
    for how in ("fetched", "from the cache"):
        mount = t.use(Mount(url, cache=getattr(w, "cache", None)))
        w.cache = mount.cache
        with proc.RssSampler(mount.pid) as memory:
            t.ok(mount.read("64MiB.bin") == want, f"the bytes of 64 MiB {how}")
            mount.idle()
        t.at_most(memory.max_kib, LIMIT_KIB, f"KiB of RssAnon, 64 MiB {how}")
        mount.unmount()


def test_many_readers_of_large_files(t, w):
    repo = repos.large()
    mount = t.use(Mount(w.server.add(repo, "again.git")))
    with proc.RssSampler(mount.pid) as memory:
        readers = Readers([(n, name) for n in range(8)
                           for name in ("8MiB.bin", "1MiB.bin", "64MiB.bin")],
                          lambda item: len(mount.read(item[1]))).start()
        t.equal(readers.join(), 0, "stuck readers")
    t.equal(readers.errors, {}, "errors")
    t.at_most(memory.max_kib, 2 * LIMIT_KIB, "KiB of RssAnon, 24 readers of large files")


tap.run([test_five_thousand_files, test_a_large_file, test_many_readers_of_large_files], World,
        needs=("program", "fuse", "lighttpd"))
