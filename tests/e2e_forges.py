#!/usr/bin/env python3
"""Hosts of each kind: what their APIs tell, and who one is there."""

import os
import subprocess

from e2e import env, hidden, proc, repos, tap
from e2e.forges import AzureApi, ForgejoApi, GiteaApi
from e2e.github import GithubApi
from e2e.lighttpd import PASSWORD, TOKEN, TOKEN_USERS, USER, GitHttpServer
from e2e.mounts import Mount, expect_failure

APIS = {"github": GithubApi, "gitea": GiteaApi, "forgejo": ForgejoApi, "azure": AzureApi}
KINDS = (*APIS, "gitlab", "bitbucket", "huggingface", "git")
LATE = "d07/eight.bin"                   # comes with nothing else


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())

    def stage(self, t, kind, repo, more=""):
        """A public and a private host of this kind; (api or None, configuration)."""
        self.server.add(repo, "owner/repo.git", object_info=False)
        api = t.use(APIS[kind]()) if kind in APIS else None
        config = env.folder("config") / "config"
        text = ""
        for name, below in (("public", "git"), ("private", "auth")):
            git = self.server.url("{owner}/{repo}.git", below)
            text += (api.section(git, name) if api else
                     f'[host "{name}"]\nkind = {kind}\ngit = {git}\n')
        config.write_text(text + more)    # which goes on with the private one
        if api:
            api.add("owner/repo", repo)
        return api, config


def blobs_of(repo):
    """Path, as text -> id and size."""
    return {os.fsdecode(path): blob for path, blob in repos.blobs(repo).items()}


def list_all(t, mount, repo, what):
    result = proc.run("ls", "-lR", mount.path)
    t.equal((result.rc, result.err), (0, ""), f"{what}: ls -lR")
    mount.idle()
    wrong = [p for p, (_, size) in blobs_of(repo).items() if mount.stat(p).st_size != size]
    t.equal(wrong, [], f"{what}: wrong sizes")


def token_file(text):
    path = env.folder("token") / "token"
    path.write_text(text + "\n")
    return path


@tap.limit(300)
def test_each_kind_lists_and_reads(t, w):
    repo = repos.mixed()
    blobs = blobs_of(repo)
    clone = repos.clone(repo)
    small = min(blobs, key=lambda p: (blobs[p][1], p))
    large = max(blobs, key=lambda p: (blobs[p][1], p))
    for kind in KINDS:
        api, config = w.stage(t, kind, repo)
        mount = t.use(Mount("public:owner/repo", "--config", config))
        list_all(t, mount, repo, kind)
        if api:
            t.equal([r.status for r in api.requests], [200], f"{kind}: answers of the API")
        for path in (small, large):
            t.equal(mount.read(path), (clone / path).read_bytes(), f"{kind}: a file of "
                    f"{blobs[path][1]} bytes")
        mount.unmount()


@tap.limit(300)
def test_each_kind_takes_a_token(t, w):
    repo = repos.mixed()
    for kind in KINDS:
        path = token_file(TOKEN)
        api, config = w.stage(t, kind, repo, f"token-file = {path}\n")
        if api and kind != "azure":    # which wants user and password there, too
            api.token = TOKEN
        mount = t.use(Mount("private:owner/repo", "--config", config))
        list_all(t, mount, repo, kind)
        t.equal(mount.stats()["credential_requests"], 0, f"{kind}: helpers that were asked")
        if api:
            t.equal([r.status for r in api.requests], [200], f"{kind}: answers of the API")
        hidden.check(t, mount, [TOKEN.encode()], kind)
        mount.unmount()

        path.write_text("wr0ng-t0ken\n")
        result = expect_failure("private:owner/repo", "--config", config)
        t.contains(result.err, "the server refused the token of", f"{kind}: a wrong token")
        t.contains(result.err, str(path), f"{kind}: where it is from")
        t.lacks(result.err + result.log, "wr0ng-t0ken", f"{kind}: the token in the message")
        result = expect_failure("public:owner/missing", "--config", config)
        t.contains(result.err, "missing", f"{kind}: one that is not there")


def test_pages(t, w):
    repo = repos.sources(files=2500, folders=30, seed=6)
    api, config = w.stage(t, "gitea", repo)
    mount = t.use(Mount("public:owner/repo", "--config", config))
    list_all(t, mount, repo, "2,500 files")
    t.equal([r.status for r in api.requests], [200] * 3, "answers of the API: three pages")


