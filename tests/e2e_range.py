#!/usr/bin/env python3
"""Parts of files from a real web server's raw URLs, by plain HTTP and by TLS with HTTP/2."""

import json
import os
import random

from e2e import env, proc, repos, tap, tls
from e2e.lighttpd import GitHttpServer

OK, TRANSIENT, REFUSED = 0, 1, 3
SIZE = 3 * repos.MIB + 4321
NAMES = {
    b"large.bin": SIZE, b"dir/in ner/a b": 70000, b"odd ?#%41&+:;=@,$!'()*[]{}|\\\"<>^`~": 5000,
    "ümläut/日本".encode(): 2000, b"%2e%2e": 100, b"empty": 0,
    # lighttpd has no way to such files
    b"\xff\xfe not UTF-8": 3000, b"line\nfeed": 800,
}


def files():
    rng = random.Random(7)
    return {name: rng.randbytes(size) for name, size in NAMES.items()}


def make_repo(path):
    with repos.Importer(path) as history:
        history.commit("refs/heads/main", {name: ("100644", data) for name, data in files().items()})


class World:
    def __init__(self, t):
        self.repo = repos.once("range", make_repo)
        self.files = files()
        self.commit = repos.rev(self.repo)
        self.authority = tls.Authority()
        self.plain = self.serve(t, GitHttpServer())
        self.secure = self.serve(t, GitHttpServer(self.authority))

    def serve(self, t, server):
        t.use(server)
        server.add(self.repo, "an-owner/repo")
        server.publish(self.repo, "an-owner/repo")
        return server

    def ask(self, git, raw, path, parts, size="unknown", source="forge:an-owner/repo", **environ):
        """What read_range left: its templates are made of the addresses of two servers."""
        return proc.run(env.TOP_BUILD / "tests" / "e2e" / "read_range",
                        f"{git}/git/{{owner}}/{{repo}}",
                        f"{raw}/raw/{{owner}}/{{repo}}/{{commit}}/{{path}}", source, self.commit,
                        path, str(size), *parts,
                        env=env.clean(**{"CURL_CA_BUNDLE": self.authority.ca, **environ}))

    def read(self, server, *args, **named):
        """Answers and counters."""
        return answers_of(self.ask(server.base, server.base, *args, **named))


def answers_of(done):
    if done.rc:
        raise RuntimeError(done.err)
    lines = [json.loads(line) for line in done.out.splitlines()]
    return lines[:-1], lines[-1]


def check(t, answer, data, off, length, what):
    t.equal(answer["verdict"], OK, f"verdict of {what}")
    t.equal(answer["off"], off, f"where {what} starts")
    t.equal(answer["total"], len(data), f"size of the file of {what}")
    t.ok(bytes.fromhex(answer["bytes"]) == data[off:off + length], f"bytes of {what}")


def parts_of(size, length):
    return [(off, length) for off in range(0, size, length)]


def test_a_file_in_parts(t, w):
    data = w.files[b"large.bin"]
    for server, protocol, name in ((w.plain, "HTTP/1.1", "http"), (w.secure, "HTTP/2.0", "TLS")):
        parts = parts_of(SIZE, 1 << 20)
        start = server.mark()
        answers, counters = w.read(server, "large.bin", [f"{o}:{n}" for o, n in parts], SIZE)
        for (off, length), answer in zip(parts, answers):
            check(t, answer, data, off, length, f"{off}+{length} by {name}")
        requests = [r for r in server.requests(start) if r.kind == "raw"]
        t.equal({(r.status, r.protocol) for r in requests}, {(206, protocol)}, "answers")
        t.equal(counters["requests"], len(requests), "requests counted")
        t.equal(counters["connections"], 1, f"connections by {name}")


