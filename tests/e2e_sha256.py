#!/usr/bin/env python3
"""Repositories whose object ids are SHA-256, over http and from a local path."""

from e2e import differential, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount


class World:
    def __init__(self, t):
        self.repo = repos.torture("sha256")
        self.clone = repos.clone(self.repo)
        self.server = t.use(GitHttpServer())


def test_over_http(t, w):
    url = w.server.add(w.repo)
    mount = t.use(Mount(url))
    report = differential.compare(mount.path, w.clone, mtime=repos.COMMIT_TIME)
    t.equal(report.differences, [], "differences")
    t.equal(report.files, len(repos.blobs(w.repo)), "files compared")
    t.equal(mount.status()["commit"], repos.rev(w.repo), "commit in status")
    t.equal(len(mount.status()["tree"]), 64, "length of the tree id")


def test_by_full_id_and_tag(t, w):
    url = w.server.add(w.repo, "ids.git")
    for ref in (repos.rev(w.repo), "annotated", "light"):
        mount = t.use(Mount(url, "--ref", ref))
        t.equal(mount.read("one"), b"x", f"a file of {ref}")


def test_from_a_path(t, w):
    mount = t.use(Mount(w.repo))
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], "differences")


def test_without_filters_and_sizes(t, w):
    url = w.server.add(w.repo, "bare.git", filters=False, object_info=False)
    mount = t.use(Mount(url))
    t.equal(mount.stat("sizes/65537").st_size, 65537, "a size")
    t.equal(mount.read("deep/d0/d1/halfway"), b"two levels down\n", "a file")


tap.run([test_over_http, test_by_full_id_and_tag, test_from_a_path,
         test_without_filters_and_sizes], World, needs=("program", "fuse", "lighttpd"))
