#!/usr/bin/env python3
"""A host of GitHub's kind: sizes from its API, and git alone when that is not to be had."""

import base64
import os
import random

from e2e import env, hidden, proc, repos, tap
from e2e.github import GithubApi
from e2e.lighttpd import TOKEN, GitHttpServer
from e2e.mounts import Mount, expect_failure

LARGE = (1 << 20) - 1                    # what is above is surely above the program's limit


def sources():
    return repos.sources(files=5000, folders=300, seed=5)


def monorepo():
    """60,000 small files in 40 folders and some of these: too many for one answer of the API."""
    def make(path):
        rng = random.Random(60)
        with repos.Importer(path) as repo:
            files = {b"top%02d" % n: ("100644", b"%d\n" % n) for n in range(20)}
            for n in range(60000):
                name = b"folder%02d/part%d/a-file-with-a-longer-name-%05d.txt" % (
                    n % 40, n // 40 % 5, n)
                files[name] = ("100644", b"x" * rng.randrange(1, 60) + b"%d" % n)
            repo.commit("refs/heads/main", files)
    return repos.once("monorepo", make)


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())

    def stage(self, t, repo, name="owner/repo", private=False, host="forge"):
        """A repository on a new host: the API, and its section in a configuration."""
        self.server.add(repo, f"{name}.git", object_info=False)
        api = t.use(GithubApi())
        api.add(name, repo)
        api.token = TOKEN if private else None
        config = env.folder("config") / "config"
        git = self.server.url("{owner}/{repo}.git", "auth" if private else "git")
        config.write_text(api.section(git, host))
        return api, config


def wrong_sizes(mount, blobs):
    return [p for p, (_, size) in blobs.items() if mount.stat(p).st_size != size]


def list_all(t, mount, blobs, what):
    result = proc.run("ls", "-lR", mount.path)
    t.equal((result.rc, result.err), (0, ""), f"{what}: ls -lR")
    mount.idle()
    t.equal(wrong_sizes(mount, blobs), [], f"{what}: wrong sizes")


@tap.limit(200)
def test_a_listing_costs_four_requests(t, w):
    repo = sources()
    api, config = w.stage(t, repo)
    start = w.server.settle()
    mount = t.use(Mount("forge:owner/repo", "--config", config))
    list_all(t, mount, repos.blobs(repo), "5,000 files")
    end = w.server.settle()
    t.at_most(w.server.count(start, end) + len(api.requests), 4, "requests, API and git together",
              *map(str, w.server.requests(start, end)), *map(str, api.requests))
    t.equal(len(api.requests), 1, "requests to the API")
    t.equal(w.server.contents(start, end), 0, "requests for content")
    t.equal(mount.stats()["requests"]["api"], 1, "requests to the API, as stats have it")
    t.equal(mount.stats()["rate_limit_remaining"], 59, "what they left")
    t.equal(mount.status()["api"], {"state": "asked", "rests_s": 0}, "the API in status")
    t.equal(mount.stats()["requests"]["total"], w.server.count(start, end) + 1, "requests in all")
    mount.unmount()
    again = t.use(Mount("forge:owner/repo", "--config", config, cache=mount.cache))
    list_all(t, again, repos.blobs(repo), "mounted again")
    t.equal(len(api.requests), 1, "requests to the API for a commit that is known")


@tap.limit(300)
def test_without_the_api_the_listing_is_the_same(t, w):
    repo = repos.mixed()
    blobs = repos.blobs(repo)
    large = sum(size > LARGE for _, size in blobs.values())

    def used_up(api):
        api.remaining = 0

    def gone(api):
        api.forget("owner/mixed")
    for what, spoil, words, state, left in (
            ("used up", used_up, "does not tell sizes just now", "resting", 0),
            ("not found", gone, "missing, or you may not see it", "refused", 59)):
        api, config = w.stage(t, repo, "owner/mixed")
        spoil(api)
        start = w.server.settle()
        mount = t.use(Mount("forge:owner/mixed", "--config", config))
        list_all(t, mount, blobs, what)
        t.equal(len(api.requests), 1, f"{what}: requests to the API")
        t.at_most(w.server.count(start, w.server.settle()),
                  4 + repos.folder_count(repo) + large, f"{what}: requests to git")
        t.equal(len(mount.log_lines(words)), 1, f"{what}: lines in the log")
        t.equal(mount.status()["state"], "online", f"{what}: state")
        api_now = mount.status()["api"]
        t.equal(api_now["state"], state, f"{what}: the API in status")
        t.ok((api_now["rests_s"] > 3000) == (state == "resting"), f"{what}: how long it rests",
             api_now)
        t.equal(mount.stats()["rate_limit_remaining"], left, f"{what}: the rate limit in stats")
        mount.unmount()


@tap.limit(600)
def test_a_tree_that_is_too_large_for_one_answer(t, w):
    repo = monorepo()
    api, config = w.stage(t, repo, "owner/mono")
    start = w.server.settle()
    mount = t.use(Mount("forge:owner/mono", "--config", config))
    list_all(t, mount, repos.blobs(repo), "60,000 files")
    end = w.server.settle()
    t.ok(len(api.requests) > 1, "the first answer was cut")
    t.at_most(len(api.requests), 1 + 40 + 1, "requests to the API: the folders that are left")
    # The file whose size was to come with the answer that was cut is asked for by itself.
    t.at_most(w.server.contents(start, end), 1, "requests for content")