def test_many_parts_at_once(t, w):
    data = w.files[b"large.bin"]
    rng = random.Random(8)
    parts = [(rng.randrange(SIZE), rng.randrange(1, 1 << 17)) for _ in range(24)]
    for server in (w.plain, w.secure):
        answers, counters = w.read(server, "large.bin", [f"{o}:{n}" for o, n in parts],
                                   READ_RANGE_TOGETHER="1")
        for (off, length), answer in zip(parts, answers):
            check(t, answer, data, off, length, f"{off}+{length} at once")
        t.equal(counters["requests"], len(parts), "requests")
        t.at_most(counters["connections"], len(parts) + 1, "connections")


def test_every_name(t, w):
    for name, data in w.files.items():
        if not data:
            continue
        answers, _ = w.read(w.plain, os.fsdecode(name), ["10:50"], len(data))
        if name.startswith((b"\xff", b"line\n")):
            t.equal((answers[0]["verdict"], answers[0]["bytes"]), (REFUSED, ""), f"{name!r}")
        else:
            check(t, answers[0], data, 10, 50, f"{name!r}")


def test_a_url_of_the_host(t, w):
    data = w.files[b"large.bin"]
    for source in (f"{w.plain.base}/git/an-owner/repo", f"{w.plain.base}/git/an-owner/repo/"):
        answers, _ = w.read(w.plain, "large.bin", ["5:6"], SIZE, source)
        check(t, answers[0], data, 5, 6, source)


def test_what_is_not_there(t, w):
    for path, size, part, what in (("none", "unknown", "0:10", "a missing file"),
                                   ("dir", "unknown", "0:10", "a directory"),
                                   ("large.bin", "unknown", f"{SIZE}:10", "behind the end"),
                                   ("large.bin", SIZE + 1, "0:10", "another size")):
        answers, counters = w.read(w.plain, path, [part], size)
        t.equal(answers[0]["verdict"], REFUSED, f"verdict of {what}")
        t.equal(answers[0]["bytes"], "", f"bytes of {what}")
        t.at_most(counters["requests"], 6, f"requests for {what}")
    answers, _ = w.read(w.plain, "empty", ["0:10"])
    t.ok((answers[0]["verdict"], answers[0]["bytes"]) in ((OK, ""), (REFUSED, "")),
         "an empty file", answers)


def test_redirects_to_another_server(t, w):
    data = w.files[b"large.bin"]
    other = w.serve(t, GitHttpServer())
    start = other.mark()
    answers, counters = answers_of(w.ask(w.plain.base, f"{w.plain.base}/to/{other.port}",
                                         "large.bin", ["5:6", "1000000:100000"], SIZE))
    check(t, answers[0], data, 5, 6, "a redirected range")
    check(t, answers[1], data, 1000000, 100000, "the next one")
    t.equal([r.status for r in other.requests(start)], [206, 206], "answers of the other server")
    t.equal((counters["requests"], counters["connections"]), (4, 2), "requests, connections")
    start = other.mark()
    done = w.ask(w.plain.base, f"{w.secure.base}/to/{other.port}", "large.bin", ["5:6"], SIZE)
    t.equal(answers_of(done)[0][0]["verdict"], REFUSED, "verdict of one from https to http")
    t.contains(done.err, "from https to http", "what is said")
    t.equal(other.count(start), 0, "requests of the other server")


def test_a_certificate_that_is_not_trusted(t, w):
    done = w.ask(w.plain.base, w.secure.base, "large.bin", ["5:6"], SIZE, CURL_CA_BUNDLE="")
    t.equal(answers_of(done)[0][0]["verdict"], REFUSED, "verdict")
    t.contains(done.err, "certificate", "what is said")


def test_a_server_that_is_gone(t, w):
    server = w.serve(t, GitHttpServer())
    server.stop()
    done = w.ask(w.plain.base, server.base, "large.bin", ["0:10"])
    t.equal(answers_of(done)[0][0]["verdict"], TRANSIENT, "verdict")
    t.contains(done.err, server.base, "what is said names the place")


tap.run([
    test_a_file_in_parts,
    test_many_parts_at_once,
    test_every_name,
    test_a_url_of_the_host,
    test_what_is_not_there,
    test_redirects_to_another_server,
    test_a_certificate_that_is_not_trusted,
    test_a_server_that_is_gone,
], World, needs=("lighttpd", "tls"))
