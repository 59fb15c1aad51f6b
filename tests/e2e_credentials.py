#!/usr/bin/env python3
"""Passwords: from the URL, from git's helpers, from netrc; and never to be seen anywhere."""

import base64
import os

from e2e import env, hidden, proc, repos, tap
from e2e.lighttpd import PASSWORD, USER, GitHttpServer
from e2e.mounts import Mount, expect_failure, table_line
from e2e.terminal import Terminal


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.server.add(repos.small(), "r.git")
        self.url = self.server.url("r.git", "auth")
        self.with_user = self.url.replace("//", f"//{USER}:{PASSWORD}@")


def home(name, gitconfig="", netrc=None):
    """A home folder with a helper or a netrc."""
    where = env.folder(name)
    (where / ".gitconfig").write_text("[safe]\n\tdirectory = *\n" + gitconfig)
    if netrc:
        (where / ".netrc").write_text(netrc)
        (where / ".netrc").chmod(0o600)
    return {"HOME": where}


def helper(password=PASSWORD):
    """A credential helper that keeps a record of what it was asked; (gitconfig, record)."""
    folder = env.folder("helper")
    script = folder / "helper"
    script.write_text(f"""#!/bin/sh
echo "$1" >>{folder}/calls
sed "s/^/$1 /" >>{folder}/input
[ "$1" = get ] && printf 'username={USER}\\npassword={password}\\n'
exit 0
""")
    script.chmod(0o755)
    return f"[credential]\n\thelper = {script}\n", folder / "calls"


def secrets():
    both = f"{USER}:{PASSWORD}".encode()
    return [PASSWORD.encode(), base64.b64encode(both), PASSWORD.encode().hex().encode()]


def check_hidden(t, mount, how):
    hidden.check(t, mount, secrets(), how)


def test_user_info_in_the_url(t, w):
    start = w.server.mark()
    mount = t.use(Mount(w.with_user, environ=home("home")))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.equal(table_line(mount.path)[1], w.url, "source in the mount table")
    t.equal(mount.status()["source"], w.url, "source in status")
    check_hidden(t, mount, "URL")
    mount.read("file1")
    authorized = [r for r in w.server.requests(start, w.server.settle()) if r.authorized]
    t.at_least(len(authorized), 2, "authorized requests")


def test_a_credential_helper(t, w):
    config, calls = helper()
    mount = t.use(Mount(w.url, environ=home("home", config)))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    asked = calls.read_text().split()
    t.equal(asked.count("get"), 1, "times the helper was asked")
    t.equal(asked.count("store"), 1, "times it was told that the password is right")
    check_hidden(t, mount, "helper")
    mount.read("file2")
    t.equal(calls.read_text().split().count("get"), 1, "times it was asked after reading on")


def test_a_helper_with_a_wrong_password(t, w):
    config, calls = helper("wrong")
    result = expect_failure(w.url, environ=home("home", config))
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, w.url, "message")
    t.lacks(result.err, "wrong", "the password in the message")
    t.equal(calls.read_text().split().count("erase"), 1, "times the helper was told it is wrong")


def test_netrc(t, w):
    text = f"machine 127.0.0.1 login {USER} password {PASSWORD}\n"
    mount = t.use(Mount(w.url, environ=home("home", netrc=text)))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    check_hidden(t, mount, "netrc")


def test_no_password_at_all(t, w):
    result = expect_failure(w.url, environ=home("home"))
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, w.url, "message")
    t.contains(result.err, "credential", "remedy")
    wrong = expect_failure(w.url.replace("//", "//someone:wr0ng-one@"), environ=home("home"))
    t.equal(wrong.rc, 1, "exit code with a wrong password in the URL")
    t.lacks(wrong.err + wrong.log, "wr0ng-one", "the password in message and log")


def test_what_is_cached_needs_no_password_to_be_kept(t, w):
    """Two users of one cache: a mount without the right to see it does not mount."""
    first = t.use(Mount(w.with_user, environ=home("home")))
    first.read("dir/inner")
    first.idle()
    first.unmount()
    result = expect_failure(w.url, environ=home("home"), cache=first.cache)
    t.equal(result.rc, 1, "exit code without a password, though the cache has it")


