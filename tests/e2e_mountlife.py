#!/usr/bin/env python3
"""The life of a mount: how it begins, who may see it, and the ways in which it ends."""

import errno
import json
import os
import shutil
import signal
import subprocess

from e2e import env, faults, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount, expect_failure, table_line

NOBODY = 65534


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.repo = repos.small()
        self.url = self.server.add(self.repo, "r.git")


def test_umount(t, w):
    mount = t.use(Mount(w.url))
    t.equal(table_line(mount.path)[:2], ("fuse.xcpfs", w.url), "type and source in the mount table")
    options = table_line(mount.path)[2].split(",")
    for option in ("ro", "nosuid", "nodev"):
        t.contains(options, option, f"{option} in the mount table")
    result = mount.unmount()
    t.equal((result.rc, result.err), (0, ""), "umount says nothing")
    t.equal(table_line(mount.path), None, "the mount table")
    again = proc.xcpfs("umount", mount.path)
    t.equal(again.rc, 1, "exit code of a second umount")
    t.contains(again.err, mount.path, "its message")


def test_other_ways_to_end_it(t, w):
    ways = {"umount(8)": ["umount"]} if os.geteuid() == 0 else {}
    if shutil.which("fusermount3"):
        ways["fusermount3 -u"] = ["fusermount3", "-u"]
    for name, command in ways.items():
        mount = t.use(Mount(w.url))
        mount.read("dir/inner")
        t.equal(proc.run(*command, mount.path).rc, 0, f"exit code of {name}")
        mount.wait_gone()
        t.ok(True, f"the daemon ends after {name}")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        mount = t.use(Mount(w.url))
        os.kill(mount.pid, number)
        mount.wait_gone()
        t.equal(table_line(mount.path), None, f"the mount table after {number.name}")


def test_a_busy_mount(t, w):
    mount = t.use(Mount(w.url))
    fd = os.open(mount.join("dir"), os.O_RDONLY)
    result = proc.xcpfs("umount", mount.path)
    t.equal(result.rc, 1, "exit code while a file is open")
    t.contains(result.err, mount.path, "message")
    t.equal(mount.read("dir/inner"), b"inner\n", "it still serves")
    os.close(fd)
    t.equal(mount.unmount().rc, 0, "exit code when nobody uses it")


def test_several_at_once(t, w):
    one, two = t.use(Mount(w.url)), t.use(Mount(w.url))
    t.differ(one.pid, two.pid, "pids")
    t.equal((one.read("file1"), two.read("file1")), (two.read("file1"), one.read("file1")),
            "files")
    t.equal(proc.xcpfs("umount", one.path, two.path).rc, 0, "umount of both")
    one.wait_gone()
    two.wait_gone()


def test_in_front(t, w):
    mount = t.use(Mount(w.url, foreground=True))
    t.equal(mount.process.pid, mount.pid, "pid")
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.equal(mount.unmount().rc, 0, "umount")
    t.equal(mount.process.wait(20), 0, "exit code of mount -f")
    second = t.use(Mount(w.url, foreground=True))
    second.process.send_signal(signal.SIGINT)
    second.wait_gone()
    t.equal(second.process.returncode, 0, "exit code of mount -f after Ctrl-C")


def test_a_dead_daemon(t, w):
    mount = Mount(w.url)
    t.defer(mount.clean_up)
    mount.start()
    mount.kill()
    t.raises((errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), os.stat, mount.path)
    every = json.loads(proc.xcpfs("status", "--json").out)
    t.equal([m["state"] for m in every if m["mountpoint"] == mount.path], ["dead"],
            "its state in the status of all")
    t.equal(proc.xcpfs("umount", mount.path).rc, 0, "xcpfs umount cleans it up")
    t.equal(table_line(mount.path), None, "the mount table")
    mount = Mount(w.url, at=mount.path, cache=mount.cache)
    t.defer(mount.clean_up)
    mount.start()
    mount.kill()
    mount = Mount(w.url, at=mount.path, cache=mount.cache)
    t.defer(mount.clean_up)
    mount.start()
    t.equal(mount.read("dir/inner"), b"inner\n", "the next mount cleans up and serves")
    t.equal(len([m for m in env.mountpoints_below(os.fsencode(mount.path))]), 1,
            "mounts at that place")


def test_a_socket_that_is_not_found_is_no_death(t, w):
    here, elsewhere = env.folder("here"), env.folder("elsewhere")
    for folder in (here, elsewhere):
        folder.chmod(0o700)
    elsewhere = {"XDG_RUNTIME_DIR": str(elsewhere)}
    mount = t.use(Mount(w.url, environ={"XDG_RUNTIME_DIR": str(here)}))
    listed = json.loads(proc.xcpfs("status", "--json", environ=elsewhere).out)
    t.equal([m["state"] for m in listed if m["mountpoint"] == mount.path], ["silent"], "state")
    second = proc.xcpfs("mount", "--cache-dir", mount.cache, w.url, mount.path, environ=elsewhere)
    t.equal(second.rc, 1, "exit code of a second mount")
    t.contains(second.err, "mounted already", "its message")
    t.equal(mount.read("dir/inner"), b"inner\n", "the first one lives")
    t.equal(proc.xcpfs("umount", mount.path, environ=elsewhere).rc, 0, "exit code of umount")
    mount.wait_gone()