def test_an_api_that_is_used_up(t, w):
    repo = repos.mixed()
    for kind in APIS:
        api, config = w.stage(t, kind, repo)
        api.remaining = 0
        mount = t.use(Mount("public:owner/repo", "--config", config))
        list_all(t, mount, repo, f"{kind}: used up")
        t.equal(mount.status()["api"]["state"], "resting", f"{kind}: the API in status")
        mount.unmount()


def test_a_commit_by_the_beginning_of_its_id(t, w):
    repo = repos.small()
    oid = repos.rev(repo, "HEAD")
    for kind in ("github", "gitea", "forgejo"):
        api, config = w.stage(t, kind, repo)
        mount = t.use(Mount(f"public:owner/repo@{oid[:9]}", "--config", config))
        t.equal(mount.read("dir/inner"), b"inner\n", f"{kind}: a file")
        t.equal(mount.status()["commit"], oid, f"{kind}: the commit in status")
        t.equal([r.status for r in api.requests], [200], f"{kind}: answers of the API")
        mount.unmount()
        again = t.use(Mount(f"public:owner/repo@{oid[:9]}", "--config", config,
                            cache=mount.cache))
        t.equal(again.status()["commit"], oid, f"{kind}: mounted again")
        t.equal(len(api.requests), 1, f"{kind}: requests for one that is known")
        again.unmount()
        result = expect_failure("public:owner/repo@abcdef0123", "--config", config)
        t.contains(result.err, 'there is no branch or tag "abcdef0123"', f"{kind}: unknown")
        t.contains(result.err, "nor is it known to be short for a commit id", f"{kind}: why")
    _, config = w.stage(t, "git", repo)
    result = expect_failure(f"public:owner/repo@{oid[:9]}", "--config", config)
    t.contains(result.err, "if it is short for a commit id, give all of it", "no API")


def test_a_token_command(t, w):
    repo = repos.small()
    calls = env.folder("command") / "calls"
    _, config = w.stage(t, "git", repo, f"token-command = echo . >>{calls}; echo {TOKEN}\n")
    mount = t.use(Mount("private:owner/repo", "--config", config))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.equal(calls.read_text(), ".\n", "times it ran")
    for command, words in (("exit 3", "failed (exit status 3)"), ("true", "said nothing")):
        _, config = w.stage(t, "git", repo, f"token-command = {command}\n")
        result = expect_failure("private:owner/repo", "--config", config)
        t.contains(result.err, f'the token-command of host "private" {words}', command)


def new_token(w, token):
    w.server.let_in({USER: PASSWORD} | {name: token for name in TOKEN_USERS})


@tap.limit(120)
def test_a_token_that_expires(t, w):
    """The next read finds the new one; nobody has to mount again."""
    repo = repos.mixed()
    clone = repos.clone(repo)
    paths = sorted(p for p in blobs_of(repo) if p.startswith("d0"))
    for key in ("token-file", "token-command"):
        path = token_file(TOKEN)
        value = path if key == "token-file" else f"cat {path}"
        new_token(w, TOKEN)
        _, config = w.stage(t, "git", repo, f"{key} = {value}\n")
        mount = t.use(Mount("private:owner/repo", "--config", config))
        t.equal(mount.read(paths[0]), (clone / paths[0]).read_bytes(), f"{key}: a file")
        mount.idle()
        new_token(w, "a-n3w-t0ken")
        path.write_text("a-n3w-t0ken\n")
        t.equal([p for p in paths if mount.read(p) != (clone / p).read_bytes()], [],
                f"{key}: files with the new token that are wrong")
        t.equal(len(mount.log_lines("credentials were renewed")), 1, f"{key}: lines in the log")
        hidden.check(t, mount, [TOKEN.encode(), b"a-n3w-t0ken"], key)
        mount.unmount()


