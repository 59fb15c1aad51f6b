#!/usr/bin/env python3
"""Sources through ssh, with a real sshd that is set up like a plain Debian one."""

import os

from e2e import differential, repos, sshd, tap
from e2e.mounts import Mount, expect_failure


class World:
    def __init__(self, t):
        self.server = t.use(sshd.Sshd())
        self.environ = self.server.environ()
        self.repo = repos.sources()


def test_a_tree_over_ssh(t, w):
    before = len(w.server.commands())
    mount = t.use(Mount(w.server.url(w.repo), environ=w.environ))
    report = differential.compare(mount.path, repos.clone(w.repo), mtime=repos.COMMIT_TIME)
    t.equal(report.differences, [], "differences")
    t.equal(report.files, len(repos.blobs(w.repo)), "files compared")
    calls = w.server.commands()[before:]
    t.at_most(len(calls), 2, "ssh processes for everything", *calls)
    t.contains(" ".join(calls[0]), "GIT_PROTOCOL=version=2", "protocol 2 is asked for")
    t.equal(mount.unmount().rc, 0, "umount")


def test_scp_style(t, w):
    mount = t.use(Mount(w.server.scp_style(repos.small()), environ=w.environ))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.contains(mount.status()["source"], f"e2e-host:{repos.small()}", "source in status")


def test_a_path_for_the_shell(t, w):
    from e2e import env
    path = env.folder("it's a $(touch nothing) `place`") / "r.git"
    import shutil
    shutil.copytree(repos.small(), path)
    mount = t.use(Mount(w.server.scp_style(path), environ=w.environ))
    t.equal(mount.read("dir/inner"), b"inner\n", "a path with characters of the shell")


def test_listing_costs_no_content(t, w):
    mount = t.use(Mount(w.server.url(w.repo), environ=w.environ))
    os.listdir(mount.path)
    stats = mount.stats()
    t.equal(stats["bytes_served"], 0, "bytes served")


def test_what_goes_wrong(t, w):
    missing = expect_failure(w.server.url("/no/such/repository"), environ=w.environ)
    t.equal(missing.rc, 1, "exit code for a missing repository")
    t.contains(missing.err, "the host has no git repository at that path",
               "message for a missing repository")
    t.contains(missing.err, "/no/such/repository", "it is named")
    wrong_key = dict(w.environ)
    folder = w.server.folder
    known = (folder / "known_hosts").read_text()
    t.defer((folder / "known_hosts").write_text, known)
    (folder / "known_hosts").write_text("")
    unknown = expect_failure(w.server.url(repos.small()), environ=wrong_key)
    t.equal(unknown.rc, 1, "exit code for an unknown host key")
    t.contains(unknown.err, "verification failed", "ssh's own words are passed on")
    (folder / "known_hosts").write_text(known)
    stranger = expect_failure(w.server.url(repos.small()).replace(w.server.user, "e2e-nobody", 1),
                              environ=w.environ)
    t.equal(stranger.rc, 1, "exit code for a user who may not")
    t.contains(stranger.err, "the host does not let you in", "message for a user who may not")
    w.server.stop()
    away = expect_failure(w.server.url(repos.small()), environ=w.environ)
    w.server.start()
    t.equal(away.rc, 1, "exit code without a server")
    t.contains(away.err, "no ssh server listens there", "message without a server")
    t.equal(expect_failure(f"ssh://-oProxyCommand=touch@127.0.0.1{repos.small()}",
                           environ=w.environ).rc != 0, True, "a host like an option is refused")


def test_the_server_goes_away_and_comes_back(t, w):
    mount = t.use(Mount(w.server.url(repos.small()), "--timeout", "3", environ=w.environ))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file while it is there")
    w.server.stop()
    t.equal(mount.read("dir/inner"), b"inner\n", "the same without the server")
    t.raises(5, mount.read, "dir/sub/leaf")
    w.server.start()
    t.equal(mount.read("dir/sub/leaf"), b"leaf\n", "a file when it is back")


tap.run([
    test_a_tree_over_ssh,
    test_scp_style,
    test_a_path_for_the_shell,
    test_listing_costs_no_content,
    test_what_goes_wrong,
    test_the_server_goes_away_and_comes_back,
], World, needs=("program", "fuse", "sshd", "git"))