def test_who_sees_a_mount_can_ask_its_daemon(t, w):
    """The folder for its socket is behind a link that cannot be read until a gate opens."""
    server = t.use(faults.FaultServer())
    slow = t.use(Mount(server.add(w.repo, "r.git")))
    rule = server.rule(faults.stall(), kind="content")
    mount = Mount(w.url, environ={"XDG_RUNTIME_DIR": f"{slow.path}/link"})
    t.defer(mount.clean_up)
    with subprocess.Popen([env.XCPFS, *mount.argv()], env=env.clean(**mount.environ),
                          stdin=subprocess.DEVNULL) as command:
        proc.wait_until(lambda: rule.gate.waiting, what="the daemon to look for the folder")
        t.ok(not mount.mounted(), "no mount before there is a socket")
        rule.release()
        t.equal(command.wait(60 * env.patience()), 0, "exit code")
    t.equal(mount.status()["mountpoint"], mount.path, "status of the mount")
    t.equal(mount.unmount().rc, 0, "umount")


def test_mountpoints_that_cannot_be(t, w):
    file = env.folder("file") / "file"
    file.write_text("x")
    for place, words in (("/no/such/place", "/no/such/place"), (str(file), str(file))):
        result = proc.xcpfs("mount", "--cache-dir", env.folder("cache"), w.url, place)
        t.equal(result.rc, 1, f"exit code for {place}")
        t.contains(result.err, words, f"message for {place}")
    mount = t.use(Mount(w.url))
    result = proc.xcpfs("mount", "--cache-dir", env.folder("cache"), w.url, mount.path)
    t.equal(result.rc, 1, "exit code for a place that is mounted")
    t.contains(result.err, mount.path, "message for it")
    t.equal(mount.read("dir/inner"), b"inner\n", "the first mount still serves")


def test_a_mountpoint_with_odd_characters(t, w):
    where = env.folder("mnt") / "sp ace, comma\\back\ttab é"
    where.mkdir()
    mount = t.use(Mount(w.url, at=where))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file")
    t.equal(mount.status()["mountpoint"], str(where), "status")
    t.equal(mount.unmount().rc, 0, "umount")


def test_mountpoint_by_another_name(t, w):
    mount = t.use(Mount(w.url))
    link = env.folder("link") / "to"
    link.symlink_to(mount.path)
    t.equal(mount.status(str(link))["pid"], mount.pid, "status through a link")
    result = proc.xcpfs("status", "--json", os.path.basename(mount.path),
                        cwd=os.path.dirname(mount.path))
    t.contains(result.out, str(mount.pid), "status by a relative path")
    t.equal(proc.xcpfs("umount", str(link) + "/").rc, 0, "umount through a link")
    mount.wait_gone()


def test_the_daemon_is_a_daemon(t, w):
    mount = t.use(Mount(w.url))
    t.equal(os.readlink(f"/proc/{mount.pid}/cwd"), "/", "working folder")
    with open(f"/proc/{mount.pid}/stat", encoding="latin-1") as file:
        fields = file.read().rpartition(")")[2].split()
    t.differ(int(fields[3]), os.getsid(0), "session")
    t.equal(int(fields[4]), 0, "terminal")
    held = [os.readlink(f"/proc/{mount.pid}/fd/{fd}") for fd in (0, 1, 2)]
    t.equal(held, ["/dev/null"] * 3, "descriptors 0 to 2")
    for pid in [mount.pid, *proc.descendants(mount.pid)]:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith(mount.path):
                t.ok(False, f"descriptor {fd} of {pid} lies under the mount")


def test_allow_other(t, w):
    if os.geteuid():
        raise tap.Skip("needs root to become another user")
    if not shutil.which("setpriv"):
        raise tap.Skip("setpriv is not installed")
    closed = t.use(Mount(w.url))
    opened = t.use(Mount(w.url, "-o", "allow_other"))
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    t.differ(proc.run(*as_nobody, "cat", closed.join("dir/inner")).rc, 0,
             "another user without allow_other")
    t.equal(proc.run(*as_nobody, "cat", opened.join("dir/inner")).out, "inner\n",
            "another user with allow_other")
    t.equal(proc.run(*as_nobody, opened.join("run.sh")).out, "ran\n", "running a script")
    t.contains(table_line(opened.path)[2], "allow_other", "the mount table")
    t.contains(table_line(opened.path)[2], "default_permissions", "the mount table")