@tap.limit(120)
def test_a_password_that_changes(t, w):
    """Git's helpers hear that what they kept is wrong, and are asked for another."""
    repo = repos.mixed()
    clone = repos.clone(repo)
    folder = env.folder("helper")
    (folder / "password").write_text(PASSWORD)
    script = folder / "helper"
    script.write_text(f"""#!/bin/sh
echo "$1" >>{folder}/calls
[ "$1" = erase ] && rm -f {folder}/kept
[ "$1" = get ] || exit 0
[ -f {folder}/kept ] || cp {folder}/password {folder}/kept
printf 'username={USER}\\npassword=%s\\n' "$(cat {folder}/kept)"
""")
    script.chmod(0o755)
    home = env.folder("home")
    (home / ".gitconfig").write_text(f"[credential]\n\thelper = {script}\n")
    w.server.let_in({USER: PASSWORD})
    _, config = w.stage(t, "git", repo)
    mount = t.use(Mount("private:owner/repo", "--config", config, environ={"HOME": home}))
    w.server.let_in({USER: "an0ther-pa55word"})
    (folder / "password").write_text("an0ther-pa55word")
    t.equal(mount.read(LATE), (clone / LATE).read_bytes(), "the file")
    t.equal((folder / "calls").read_text().split(), ["get", "store", "get", "erase", "get", "store"],
            "what the helper was told")
    hidden.check(t, mount, [PASSWORD.encode(), b"an0ther-pa55word"], "helper")


def test_who_is_offline_needs_no_token(t, w):
    repo = repos.small()
    path = token_file(TOKEN)
    calls = env.folder("command") / "calls"
    new_token(w, TOKEN)
    _, config = w.stage(t, "git", repo,
                        f"token-command = echo . >>{calls}; cat {path}\n")
    mount = t.use(Mount("private:owner/repo", "--config", config))
    mount.read("dir/inner")
    mount.unmount()
    path.unlink()
    again = t.use(Mount("private:owner/repo", "--config", config, "--offline",
                        cache=mount.cache))
    t.equal(again.read("dir/inner"), b"inner\n", "a file, offline")
    t.equal(calls.read_text(), ".\n", "times the command ran")


@tap.limit(60)
def test_a_command_that_hangs_holds_up_nobody(t, w):
    repo = repos.mixed()
    folder = env.folder("command")
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    new_token(w, TOKEN)
    _, config = w.stage(t, "git", repo,
                        f"token-command = cat {path} || {{ echo $$ >{folder}/pid; sleep 1000; }}\n")
    mount = t.use(Mount("private:owner/repo", "--config", config))
    new_token(w, "a-n3w-t0ken")
    path.unlink()
    with open(os.devnull, "wb") as nowhere:
        reader = subprocess.Popen(["cat", mount.join(LATE)], stdout=nowhere, stderr=nowhere)
    proc.wait_until((folder / "pid").exists, 20, "the command to be asked again")
    reader.kill()
    reader.wait()
    t.equal(mount.unmount().rc, 0, "umount, until the daemon has ended")


@tap.limit(120)
def test_a_token_that_is_gone(t, w):
    """Without a new one reads fail, and go on once there is one."""
    repo = repos.mixed()
    clone = repos.clone(repo)
    path = token_file(TOKEN)
    new_token(w, TOKEN)
    _, config = w.stage(t, "git", repo, f"token-file = {path}\n")
    mount = t.use(Mount("private:owner/repo", "--config", config))
    mount.idle()
    new_token(w, "a-n3w-t0ken")
    result = proc.run("cat", mount.path + "/" + LATE, timeout=60)
    t.equal(result.rc, 1, "cat: exit code")
    t.contains(result.err, "Input/output error", "cat: message")
    t.equal(len(mount.log_lines("was refused")), 1, "lines that say why")
    t.at_least(len(mount.log_lines("credentials cannot be renewed")), 1, "lines in the log")
    path.write_text("a-n3w-t0ken\n")
    proc.wait_until(lambda: proc.run("cat", mount.path + "/" + LATE).rc == 0, 40,
                    "reads to go on with the new token")
    t.equal(mount.read(LATE), (clone / LATE).read_bytes(), "the file")


tap.run([
    test_each_kind_lists_and_reads,
    test_each_kind_takes_a_token,
    test_pages,
    test_an_api_that_is_used_up,
    test_a_commit_by_the_beginning_of_its_id,
    test_a_token_command,
    test_a_token_that_expires,
    test_a_password_that_changes,
    test_who_is_offline_needs_no_token,
    test_a_command_that_hangs_holds_up_nobody,
    test_a_token_that_is_gone,
], World, needs=("program", "fuse", "lighttpd"))