def test_an_odd_password_in_the_url(t, w):
    """Percent-escapes are undone: the server wants the plain characters."""
    escaped = "".join(f"%{b:02x}" for b in PASSWORD.encode())
    mount = t.use(Mount(w.url.replace("//", f"//{USER}:{escaped}@"), environ=home("home")))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.ok(not [n for n, d in hidden.places(mount, proc.program_children()).items()
              if escaped.encode() in d], "places that show the escaped secret")


def test_no_core_dump(t, w):
    mount = t.use(Mount(w.with_user, environ=home("home")))
    with open(f"/proc/{mount.pid}/limits", encoding="ascii") as file:
        line = next(x for x in file if x.startswith("Max core file size"))
    t.equal(line.split()[4:6], ["0", "0"], "RLIMIT_CORE")
    if not env.sanitized():
        t.equal(os.stat(f"/proc/{mount.pid}/mem").st_uid, 0, "owner of /proc/PID/mem")


def at_a_terminal(t, w):
    """A mount that asks for a password: (the Mount, not started; the Terminal)."""
    mount = Mount(w.url, environ={**home("home"), "GIT_TERMINAL_PROMPT": None})
    t.defer(mount.clean_up)
    return mount, t.use(Terminal(env.XCPFS, *mount.argv(), environ=mount.environ))


def test_asked_at_the_terminal(t, w):
    mount, terminal = at_a_terminal(t, w)
    t.ok(terminal.expect("Username for "), "it is asked for a user", terminal.said)
    terminal.type(USER + "\n")
    t.ok(terminal.expect("Password for "), "it is asked for a password", terminal.said)
    proc.wait_until(lambda: not terminal.echoes(), 20, "the echo to be off")
    terminal.type(PASSWORD + "\n")
    t.equal(terminal.finish(), 0, "exit status")
    t.ok(terminal.echoes(), "the terminal is as it was")
    t.lacks(terminal.said, PASSWORD, "what was shown")
    mount.result = proc.Result(mount.argv(), 0, terminal.said, "")
    mount.pid = mount.status()["pid"]
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    check_hidden(t, mount, "terminal")
    t.equal([p for p in proc.program_children() if proc.has_terminal(p)], [],
            "processes of the mount that hold on to the terminal")
    terminal.close()
    t.equal(mount.read("dir/sub/leaf"), b"leaf\n", "a file when the terminal is gone")


def test_interrupted_at_the_terminal(t, w):
    for prompt, typed in (("Username for ", ""), ("Password for ", USER + "\n")):
        mount, terminal = at_a_terminal(t, w)
        terminal.expect("Username for ")
        terminal.type(typed)
        t.ok(terminal.expect(prompt), f"{prompt}is asked for", terminal.said)
        terminal.type("\x03")
        t.equal(terminal.finish(), 130, f"{prompt}exit status after Ctrl-C")
        proc.wait_until(terminal.echoes, 20, "the echo to be on again")
        left = proc.wait_until(lambda: not proc.program_children() or None, 20, fail=False)
        t.ok(left, f"{prompt}no process of the program is left",
             *map(proc.describe, proc.program_children()))
        t.ok(not mount.mounted(), f"{prompt}nothing is mounted")
        t.lacks(terminal.said, "daemon ended", f"{prompt}what was said")


def test_a_wrong_password_at_the_terminal(t, w):
    mount, terminal = at_a_terminal(t, w)
    terminal.expect("Username for ")
    terminal.type(USER + "\n")
    terminal.expect("Password for ")
    proc.wait_until(lambda: not terminal.echoes(), 20, "the echo to be off")
    terminal.type("wrong-" + PASSWORD + "\n")
    t.equal(terminal.finish(), 1, "exit status")
    t.lacks(terminal.said, PASSWORD, "what was shown")
    t.contains(terminal.said, "cannot mount", "a sentence says so")
    t.ok(not mount.mounted(), "nothing is mounted")


tap.run([
    test_user_info_in_the_url,
    test_a_credential_helper,
    test_a_helper_with_a_wrong_password,
    test_netrc,
    test_no_password_at_all,
    test_what_is_cached_needs_no_password_to_be_kept,
    test_an_odd_password_in_the_url,
    test_no_core_dump,
    test_asked_at_the_terminal,
    test_interrupted_at_the_terminal,
    test_a_wrong_password_at_the_terminal,
], World, needs=("program", "fuse", "lighttpd"))