def test_extended_attributes(t, w):
    plain = t.use(Mount(w.url))
    t.raises(errno.EOPNOTSUPP, os.getxattr, plain.join("file1"), "user.xcpfs.oid")
    mount = t.use(Mount(w.url, "-o", "xattr"))
    mount.read("file1")
    commit = repos.rev(w.repo)
    want = {"oid": repos.rev(w.repo, "HEAD:file1"), "commit": commit}
    for name, value in want.items():
        t.equal(os.getxattr(mount.join("file1"), f"user.xcpfs.{name}").decode(), value,
                f"user.xcpfs.{name}")
    t.contains(os.getxattr(mount.join("file1"), "user.xcpfs.origin").decode(), w.url,
               "user.xcpfs.origin")
    t.ok(os.getxattr(mount.join("file1"), "user.xcpfs.cached") in (b"1", b"yes", b"true"),
         "user.xcpfs.cached of what was read")
    t.equal(os.getxattr(mount.join("dir"), "user.xcpfs.oid").decode(),
            repos.rev(w.repo, "HEAD:dir"), "user.xcpfs.oid of a folder")
    t.equal(os.listxattr(mount.join("file1")), [], "they are in no list")
    t.raises(errno.ENODATA, os.getxattr, mount.join("file1"), "user.other")
    status = mount.status(mount.path + "/file1")
    t.equal((status["oid"], status["commit"]), (want["oid"], commit), "xcpfs status FILE")


def test_options_that_are_unknown(t, w):
    result = expect_failure(w.url, "-o", "no_such_option")
    t.ok(result.rc in (1, 2), "exit code", result)
    t.contains(result.err, "no_such_option", "message")


_AS_A_USER = r"""
set -e
mknod "$DIR/fuse" c 10 229
chmod "$NODE_MODE" "$DIR/fuse"
mount --bind "$DIR/fuse" /dev/fuse
exec setpriv --reuid=65534 --regid=65534 --clear-groups bash -c '
set -x
"$BINARY" mount --cache-dir "$DIR/cache" --log-file "$DIR/log" "$URL" "$DIR/mnt" || exit 40
cat "$DIR/mnt/dir/inner" || exit 41
grep -q "$DIR/mnt" /proc/self/mountinfo || exit 42
"$BINARY" status --json "$DIR/mnt" || exit 43
stat -c "owner %u" "$DIR/mnt/file1" || exit 44
$END "$DIR/mnt" || exit 45
'
"""


def as_a_user(w, node_mode, end):
    folder = env.folder("user")
    for name in ("cache", "mnt", "home", "run"):
        (folder / name).mkdir()
        os.chown(folder / name, NOBODY, NOBODY)
    os.chown(folder, NOBODY, NOBODY)
    (folder / "run").chmod(0o700)
    return proc.run("unshare", "-m", "bash", "-c", _AS_A_USER, env=env.clean(
        DIR=folder, URL=w.url, BINARY=env.XCPFS, NODE_MODE=node_mode, END=end,
        HOME=folder / "home", XDG_RUNTIME_DIR=folder / "run", TMPDIR="/tmp"))


def needs_user():
    if os.geteuid():
        raise tap.Skip("needs root for a private mount namespace")
    for tool in ("unshare", "setpriv", "fusermount3"):
        if not shutil.which(tool):
            raise tap.Skip(f"{tool} is not installed")
    probe = subprocess.run(["unshare", "-m", "setpriv", f"--reuid={NOBODY}", "test", "-x",
                            env.XCPFS], check=False)
    if probe.returncode:
        raise tap.Skip("an ordinary user cannot reach the program where it was built")


def test_an_ordinary_user(t, w):
    needs_user()
    for end in (f"{env.XCPFS} umount", "fusermount3 -u"):
        result = as_a_user(w, "0666", end)
        t.equal(result.rc, 0, f"mount, read, status, {end}")
        t.contains(result.out, "inner", "a file")
        t.contains(result.out, f"owner {NOBODY}", "owner of the files")
        t.ok(result.rc == 0, "all went well", *result.err.splitlines()[-12:])


def test_an_ordinary_user_and_a_closed_device(t, w):
    needs_user()
    result = as_a_user(w, "0600", "true")
    t.equal(result.rc, 40, "exit code (40: mount failed)")
    t.contains(result.err, "/dev/fuse", "the message names the device")


tap.run([
    test_umount,
    test_other_ways_to_end_it,
    test_a_busy_mount,
    test_several_at_once,
    test_in_front,
    test_a_dead_daemon,
    test_a_socket_that_is_not_found_is_no_death,
    test_who_sees_a_mount_can_ask_its_daemon,
    test_mountpoints_that_cannot_be,
    test_a_mountpoint_with_odd_characters,
    test_mountpoint_by_another_name,
    test_the_daemon_is_a_daemon,
    test_allow_other,
    test_extended_attributes,
    test_options_that_are_unknown,
    test_an_ordinary_user,
    test_an_ordinary_user_and_a_closed_device,
], World, needs=("program", "fuse", "lighttpd"))
