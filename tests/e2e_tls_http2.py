#!/usr/bin/env python3
"""https with HTTP/2 and a certificate authority of one's own, as curl users set it."""

from e2e import differential, proc, repos, tap, tls
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, expect_failure


class World:
    def __init__(self, t):
        self.authority = tls.Authority()
        self.server = t.use(GitHttpServer(self.authority))
        self.repo = repos.sources()
        self.url = self.server.add(self.repo)
        self.small = self.server.add(repos.small())


def test_a_tree_over_http2(t, w):
    start = w.server.mark()
    mount = t.use(Mount(w.url, environ={"CURL_CA_BUNDLE": w.authority.ca}))
    report = differential.compare(mount.path, repos.clone(w.repo))
    t.equal(report.differences, [], "differences")
    requests = w.server.requests(start, w.server.settle())
    t.equal({r.protocol for r in requests}, {"HTTP/2.0"}, "protocol of every request")
    t.at_most(len(requests), repos.folder_count(w.repo) + 10, "requests")


def test_other_ways_to_name_the_authority(t, w):
    for name in ("SSL_CERT_FILE", "GIT_SSL_CAINFO"):
        mount = t.use(Mount(w.small, environ={name: w.authority.ca}))
        t.equal(mount.read("dir/inner"), b"inner\n", f"a file read with {name}")


def test_an_unknown_authority_is_refused(t, w):
    start = w.server.mark()
    result = expect_failure(w.small)
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err.lower(), "certificate", "the message")
    t.contains(result.err, "127.0.0.1", "the message names the server")
    t.equal(w.server.count(start), 0, "requests")


def test_a_certificate_for_another_name_is_refused(t, w):
    elsewhere = w.small.replace("127.0.0.1", "127.0.0.1.nip.invalid")
    t.equal(expect_failure(elsewhere, environ={"CURL_CA_BUNDLE": w.authority.ca}).rc, 1,
            "exit code for a name that does not resolve")
    result = proc.run("getent", "hosts", "ip6-loopback")
    if result.rc:
        t.skip("another name", "no second name of the loopback interface")


tap.run([
    test_a_tree_over_http2,
    test_other_ways_to_name_the_authority,
    test_an_unknown_authority_is_refused,
    test_a_certificate_for_another_name_is_refused,
], World, needs=("program", "fuse", "lighttpd", "tls"))
