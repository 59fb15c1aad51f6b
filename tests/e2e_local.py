#!/usr/bin/env python3
"""Sources on this machine: paths and file:// URLs, bare or not, through git upload-pack."""

import os
import shutil

from e2e import differential, env, proc, repos, tap
from e2e.mounts import Mount, expect_failure, table_line


class World:
    def __init__(self, _):
        self.repo = repos.sources()
        self.clone = repos.clone(self.repo)


def test_a_bare_path(t, w):
    mount = t.use(Mount(w.repo))
    report = differential.compare(mount.path, w.clone, mtime=repos.COMMIT_TIME)
    t.equal(report.differences, [], "differences")
    t.equal(report.files, len(repos.blobs(w.repo)), "files compared")
    t.equal(table_line(mount.path)[1], str(w.repo), "source in the mount table")


def test_one_long_lived_child(t, w):
    mount = t.use(Mount(w.repo))
    differential.compare(mount.path, w.clone)
    uploads = [p for p in proc.descendants(mount.pid) + proc.children()
               if b"upload-pack" in _cmdline(p)]
    t.at_most(len(uploads), 2, "upload-pack processes after reading everything")
    mount.unmount()
    proc.wait_until(lambda: not any(proc.alive(p) for p in uploads), 20, "upload-pack to end")
    t.ok(True, "none after the umount")


def _cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_a_file_url_and_a_work_tree(t, _):
    work = env.folder("work") / "tree"
    env.git("clone", "-q", str(repos.small()), str(work))
    for source in (f"file://{repos.small()}", work, f"file://{work}", work / ".git"):
        mount = t.use(Mount(source))
        t.equal(mount.read("dir/inner"), b"inner\n", f"a file of {source}")
        t.raises(2, os.lstat, mount.join(".git"))


def test_relative_paths(t, _):
    parent = repos.small().parent
    name = repos.small().name
    for source in (f"./{name}", f"../{parent.name}/{name}"):
        where = env.folder("mnt")
        result = proc.xcpfs("mount", "--cache-dir", env.folder("cache"), source, where,
                            cwd=parent)
        t.equal(result.rc, 0, f"mount of {source}")
        t.equal((where / "dir/inner").read_bytes(), b"inner\n", f"a file of {source}")
        t.equal(proc.xcpfs("umount", where).rc, 0, "umount")


def test_a_path_with_at_and_spaces(t, _):
    base = env.folder("odd")
    odd = base / "a repo@v1, really"
    shutil.copytree(repos.refs(), odd)
    mount = t.use(Mount(odd))
    t.equal(mount.read("which"), b"trunk\n", "an existing path wins over a ref")
    t.equal(table_line(mount.path)[1], str(odd), "source in the mount table")
    shutil.copytree(repos.refs(), base / "r.git")
    mount = t.use(Mount(f"{base}/r.git@v2-annotated"))
    t.equal(mount.read("which"), b"topic\n", "@REF behind a path")


def test_what_is_no_repository(t, _):
    empty = env.folder("empty")
    for source, words in ((empty, f"cannot open {empty}: it is no git repository"),
                          ("/no/such/path", "cannot open /no/such/path: there is no such path"),
                          (f"file://{empty}/none", f"{empty}/none: there is no such path")):
        result = expect_failure(source)
        t.equal(result.rc, 1, f"exit code for {source}")
        t.contains(result.err, words, f"message for {source}")


def test_an_empty_repository(t, _):
    path = env.folder("none") / "r.git"
    env.git("init", "-q", "--bare", str(path))
    result = expect_failure(path)
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, "empty repository", "message")


def test_dubious_ownership_names_the_remedy(t, _):
    if os.geteuid():
        raise tap.Skip("only root can give a repository to another user")
    path = env.folder("theirs") / "r.git"
    shutil.copytree(repos.small(), path)
    for folder, _, files in os.walk(path):
        os.chown(folder, 12345, 12345)
        for name in files:
            os.chown(os.path.join(folder, name), 12345, 12345)
    home = env.folder("plain-home")
    result = expect_failure(path, environ={"HOME": str(home)})
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, "dubious ownership", "message")
    t.contains(result.err, "safe.directory", "the remedy")
    t.contains(result.err, str(path), "the path in the remedy")


def test_the_repository_goes_away_and_comes_back(t, _):
    path = env.folder("moves") / "r.git"
    shutil.copytree(repos.small(), path)
    mount = t.use(Mount(path, "--timeout", "2"))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file while it is there")
    away = path.with_name("away")
    path.rename(away)
    for pid in [p for p in proc.descendants() if b"upload-pack" in _cmdline(p)]:
        os.kill(pid, 9)
    t.raises(5, mount.read, "dir/sub/leaf")
    away.rename(path)
    t.equal(mount.read("dir/sub/leaf"), b"leaf\n", "the file when it is back")


def _named(mount, name):
    """Pids of the mount's processes of that name."""
    found = []
    for pid in proc.descendants() + proc.descendants(mount.pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read().strip() == name and proc.alive(pid):
                    found.append(pid)
        except OSError:
            pass
    return sorted(set(found))


def test_the_broker_is_killed(t, _):
    mount = t.use(Mount(repos.small(), "--timeout", "20"))
    t.equal(mount.read("dir/inner"), b"inner\n", "a file before")
    brokers, seeds = _named(mount, "xcpfs-broker"), _named(mount, "xcpfs-seed")
    t.equal((len(brokers), len(seeds)), (1, 1), "brokers and seeds of a mount")
    for pid in seeds + brokers:
        t.equal(os.readlink(f"/proc/{pid}/cwd"), "/", "its folder")
        t.equal(os.readlink(f"/proc/{pid}/fd/0"), "/dev/null", "its standard input")
    os.kill(brokers[0], 9)
    proc.wait_until(lambda: not proc.alive(brokers[0]), 20, "the broker to die")
    t.equal(mount.read("dir/sub/leaf"), b"leaf\n", "a file that had not been read")
    t.equal(len(mount.log_lines("warn", "was killed; another one has taken its place")), 1,
            "lines of the log")
    new = _named(mount, "xcpfs-broker")
    t.equal(len(new), 1, "brokers after that")
    t.equal(os.readlink(f"/proc/{new[0]}/fd/0"), "/dev/null", "the new one's standard input")


def test_the_seed_is_killed_too(t, w):
    mount = t.use(Mount(w.repo, "--timeout", "2"))
    # Some told their sizes by coming, more of them on a slow machine; the others were asked for.
    names = [n for n in repos.blobs(w.repo) if mount.stat(n).st_size]
    mount.idle()
    names = [n for n in names[-100:] if not mount.status(mount.join(n))["cached"]][-2:]
    t.equal(len(names), 2, "files that have not come")
    for name in ("xcpfs-seed", "xcpfs-broker"):
        for pid in _named(mount, name):
            os.kill(pid, 9)
            proc.wait_until(lambda p=pid: not proc.alive(p), 20, "it to die")
    for name in names:
        t.raises(5, mount.read, name)
    t.equal(len(mount.log_lines("error", "only what is cached can be served")), 1, "lines of the log")
    t.equal(mount.unmount().rc, 0, "umount")


tap.run([
    test_a_bare_path,
    test_one_long_lived_child,
    test_a_file_url_and_a_work_tree,
    test_relative_paths,
    test_a_path_with_at_and_spaces,
    test_what_is_no_repository,
    test_an_empty_repository,
    test_dubious_ownership_names_the_remedy,
    test_the_repository_goes_away_and_comes_back,
    test_the_broker_is_killed,
    test_the_seed_is_killed_too,
], World, needs=("program", "fuse", "git"))
