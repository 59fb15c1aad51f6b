#!/usr/bin/env python3
"""Trees that want to escape, and everything that would write."""

import errno
import os
import stat

from e2e import env, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.url = self.server.add(repos.hostile(), "h.git")
        self.mount = t.use(Mount(self.url))


def test_hostile_names_are_not_there(t, w):
    t.equal(w.mount.list(), [b"climbs", b"fine", b"folder", b"legacy-mode", b"second",
                             b"to-passwd"], "names in /")
    t.equal(w.mount.list("second"), [b"fine"], "names in /second, hostile ones are folders")
    for name in repos.hostile_names():
        if b"/" in name or name in (b".", b".."):
            continue
        t.raises(errno.ENOENT, os.lstat, w.mount.join(name))
        t.raises(errno.ENOENT, os.lstat, w.mount.join(b"second/" + name))
        t.raises(errno.ENOENT, open, w.mount.join(name))


def test_the_rest_is_served(t, w):
    t.equal(w.mount.read("fine"), b"fine\n", "a file")
    t.equal(w.mount.read("folder/inside"), b"fine\n", "a file in a folder")
    t.equal(w.mount.read("second/fine"), b"fine\n", "a file beside hostile folders")
    mode = w.mount.stat("legacy-mode").st_mode
    t.equal((stat.S_ISREG(mode), mode & 0o111, mode & 0o022), (True, 0, 0),
            "a file of mode 100664")


def test_dots_are_the_usual_ones(t, w):
    here = os.stat(w.mount.join("second/."))
    t.equal(here.st_ino, w.mount.stat("second").st_ino, "second/. is second")
    t.equal(os.stat(w.mount.join("second/..")).st_ino, w.mount.stat().st_ino, "second/.. is /")
    t.equal(os.stat(w.mount.join("..")).st_dev, os.stat(os.path.dirname(w.mount.path)).st_dev,
            "/.. is outside of the mount")


def test_links_are_literal(t, w):
    t.equal(os.readlink(w.mount.join("to-passwd")), b"/etc/passwd", "target of an absolute link")
    t.equal(os.readlink(w.mount.join("climbs")), b"../" * 8 + b"etc/passwd",
            "target of a climbing link")
    t.ok(stat.S_ISLNK(w.mount.stat("climbs").st_mode), "it stays a link")


def test_every_write_is_refused(t, w):
    join = w.mount.join
    path, folder, new = join("fine"), join("folder"), join("new")
    tried = [
        (os.open, path, os.O_WRONLY), (os.open, path, os.O_RDWR),
        (os.open, new, os.O_WRONLY | os.O_CREAT), (os.open, path, os.O_RDONLY | os.O_TRUNC),
        (os.mkdir, new), (os.rmdir, folder), (os.unlink, path), (os.rename, path, new),
        (os.symlink, b"x", new), (os.link, path, new), (os.chmod, path, 0o777),
        (os.chown, path, 0, 0), (os.truncate, path, 0), (os.utime, path, (1, 1)),
        (os.mkfifo, new), (os.mknod, new, stat.S_IFREG | 0o600),
        (os.setxattr, path, "user.x", b"1"), (os.removexattr, path, "user.x"),
    ]
    for function, *args in tried:
        t.raises(errno.EROFS, function, *args, what=f"{function.__name__} {args[1:] or ''}")
    t.raises((errno.EROFS, errno.EXDEV), os.rename, path, env.scratch() / "tmp" / "out")
    fd = os.open(path, os.O_RDONLY)
    t.defer(os.close, fd)
    t.raises((errno.EBADF, errno.EROFS), os.write, fd, b"x")
    t.raises((errno.EBADF, errno.EINVAL, errno.EROFS), os.ftruncate, fd, 0)
    t.raises(errno.EROFS, os.fchmod, fd, 0o777)
    t.raises((errno.EBADF, errno.EROFS, errno.EOPNOTSUPP), os.posix_fallocate, fd, 0, 10)
    for command in (("touch", path), ("rm", "-rf", path), ("cp", "/etc/hostname", join("copy"))):
        t.differ(proc.run(*command).rc, 0, f"{command[0]} fails")
    t.equal(w.mount.read("fine"), b"fine\n", "the file is as it was")


def test_mount_flags(t, w):
    flags = os.statvfs(w.mount.path).f_flag
    t.ok(flags & os.ST_NOSUID, "nosuid")
    t.ok(flags & os.ST_NODEV, "nodev")
    t.ok(flags & os.ST_RDONLY, "ro")
    mount = t.use(Mount(w.url, "-o", "suid,dev,rw")) if _accepts(w, "suid,dev,rw") else None
    if mount:
        flags = os.statvfs(mount.path).f_flag
        t.ok(flags & os.ST_NOSUID and flags & os.ST_NODEV and flags & os.ST_RDONLY,
             "-o suid,dev,rw changes nothing")


def _accepts(w, options):
    from e2e.mounts import expect_failure
    return expect_failure(w.url, "-o", options).rc == 0


def raw_tree(repo, entries):
    """A tree as nobody would make it; entries are (mode, name, oid)."""
    data = b"".join(b"%s %s\0" % (mode, name) + bytes.fromhex(oid) for mode, name, oid in entries)
    return env.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", cwd=repo,
                   stdin=data)


def test_a_file_that_is_a_folder_elsewhere(t, w):
    repo = env.folder("twofold") / "r.git"
    env.git("init", "-q", "--bare", str(repo))
    blob = env.git("hash-object", "-w", "--stdin", cwd=repo, stdin=b"file\n")
    inner = raw_tree(repo, [(b"100644", b"inside", blob)])
    for branch, entries in (("honest", [(b"40000", b"folder", inner)]),
                            ("main", [(b"100644", b"as-file", inner), (b"120000", b"as-link", inner),
                                      (b"100644", b"right", blob)])):
        commit = env.git("commit-tree", "-m", "x", raw_tree(repo, entries), cwd=repo)
        env.git("update-ref", f"refs/heads/{branch}", commit, cwd=repo)
    url = w.server.add(repo, "twofold.git")
    honest = t.use(Mount(url, "--ref", "honest"))
    t.equal(honest.read("folder/inside"), b"file\n", "a file in what is a folder")
    for how, cache in (("in the cache", honest.cache), ("not in the cache", None)):
        mount = t.use(Mount(url, "--timeout", "5", cache=cache))
        t.equal(mount.read("right"), b"file\n", f"{how}: a file that is one")
        for _ in range(2):
            t.raises(errno.EIO, mount.read, "as-file", what=f"{how}: a file that is none")
            t.raises(errno.EIO, os.readlink, mount.join("as-link"), what=f"{how}: a link")
        t.ok(mount.log_lines("warn", "damaged there"), f"{how}: a line of the log", mount.log())


tap.run([
    test_hostile_names_are_not_there,
    test_the_rest_is_served,
    test_dots_are_the_usual_ones,
    test_links_are_literal,
    test_every_write_is_refused,
    test_mount_flags,
    test_a_file_that_is_a_folder_elsewhere,
], World, needs=("program", "fuse", "lighttpd"))
