#!/usr/bin/env python3
"""The budgets of requests on a real source tree of more than 1,500 files, at the server's log."""

import os

from e2e import debsource, differential, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

LARGE = 1 << 20                          # above any limit for files fetched along


class World:
    def __init__(self, t):
        self.repo = debsource.real_tree()
        self.clone = repos.clone(self.repo)
        self.folders = repos.folder_count(self.repo)
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(self.repo, "with-sizes.git")
        self.url_without = self.server.add(self.repo, "without-sizes.git", object_info=False)
        self.large = [p for p, (_, size) in repos.blobs(self.repo).items() if size > LARGE]


def listing(path, *options):
    """What ls prints, with the total line (blocks) and owners left in."""
    result = proc.run("ls", *options, cwd=path)
    return result.out if result.rc == 0 else result


@tap.limit(300)
def test_mount_list_read_and_read_again(t, w):
    t.at_least(len(repos.blobs(w.repo)), 1500, "files in the tree")
    start = w.server.mark()
    mount = t.use(Mount(w.url))
    listing(mount.path)
    mount.idle()
    t.at_most(w.server.count(start, w.server.settle()), 3, "requests for mount and ls")
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], "differences")
    t.equal(report.files, len(repos.blobs(w.repo)), "files compared")
    mount.idle()
    read = w.server.settle()
    t.at_most(w.server.count(start, read), w.folders + 10, "requests for everything",
              w.server.by_kind(start, read))
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], "differences the second time")
    t.equal(w.server.count(read, w.server.settle()), 0, "requests the second time")
    t.equal(mount.unmount().rc, 0, "umount")

    again = w.server.mark()
    mount = t.use(Mount(w.url, cache=mount.cache))
    path = next(iter(repos.blobs(w.repo)))
    t.ok(mount.read(path) == (w.clone / os.fsdecode(path)).read_bytes(), "a file after a remount")
    mount.idle()
    end = w.server.settle()
    t.at_most(w.server.count(again, end), 2, "requests for a remount and a file")
    t.equal(w.server.contents(again, end), 0, "requests for content")


def test_find_and_plain_ls_fetch_no_content(t, w):
    start = w.server.mark()
    mount = t.use(Mount(w.url_without))
    found = proc.run("find", mount.path, "-name", "*.c")
    want = proc.run("find", w.clone, "-name", "*.c")
    t.equal(len(found.out.splitlines()), len(want.out.splitlines()), "names found")
    t.equal(len(listing(mount.path, "-R", "--color=never")),
            len(listing(w.clone, "-R", "--color=never")), "characters of ls -R")
    mount.idle()
    t.equal(w.server.contents(start, w.server.settle()), 0, "requests for content")


def test_coloured_ls_costs_one_request_per_folder(t, w):
    for url in (w.url, w.url_without):
        mount = t.use(Mount(url))
        start = w.server.settle()
        t.equal(listing(mount.path, "-R", "--color=always"),
                listing(w.clone, "-R", "--color=always"), "ls -R --color=always is right")
        mount.idle()
        t.at_most(w.server.count(start, w.server.settle()), w.folders + len(w.large),
                  "requests of ls -R --color=always")


def sizes(path):
    return proc.run("find", ".", "-name", ".git", "-prune", "-o", "-type", "f", "-printf",
                    "%p %s\n", cwd=path).out.splitlines()


def test_long_listing_with_object_info(t, w):
    mount = t.use(Mount(w.url))
    start = w.server.settle()
    t.equal(proc.run("ls", "-lR", mount.path).rc, 0, "ls -lR")
    mount.idle()
    end = w.server.settle()
    t.at_most(w.server.count(start, end), 2, "requests of ls -lR", w.server.by_kind(start, end))
    t.equal(w.server.contents(start, end), 0, "requests for content")
    t.equal(sorted(sizes(mount.path)), sorted(sizes(w.clone)), "sizes")
    mount.idle()
    t.equal(w.server.count(end, w.server.settle()), 0, "requests for the sizes again")


def test_long_listing_without_object_info(t, w):
    mount = t.use(Mount(w.url_without))
    start = w.server.settle()
    t.equal(proc.run("ls", "-lR", mount.path).rc, 0, "ls -lR")
    mount.idle()
    end = w.server.settle()
    t.at_most(w.server.count(start, end), w.folders + len(w.large), "requests of ls -lR")
    t.equal(sorted(sizes(mount.path)), sorted(sizes(w.clone)), "sizes")


tap.run([
    test_mount_list_read_and_read_again,
    test_find_and_plain_ls_fetch_no_content,
    test_coloured_ls_costs_one_request_per_folder,
    test_long_listing_with_object_info,
    test_long_listing_without_object_info,
], World, needs=("program", "fuse", "lighttpd"))
