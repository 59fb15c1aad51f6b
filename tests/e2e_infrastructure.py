#!/usr/bin/env python3
"""The servers, repositories and logs the other stories rely on, checked with git and curl."""

import os

from e2e import env, faults, proc, repos, sshd, tap, tls
from e2e.lighttpd import PASSWORD, USER, GitHttpServer


def world(t):
    return t.use(GitHttpServer())


def clone(url, *options, **environ):
    where = env.folder("clone") / "to"
    result = proc.run("git", "clone", "-q", *options, url, where, env=env.clean(**environ))
    result.where = where
    return result


def test_requests_are_counted_and_told_apart(t, server):
    url = server.add(repos.small())
    start = server.mark()
    result = clone(url, "--depth=1", "--filter=blob:none", "--no-checkout")
    t.equal(result.rc, 0, "clone without content")
    middle = server.settle()
    t.equal(server.by_kind(start, middle), {"caps": 1, "ls-refs": 1, "fetch": 1}, "kinds")
    t.equal(server.contents(start, middle), 0, "no content was sent")
    proc.run("git", "checkout", "-q", "HEAD", cwd=result.where)
    end = server.settle()
    t.equal(server.contents(middle, end), 1, "one request of a checkout has content")
    fetch = [r for r in server.requests(middle, end) if r.content][0]
    t.equal(set(fetch.types), {"blob"}, "types of its wants")
    t.at_least(server.sent(middle, end), 500, "bytes sent")
    t.equal({r.git_protocol for r in server.requests(start, end)}, {"version=2"}, "protocol")


def test_repositories_have_settings_of_their_own(t, server):
    plain = server.add(repos.small(), "plain.git", filters=False, object_info=False)
    full = server.add(repos.small(), "full.git")
    old = server.add(repos.small(), "old.git", v0=True)
    for url, words, lacks in ((plain, "fetch=shallow", "filter"), (full, "filter", "symref="),
                              (old, "symref=", "version 2")):
        got = proc.run("curl", "-s", "-H", "Git-Protocol: version=2", "--output", "-",
                       url + "/info/refs?service=git-upload-pack").out.replace("\0", " ")
        t.contains(got, words, f"{url[-9:]} advertises {words}")
        t.lacks(got, lacks, f"{url[-9:]} does not advertise {lacks}")
        t.equal("object-info" in got, url == full, f"{url[-9:]} and object-info")


def test_password_and_redirect(t, server):
    server.add(repos.small())
    closed = server.url("small-12.git.v4".replace("v4", _version()), "auth")
    t.differ(clone(closed).rc, 0, "no clone without password")
    start = server.mark()
    t.equal(clone(closed.replace("//", f"//{USER}:{PASSWORD}@")).rc, 0, "clone with password")
    t.ok(any(r.authorized for r in server.requests(start)), "the log shows who was authorized")
    t.equal(clone(closed.replace("/auth/", "/moved/")).rc, 0, "clone through a redirect")


def _version():
    return repos.small().name.rpartition(".")[2]


def test_stop_and_start_keep_the_port(t, server):
    url = server.add(repos.small(), "again.git")
    server.stop()
    t.equal(proc.run("curl", "-s", url).rc, 7, "refused while stopped")
    server.start()
    t.equal(clone(url).rc, 0, "clone after the start")


def test_tls_with_http2(t, _):
    authority = tls.Authority()
    server = t.use(GitHttpServer(authority))
    url = server.add(repos.small())
    t.equal(clone(url, GIT_SSL_CAINFO=authority.ca).rc, 0, "clone")
    t.equal({r.protocol for r in server.requests()}, {"HTTP/2.0"}, "protocol")


def test_sshd(t, _):
    server = t.use(sshd.Sshd())
    environ = server.environ()
    for url in (server.url(repos.small()), server.scp_style(repos.small())):
        result = clone(url, **environ)
        t.equal(result.rc, 0, f"clone {url.partition(':')[0]} {result.err}")
    t.equal(len(server.commands()), 2, "calls of ssh seen")
    result = proc.run("git", "-c", "protocol.version=2", "ls-remote", server.url(repos.small()),
                      env=env.clean(GIT_TRACE_PACKET="1", **environ))
    t.lacks(result.err, "version 2", "a plain Debian sshd passes no GIT_PROTOCOL on")