def test_a_repository_that_was_renamed(t, w):
    repo = repos.mixed()
    api, config = w.stage(t, repo, "owner/new-name")
    w.server.add(repo, "owner/old-name.git", object_info=False)
    api.moved["owner/old-name"] = "owner/new-name"
    mount = t.use(Mount("forge:owner/old-name", "--config", config))
    list_all(t, mount, repos.blobs(repo), "renamed")
    t.equal([r.status for r in api.requests], [301, 200], "answers of the API")


def test_who_reads_one_file_spares_the_api(t, w):
    repo = repos.mixed()
    api, config = w.stage(t, repo, "owner/one")
    mount = t.use(Mount("forge:owner/one", "--config", config))
    mount.read("d01/f001")
    mount.idle()
    t.equal(len(api.requests), 0, "requests to the API")


def test_a_token_of_the_environment(t, w):
    repo = repos.mixed()
    for host, variable in (("forge", "GH_ENTERPRISE_TOKEN"), ("github.com", "GITHUB_TOKEN")):
        api, config = w.stage(t, repo, "owner/private", private=True, host=host)
        mount = t.use(Mount(f"{host}:owner/private", "--config", config,
                            environ={variable: TOKEN}))
        list_all(t, mount, repos.blobs(repo), variable)
        t.equal(mount.read("d01/f001"), (repos.clone(repo) / "d01/f001").read_bytes(),
                f"{variable}: a file")
        t.equal([r.status for r in api.requests], [200], f"{variable}: answers of the API")
        both = base64.b64encode(f"x-access-token:{TOKEN}".encode())
        hidden.check(t, mount, [TOKEN.encode(), both], variable)
        t.equal(mount.stats()["credential_requests"], 0, f"{variable}: helpers that were asked")
        mount.unmount()


def test_a_token_of_gh(t, w):
    repo = repos.mixed()
    folder = env.folder("bin")
    (folder / "gh").write_text(f"#!/bin/sh\necho \"$*\" >>{folder}/calls\necho {TOKEN}\n")
    (folder / "gh").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    api, config = w.stage(t, repo, "owner/private", private=True)
    mount = t.use(Mount("forge:owner/private", "--config", config, environ={"PATH": path}))
    list_all(t, mount, repos.blobs(repo), "gh")
    t.equal([r.status for r in api.requests], [200], "answers of the API")
    t.equal((folder / "calls").read_text(), "auth token --hostname forge\n", "what gh was asked")
    hidden.check(t, mount, [TOKEN.encode()], "gh")
    mount.unmount()
    _, config = w.stage(t, repo, "owner/public")
    mount = t.use(Mount("forge:owner/public", "--config", config, environ={"PATH": path}))
    mount.read("d01/f001")
    t.equal((folder / "calls").read_text().count("\n"), 1, "times: not for a public one")


def test_a_token_that_is_wrong(t, w):
    repo = repos.mixed()
    _, config = w.stage(t, repo, "owner/private", private=True)
    for variable, token, words in (
            ("GH_ENTERPRISE_TOKEN", "wr0ng-t0ken", "refused the token of GH_ENTERPRISE_TOKEN"),
            ("GH_ENTERPRISE_TOKEN", "two wr0ng-words", "GH_ENTERPRISE_TOKEN holds no token"),
            ("GH_TOKEN", TOKEN, "asks for a password")):    # which is for another host
        result = expect_failure("forge:owner/private", "--config", config,
                                environ={variable: token})
        t.equal(result.rc, 1, f"{words}: exit code")
        t.contains(result.err, words, f"{words}: message")
        t.lacks(result.err + result.log, token, f"{words}: the token in message and log")


def test_a_public_repository_with_a_wrong_token(t, w):
    repo = repos.mixed()
    api, config = w.stage(t, repo, "owner/public")
    api.token = TOKEN    # any other is refused
    mount = t.use(Mount("forge:owner/public", "--config", config,
                        environ={"GH_ENTERPRISE_TOKEN": "wr0ng-t0ken"}))
    list_all(t, mount, repos.blobs(repo), "wrong token")
    t.equal([r.status for r in api.requests], [401], "answers of the API")
    t.equal(len(mount.log_lines("credentials are missing or refused")), 1, "lines in the log")
    t.lacks(mount.log(), "wr0ng-t0ken", "the token in the log")


tap.run([
    test_a_listing_costs_four_requests,
    test_without_the_api_the_listing_is_the_same,
    test_a_tree_that_is_too_large_for_one_answer,
    test_a_repository_that_was_renamed,
    test_who_reads_one_file_spares_the_api,
    test_a_token_of_the_environment,
    test_a_token_of_gh,
    test_a_token_that_is_wrong,
    test_a_public_repository_with_a_wrong_token,
], World, needs=("program", "fuse", "lighttpd"))
