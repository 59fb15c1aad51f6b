#!/usr/bin/env python3
"""owner/repo: the table of hosts, and the configuration that changes it."""

from e2e import env, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, expect_failure, table_line


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.server.add(repos.small(), "an-owner/a.repo.git")
        self.server.add(repos.refs(), "an-owner/refs.git")
        self.config = env.folder("config") / "config"
        self.config.write_text(
            "# stands in for the real one\n"
            '[host "github.com"]\n'
            f"git = {self.server.base}/{{owner}}/{{repo}}.git\n"
            f"api = {self.server.base}/no-api/{{owner}}/{{repo}}\n"
            '[host "example"]\nkind = git\n'
            f"git = {self.server.base}/git/{{owner}}/{{repo}}.git\n")


def test_owner_and_repository(t, w):
    start = w.server.mark()
    mount = t.use(Mount("an-owner/a.repo", "--config", w.config))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.equal(table_line(mount.path)[1], "an-owner/a.repo", "source in the mount table")
    t.equal({r.record.get("repo") for r in w.server.requests(start, w.server.settle())},
            {"an-owner/a.repo.git"}, "what the server was asked for")


def test_a_prefix_names_the_host(t, w):
    for source in ("github:an-owner/refs", "github.com:an-owner/refs", "example:an-owner/refs"):
        mount = t.use(Mount(source, "--config", w.config))
        t.equal(mount.read("which"), b"trunk\n", f"a file of {source}")


def test_with_a_ref(t, w):
    for source, want in (("an-owner/refs@v2-annotated", b"topic\n"),
                         ("an-owner/refs@topic/with-slash", b"topic\n"),
                         ("an-owner/refs@" + repos.rev(repos.refs()), b"trunk\n")):
        mount = t.use(Mount(source, "--config", w.config))
        t.equal(mount.read("which"), want, f"a file of {source}")


def test_the_user_s_own_configuration_file(t, w):
    home = env.folder("home-with-config")
    (home / ".config" / "xcpfs").mkdir(parents=True)
    (home / ".config" / "xcpfs" / "config").write_text(w.config.read_text())
    mount = t.use(Mount("an-owner/a.repo", environ={"HOME": home}))
    t.equal(mount.read("dir/inner"), b"inner\n", "from ~/.config")
    mount = t.use(Mount("an-owner/a.repo", environ={"XDG_CONFIG_HOME": home / ".config"}))
    t.equal(mount.read("dir/inner"), b"inner\n", "from XDG_CONFIG_HOME")
    (home / ".config" / "xcpfs" / "config").write_text(
        '[host "github.com"]\ngit = http://127.0.0.1:1/{owner}/{repo}\n')
    mount = t.use(Mount("an-owner/a.repo", "--config", w.config, environ={"HOME": home}))
    t.equal(mount.read("dir/inner"), b"inner\n", "--config wins")


def test_a_host_with_urls_of_files(t, w):
    config = env.folder("raw") / "config"
    config.write_text(w.server.host("forge") + "insecure = true\n")
    for source in ("forge:an-owner/a.repo.git", w.server.url("an-owner/a.repo.git")):
        mount = t.use(Mount(source, "--config", config))
        t.equal(mount.read("dir/inner"), b"inner\n", f"a file of {source}")
        t.equal(mount.stats()["requests"]["range"], 0, "requests for parts of a small file")
    for line, words in (("raw = http://127.0.0.1/{owner}/{repo}", "{commit}"),
                        ("raw = ssh://127.0.0.1/{commit}/{path}", "http or https"),
                        ("insecure = perhaps", "true or false")):
        config.write_text(f'[host "forge"]\n{line}\n')
        result = expect_failure("an-owner/a.repo", "--config", config)
        t.ok(result.rc in (1, 2), f"exit code for {line}", result)
        t.contains(result.err, words, f"message for {line}")
        t.contains(result.err, "line 2", f"place of {line}")


def test_what_goes_wrong(t, w):
    result = expect_failure("an-owner/none", "--config", w.config)
    t.equal(result.rc, 1, "exit code for a missing repository")
    t.contains(result.err, "an-owner/none", "message for a missing repository")
    result = expect_failure("nowhere:an-owner/none", "--config", w.config)
    t.ok(result.rc in (1, 2), "exit code for an unknown host", result)
    result = expect_failure("an-owner/none", "--config", "/no/such/file")
    t.ok(result.rc in (1, 2), "exit code for a missing configuration", result)
    t.contains(result.err, "/no/such/file", "message for a missing configuration")
    broken = env.folder("broken") / "config"
    broken.write_text('[host "github.com"\ngit\n')
    result = expect_failure("an-owner/a.repo", "--config", broken)
    t.ok(result.rc in (1, 2), "exit code for a broken configuration", result)
    t.contains(result.err, str(broken), "message for a broken configuration")
    for source in ("-an/owner", "a//b", "owner/", "/", "ftp://127.0.0.1/x", "a/b@", "a\nb/c",
                   ""):
        result = expect_failure(source, "--config", w.config)
        t.ok(result.rc in (1, 2), f"{source!r} is refused", result)


tap.run([
    test_owner_and_repository,
    test_a_prefix_names_the_host,
    test_with_a_ref,
    test_the_user_s_own_configuration_file,
    test_a_host_with_urls_of_files,
    test_what_goes_wrong,
], World, needs=("program", "fuse", "lighttpd"))