def test_faults_seen_by_git(t, _):
    server = t.use(faults.FaultServer())
    url = server.add(repos.small(), "f.git")
    t.equal(clone(url).rc, 0, "clone without a fault")
    t.equal([r.kind for r in server.requests], ["caps", "ls-refs", "fetch"], "what it asked for")
    for action, words in (
            (faults.reset_in_header(), "fail"), (faults.reset_in_body(300), ""),
            (faults.short_body(300), ""), (faults.truncate_pack(-40), ""),
            (faults.flip_byte(-10), ""), (faults.err_line("e2e says no"), "e2e says no"),
            (faults.sideband_error("e2e band 3"), "e2e band 3"), (faults.empty_body(), ""),
            (faults.status(403), "403"), (faults.status(404), "404"),
            (faults.status(429, ("Retry-After", "1")), "429"), (faults.status(500), "500"),
            (faults.html(), "")):
        rule = server.rule(action, kind="fetch")
        result = clone(url)
        rule.release()
        t.ok(result.rc and words in result.err, f"{action.__name__} fails a clone", result)
        t.equal(rule.hits, 1, f"{action.__name__} was met once")
    t.equal(clone(url).rc, 0, "clone after all rules were released")


def test_stall_and_release(t, _):
    server = t.use(faults.FaultServer())
    url = server.add(repos.small(), "f.git")
    rule = server.rule(faults.stall(10), kind="fetch")
    import threading
    results = []
    thread = threading.Thread(target=lambda: results.append(clone(url)))
    thread.start()
    proc.wait_until(lambda: rule.gate.waiting == 1, 20, "the clone to stall")
    t.equal(results, [], "the clone waits")
    rule.release()
    thread.join()
    t.equal(results[0].rc, 0, "the clone ends well")


def test_down_and_redirect_elsewhere(t, _):
    server = t.use(faults.FaultServer())
    other = t.use(faults.FaultServer("127.0.0.2"))
    server.add(repos.small(), "f.git")
    other.add(repos.small(), "f.git")
    server.rule(faults.redirect(f"http://127.0.0.2:{other.port}"), kind="caps")
    url = server.url("f.git").replace("//", "//user:secret@")
    t.equal(clone(url).rc, 0, "git follows the redirect")
    t.equal(len(other.requests), 3, "the other host was asked")
    server.down()
    t.equal(proc.run("curl", "-s", url).rc, 7, "refused while down")
    server.up()
    t.equal(proc.run("curl", "-s", url).rc, 0, "answers when up again")


def test_clone_has_the_bytes_of_the_blobs(t, _):
    repo = repos.torture()
    checkout = repos.clone(repo)
    different = [path for path, (oid, size) in repos.blobs(repo).items()
                 if os.lstat(os.path.join(os.fsencode(checkout), path)).st_size != size]
    t.equal(different, [], "no attribute was applied in the clone")
    t.equal(env.git("status", "--porcelain", cwd=checkout), "", "git status is clean")


def test_hostile_trees_are_in_the_repository(t, _):
    names = env.git("ls-tree", "-z", "--name-only", "HEAD", cwd=repos.hostile(),
                    text=False).split(b"\0")
    t.equal([n for n in repos.hostile_names() if n not in names], [], "every name is stored")


tap.run([
    test_requests_are_counted_and_told_apart,
    test_repositories_have_settings_of_their_own,
    test_password_and_redirect,
    test_stop_and_start_keep_the_port,
    test_tls_with_http2,
    test_sshd,
    test_faults_seen_by_git,
    test_stall_and_release,
    test_down_and_redirect_elsewhere,
    test_clone_has_the_bytes_of_the_blobs,
    test_hostile_trees_are_in_the_repository,
], world, needs=("git", "curl", "lighttpd", "tls", "sshd"))
