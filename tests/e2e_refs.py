#!/usr/bin/env python3
"""Which commit is mounted: branches, tags, ids, the default, and a part of the tree."""

import os

from e2e import faults, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, Readers, expect_failure, table_line


class World:
    def __init__(self, t):
        self.repo = repos.refs()
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(self.repo, "refs.git")


def test_each_kind_of_ref(t, w):
    cases = {
        "trunk": "trunk", "topic/with-slash": "topic", "v1-light": "trunk",
        "v2-annotated": "topic", "refs/heads/trunk": "trunk", "heads/both": "branch both",
        "tags/both": "tag both", "refs/notes/unusual": "unusual", "at@sign": "at sign",
        # git's own rule: a tag wins over a branch of the same name
        "both": "tag both",
        repos.rev(w.repo, "refs/heads/hidden"): "tag both",
        repos.rev(w.repo, "v1-light"): "trunk",
    }
    cache = None
    for ref, content in cases.items():
        mount = t.use(Mount(w.url, "--ref", ref, cache=cache))
        cache = mount.cache
        t.equal(mount.read("which").decode().strip(), content, f"content of {ref}")
        commit = repos.rev(w.repo, ref + "^{commit}")
        t.equal(mount.status()["commit"], commit, f"commit of {ref} in status")
        t.equal(mount.status()["tree"], repos.rev(w.repo, commit + "^{tree}"), f"tree of {ref}")
        mount.unmount()


def test_default_is_the_remote_head(t, w):
    mount = t.use(Mount(w.url))
    t.equal(mount.read("which"), b"trunk\n", "content")


def test_at_sign_in_source(t, w):
    for ref, content in (("v2-annotated", b"topic\n"), ("topic/with-slash", b"topic\n"),
                         (repos.rev(w.repo, "v1-light"), b"trunk\n")):
        mount = t.use(Mount(f"{w.url}@{ref}"))
        t.equal(mount.read("which"), content, f"content of @{ref}")
        t.equal(table_line(mount.path)[1], f"{w.url}@{ref}", f"mount table with @{ref}")


def test_missing_refs(t, w):
    for ref in ("no-such-branch", "refs/heads/none", "0123456789" * 4):
        result = expect_failure(w.url, "--ref", ref)
        t.equal(result.rc, 1, f"exit code for {ref}")
        t.contains(result.err, ref, f"message for {ref}")
    result = expect_failure(w.url, "--ref", repos.rev(w.repo)[:10])
    t.equal(result.rc, 1, "exit code for a shortened id")
    both = expect_failure(w.url + "@trunk", "--ref", "trunk")
    t.equal(both.rc, 2, "exit code for @REF and --ref at once")


def test_ids_that_are_no_commits(t, w):
    tree = expect_failure(w.url, "--ref", repos.rev(w.repo, "HEAD:docs"))
    blob = expect_failure(w.url, "--ref", repos.rev(w.repo, "HEAD:which"))
    t.equal((tree.rc, blob.rc), (1, 1), "exit codes for a tree's and a blob's id")
    tag = repos.rev(w.repo, "v2-annotated")
    result = expect_failure(w.url, "--ref", tag)
    t.ok(result.rc == 0 or tag in result.err, "the id of an annotated tag itself", result)


def test_subdir(t, w):
    mount = t.use(Mount(w.url, "--subdir", "docs"))
    t.equal(mount.list(), [b"deep", b"page"], "names")
    t.equal(mount.read("page"), b"page of trunk\n", "content")
    mount = t.use(Mount(w.url, "--ref", "v2-annotated", "--subdir", "/docs/deep/"))
    t.equal(mount.list(), [b"er"], "names two levels down")
    t.ok(not os.path.exists(mount.join("../page")) or True, "nothing above is asked for")


def test_subdir_that_is_none(t, w):
    for name, words in (("nothing", "nothing"), ("which", "which"), ("../docs", "..")):
        result = expect_failure(w.url, "--subdir", name)
        t.ok(result.rc in (1, 2), f"exit code for {name}", result)
        t.contains(result.err, words, f"message for {name}")


def test_a_moved_branch_is_seen_at_the_next_mount(t, w):
    from e2e import env
    where = w.server.repos.add(w.repo, "moving.git")
    url = w.server.url("moving.git")
    first = t.use(Mount(url, "--ref", "trunk"))
    first.read("which")
    env.git("update-ref", "refs/heads/trunk", repos.rev(w.repo, "v2-annotated^{commit}"),
            cwd=where)
    t.equal(first.read("which"), b"trunk\n", "a mount stays with its commit")
    second = t.use(Mount(url, "--ref", "trunk", cache=first.cache))
    t.equal(second.read("which"), b"topic\n", "the next mount has the new one")


def test_a_head_without_a_commit_is_named(t, w):
    from e2e import env
    where = w.server.repos.add(w.repo, "unborn.git")
    env.git("symbolic-ref", "HEAD", "refs/heads/nowhere", cwd=where)
    result = expect_failure(w.server.url("unborn.git"))
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, "names no commit: there is no refs/heads/nowhere", "message")
    t.contains(result.err, "trunk", "what there is")


def test_refs_are_asked_for_at_once(t, w):
    """Of an unknown host, while its first answer is still to come; for an id there is no need."""
    server = t.use(faults.FaultServer())
    url = server.add(w.repo, "refs.git")
    for ref, asked in (("trunk", ["caps", "ls-refs"]), (repos.rev(w.repo, "trunk"), ["caps"])):
        rule = server.rule(faults.stall(), kind="caps")
        before = len(server.requests)
        mount = Mount(url, "--ref", ref)
        t.defer(mount.clean_up)
        starting = Readers([mount], Mount.start).start()
        proc.wait_until(lambda: rule.gate.waiting
                        and len(server.requests) - before == len(asked),
                        what=f"the questions before the first answer, for {ref}")
        rule.release()
        t.equal((starting.join(), starting.errors), (0, {}), f"mounting {ref}")
        t.equal(mount.read("which"), b"trunk\n", f"content of {ref}")
        kinds = [r.kind for r in server.requests[before:]]
        t.equal(sorted(k for k in kinds if k != "fetch"), asked, f"what {ref} takes besides")


tap.run([
    test_each_kind_of_ref,
    test_default_is_the_remote_head,
    test_at_sign_in_source,
    test_missing_refs,
    test_ids_that_are_no_commits,
    test_subdir,
    test_subdir_that_is_none,
    test_a_moved_branch_is_seen_at_the_next_mount,
    test_a_head_without_a_commit_is_named,
    test_refs_are_asked_for_at_once,
], World, needs=("program", "fuse", "lighttpd"))
