#!/usr/bin/env python3
"""Servers without filters, without object-info, and with protocol 0 only: one fetch of all."""

from e2e import differential, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount


class World:
    def __init__(self, t):
        self.repo = repos.sources()
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())


def one_fetch_of_all(t, w, how, **options):
    url = w.server.add(w.repo, f"{how.replace(' ', '-')}.git", **options)
    start = w.server.settle()
    mount = t.use(Mount(url))
    report = differential.compare(mount.path, w.clone, mtime=repos.COMMIT_TIME)
    t.equal(report.differences, [], f"{how}: differences")
    mount.idle()
    requests = w.server.requests(start, w.server.settle())
    fetches = [r for r in requests if r.kind in ("fetch", "v0-fetch")]
    t.equal(len(fetches), 1, f"{how}: fetches")
    t.equal({r.filter for r in requests}, {None}, f"{how}: filters asked for")
    t.at_most(len(requests), 3, f"{how}: requests")
    said = mount.result.err.strip().splitlines()
    t.equal(len(said), 1, f"{how}: lines that announce it")
    start = w.server.settle()
    mount.unmount()
    again = t.use(Mount(url, cache=mount.cache))
    t.equal(differential.compare(again.path, w.clone).differences, [], f"{how}: differences again")
    t.equal([r.kind for r in w.server.requests(start, w.server.settle()) if "fetch" in r.kind],
            [], f"{how}: fetches for a remount")


def test_without_filters(t, w):
    one_fetch_of_all(t, w, "no filter", filters=False, object_info=False)


def test_without_filters_but_with_sizes(t, w):
    one_fetch_of_all(t, w, "sizes only", filters=False, object_info=True)


def test_protocol_0(t, w):
    one_fetch_of_all(t, w, "protocol 0", v0=True)


def test_protocol_0_with_refs_and_ids(t, w):
    url = w.server.add(repos.refs(), "old.git", v0=True)
    for ref, content in (("v2-annotated", b"topic\n"), ("topic/with-slash", b"topic\n"),
                         (None, b"trunk\n"), ("v1-light", b"trunk\n"),
                         (repos.rev(repos.refs(), "refs/heads/trunk"), b"trunk\n")):
        mount = t.use(Mount(url, *(("--ref", ref) if ref else ())))
        t.equal(mount.read("which"), content, f"content of {ref}")


def test_sha256_with_protocol_0(t, w):
    url = w.server.add(repos.torture("sha256"), "sha256.git", v0=True)
    mount = t.use(Mount(url))
    t.equal(mount.read("deep/d0/d1/halfway"), b"two levels down\n", "a file")


tap.run([
    test_without_filters,
    test_without_filters_but_with_sizes,
    test_protocol_0,
    test_protocol_0_with_refs_and_ids,
    test_sha256_with_protocol_0,
], World, needs=("program", "fuse", "lighttpd"))
