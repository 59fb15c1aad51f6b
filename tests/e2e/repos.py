"""Repositories made at test time, each once per build folder and shared by all stories.

Every maker returns the path of a bare repository below WORK; what a story wants changed it
changes in its own copy (served.Served.add). Content comes from seeded generators, so that a
repository is the same on every machine. clone() gives a checkout to compare with.
"""

import contextlib
import fcntl
import os
import random
import shutil
import subprocess
from pathlib import Path

from . import env

_VERSION = 4                    # part of every name: raise it when a maker changes
COMMIT_TIME = 1600000000
MIB = 1 << 20


# Making a thing once

@contextlib.contextmanager
def _locked(name):
    env.WORK.mkdir(parents=True, exist_ok=True)
    with open(env.WORK / (name + ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once(name, make):
    """The path WORK/name, made by make(path of a new folder) when it is not there yet."""
    final = env.WORK / f"{name}.v{_VERSION}"
    if final.exists():
        return final
    with _locked(final.name):
        if not final.exists():
            part = env.WORK / (final.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(final)
    return final


# Writing history quickly

class Importer:
    """A git fast-import: commits from dicts of path -> entry, names as raw bytes."""

    def __init__(self, path, object_format="sha1"):
        env.git("init", "-q", "--bare", "--object-format", object_format, str(path))
        # Large random files are stored quickly: nothing is to be won from them.
        env.git("config", "core.bigFileThreshold", "5m", cwd=path)
        env.git("config", "core.compression", "1", cwd=path)
        self.path = path
        self._mark = 0
        self._stream = subprocess.Popen(["git", "fast-import", "--quiet", "--force"], cwd=path,
                                        stdin=subprocess.PIPE, env=env.clean())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._stream.stdin.close()
        if self._stream.wait() and kind is None:
            raise RuntimeError("git fast-import failed")
        if kind is None:
            env.git("repack", "-q", "-a", "-d", "--window=10", cwd=self.path)
            env.git("pack-refs", "--all", cwd=self.path)

    def _put(self, *parts):
        for part in parts:
            self._stream.stdin.write(part)

    def blob(self, data):
        """Stores content; returns the mark to use in entries."""
        self._mark += 1
        self._put(b"blob\nmark :%d\ndata %d\n" % (self._mark, len(data)), data, b"\n")
        return b":%d" % self._mark

    def commit(self, ref, files, message="files", when=COMMIT_TIME):
        """One commit on a ref; files: path (bytes) -> (mode, content bytes or gitlink id)."""
        marks, seen = {}, {}
        for path, (mode, data) in files.items():
            if mode == "160000":
                marks[path] = data
            else:
                if data not in seen:
                    seen[data] = self.blob(data)
                marks[path] = seen[data]
        self._mark += 1
        self._put(b"commit %s\nmark :%d\n" % (ref.encode(), self._mark),
                  b"committer Test <test@example.org> %d +0000\n" % when,
                  b"data %d\n%s\n" % (len(message), message.encode()))
        for path, (mode, _) in files.items():
            self._put(b"M %s %s %s\n" % (mode.encode(), marks[path], _quoted(path)))
        self._put(b"\n")
        return b":%d" % self._mark

    def tag(self, name, commit):
        """An annotated tag."""
        self._put(b"tag %s\nfrom %s\n" % (name.encode(), commit),
                  b"tagger Test <test@example.org> %d +0000\ndata 4\ntag\n\n" % COMMIT_TIME)

    def reset(self, ref, commit):
        """Points a ref (a lightweight tag, say) at a commit."""
        self._put(b"reset %s\nfrom %s\n\n" % (ref.encode(), commit))


def _quoted(path):
    out = bytearray(b'"')
    for byte in path:
        if byte in b'"\\' or byte < 32 or byte > 126:
            out += b"\\%03o" % byte
        else:
            out.append(byte)
    return bytes(out + b'"')


def text(rng, size):
    """Something like source code: compresses like it, and is different for every file."""
    words = _WORDS
    out, length = [], 0
    while length < size:
        line = "\t" * rng.randrange(3) + " ".join(rng.choices(words, k=rng.randrange(1, 9)))
        line += f" /* {rng.randrange(1 << 20):x} */\n" if rng.random() < 0.2 else ";\n"
        out.append(line)
        length += len(line)
    return "".join(out).encode()[:size]


_WORDS = ("if else for while return static const int char struct void size_t len buf name node "
          "next prev list tree err = == != + - * & | && || ( ) { } [ ] 0 1 -1 NULL true false "
          "memcpy strlen malloc free open read write close offset count index value key").split()


def sized(rng):
    """File sizes like a source tree's: median 3 KiB, some of 100 KiB."""
    return min(int(rng.lognormvariate(8.0, 1.3)), 200000) + 1


# The repositories

BIG_FILE = b"big/64MiB.bin"
GITLINK = b"1234567890" * 4


def torture(object_format="sha1"):
    """Everything a tree may hold: see torture_files()."""
    def make(path):
        link = GITLINK if object_format == "sha1" else b"1234567890123456" * 4
        with Importer(path, object_format) as repo:
            files = torture_files(link)
            # The very large file once: the SHA-256 repository keeps to what it is for.
            if object_format == "sha1":
                files[BIG_FILE] = ("100644", random.Random(64).randbytes(64 * MIB))
            first = repo.commit("refs/heads/main", files, "torture\n\nbody", COMMIT_TIME)
            repo.reset("refs/tags/light", first)
            repo.tag("annotated", first)
    return once(f"torture-{object_format}.git", make)


def torture_files(gitlink):
    rng = random.Random(7)
    plain, executable, link = "100644", "100755", "120000"
    files = {
        b"empty": (plain, b""),
        b"one": (plain, b"x"),
        b"script": (executable, b"#!/bin/sh\necho hello\n"),
        b"README.md": (plain, b"# torture\n"),
        b"with space/ two  spaces ": (plain, b"spaces\n"),
        b"new\nline/a\nb": (plain, b"newline\n"),
        b"tab\there": (plain, b"tab\n"),
        b"quote\"s and 'apostrophes'": (plain, b"quotes\n"),
        b"back\\slash": (plain, b"backslash\n"),
        b"-rf": (plain, b"dash\n"),
        b"*": (plain, b"star\n"),
        b"$HOME": (plain, b"dollar\n"),
        b"#hash": (plain, b"hash\n"),
        b"...": (plain, b"three dots\n"),
        b".hidden/.file": (plain, b"hidden\n"),
        b"latin1-\xe9\xff\xfe": (plain, b"not UTF-8\n"),
        b"bytes-\x01\x02\x7f\x80": (plain, b"control\n"),
        b"utf8-\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80": (plain, b"UTF-8\n"),
        b"nfc-\xc3\xa9": (plain, b"composed\n"),
        b"nfd-e\xcc\x81": (plain, b"decomposed\n"),
        b"Case": (plain, b"upper\n"),
        b"case": (plain, b"lower\n"),
        b"gitx": (plain, b"almost\n"),
        b".gitmodules": (plain, b'[submodule "s"]\n\tpath = sub\n\turl = ../s\n'),
        b".gitattributes": (plain, b"*.crlf text eol=crlf\n*.lf text eol=lf\n*.id ident\n"
                                   b"*.u16 text working-tree-encoding=UTF-16\n"),
        b"dos.txt": (plain, b"one\r\ntwo\r\n"),
        b"mixed.txt": (plain, b"one\r\ntwo\nthree\r"),
        b"would.crlf": (plain, b"kept\nas\nit is\n"),
        b"would.lf": (plain, b"kept\r\nas it is\r\n"),
        b"would.id": (plain, b"$Id$\n$Id: 1234 $\n"),
        b"would.u16": (plain, b"eight bits\n"),
        b"nul.bin": (plain, bytes(1000)),
        b"all-bytes.bin": (plain, bytes(range(256)) * 40),
        b"links/dangling": (link, b"no/such/file"),
        b"links/absolute": (link, b"/etc/hostname"),
        b"links/relative": (link, b"../README.md"),
        b"links/parent": (link, b".."),
        b"links/self": (link, b"self"),
        b"links/out": (link, b"../../../../../../etc"),
        b"links/long": (link, b"x" * 4000),
        b"links/bytes": (link, b"\xff\xfe\n \x80"),
        b"sub": ("160000", gitlink),
        b"deeper/sub module": ("160000", gitlink),
    }
    for length in (1, 100, 254, 255):
        files[b"names/" + b"n" * (length - len(b"%d" % length)) + b"%d" % length] = \
            (plain, b"name of %d\n" % length)
    files[b"names/" + "é".encode() * 127 + b"z"] = (executable, b"255 bytes, 128 characters\n")
    deep = b"/".join(b"d%d" % level for level in range(100))
    files[b"deep/" + deep + b"/bottom"] = (plain, b"a hundred levels down\n")
    files[b"deep/d0/d1/halfway"] = (plain, b"two levels down\n")
    for number in range(5000):
        files[b"many/f%04d.txt" % number] = (plain, text(rng, rng.randrange(1, 900)))
    same = text(rng, 5000)
    for number in range(50):
        files[b"same/%d/copy" % number] = (plain, same)
        files[b"same/%d/exec" % number] = (executable, same)
    for size in (4095, 4096, 4097, 65535, 65536, 65537, 131072, MIB - 1, MIB, MIB + 1):
        files[b"sizes/%d" % size] = (plain, rng.randbytes(size // 2) + bytes(size - size // 2))
    files[b"big/3MiB.txt"] = (plain, text(rng, 3 * MIB))
    return files


def sources(files=1600, folders=120, seed=11):
    """A made-up source tree of the usual sizes."""
    def make(path):
        with Importer(path) as repo:
            repo.commit("refs/heads/main", _source_files(files, folders, seed))
    return once(f"sources-{files}.git", make)


def _source_files(files, folders, seed):
    rng = random.Random(seed)
    names = [b""]
    while len(names) < folders:
        parent = rng.choice(names)
        if parent.count(b"/") < 6:
            names.append(parent + b"dir%03d/" % len(names))
    out = {}
    for number in range(files):
        folder = names[number] if number < folders else rng.choice(names)
        mode = "100755" if rng.random() < 0.05 else "100644"
        out[folder + b"file%04d.c" % number] = (mode, text(rng, sized(rng)))
    return out


def small(name="small", files=12):
    """A handful of files, for stories about something else than the tree."""
    def make(path):
        rng = random.Random(3)
        tree = {b"file%d" % n: ("100644", text(rng, 200 + n)) for n in range(files)}
        tree[b"dir/inner"] = ("100644", b"inner\n")
        tree[b"dir/sub/leaf"] = ("100644", b"leaf\n")
        tree[b"run.sh"] = ("100755", b"#!/bin/sh\necho ran\n")
        tree[b"link"] = ("120000", b"file1")
        with Importer(path) as repo:
            repo.commit("refs/heads/main", tree)
    return once(f"{name}-{files}.git", make)


def large():
    """One file of 64 MiB, one of 8 MiB, and a few small ones."""
    def make(path):
        rng = random.Random(64)
        with Importer(path) as repo:
            repo.commit("refs/heads/main", {
                b"64MiB.bin": ("100644", rng.randbytes(64 * MIB)),
                b"8MiB.bin": ("100644", rng.randbytes(8 * MIB)),
                b"1MiB.bin": ("100644", rng.randbytes(MIB)),
                b"small": ("100644", b"small\n"),
                b"other": ("100644", b"other\n")})
    return once("large.git", make)


def mixed():
    """Small files in few folders, and files of 1, 3 and 8 MiB among them."""
    def make(path):
        rng = random.Random(5)
        files = {b"d%02d/f%03d" % (n % 12, n): ("100644", text(rng, 300 + rng.randrange(4000)))
                 for n in range(720)}
        for name, size in ((b"one.bin", MIB), (b"d03/three.bin", 3 * MIB),
                           (b"d03/eight.bin", 8 * MIB), (b"d07/eight.bin", 8 * MIB)):
            files[name] = ("100644", rng.randbytes(size))
        with Importer(path) as repo:
            repo.commit("refs/heads/main", files)
    return once("mixed.git", make)


def refs():
    """Branches and tags of every kind; each commit says in `which` what it is."""
    def make(path):
        def tree(what):
            return {b"which": ("100644", what.encode() + b"\n"),
                    b"docs/page": ("100644", b"page of " + what.encode() + b"\n"),
                    b"docs/deep/er": ("100644", b"deep\n")}
        with Importer(path) as repo:
            base = repo.commit("refs/heads/trunk", tree("trunk"))
            repo.reset("refs/tags/v1-light", base)
            two = repo.commit("refs/heads/topic/with-slash", tree("topic"))
            repo.tag("v2-annotated", two)
            three = repo.commit("refs/heads/both", tree("branch both"))
            del three
            four = repo.commit("refs/heads/hidden", tree("tag both"))
            repo.reset("refs/tags/both", four)
            repo.commit("refs/heads/at@sign", tree("at sign"))
            repo.commit("refs/notes/unusual", tree("unusual"))
        env.git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=path)
    return once("refs.git", make)


def hostile():
    """Trees that git itself would never write; see hostile_names()."""
    def make(path):
        env.git("init", "-q", "--bare", str(path))
        blob = _store(path, "blob", b"escaped\n")
        fine = _store(path, "blob", b"fine\n")
        inner = _store(path, "tree", _entry("100644", b"inside", fine))
        target = _store(path, "blob", b"/etc/passwd")
        climb = _store(path, "blob", b"../../../../../../../../etc/passwd")
        folders = [("40000", name, inner) for name in hostile_names()]
        files = [("100644", name, blob) for name in hostile_names()]
        second = _tree(path, [("100644", b"fine", fine)] + folders)
        tree = _tree(path, [("100644", b"fine", fine), ("100664", b"legacy-mode", fine),
                            ("40000", b"folder", inner), ("40000", b"second", second),
                            ("120000", b"to-passwd", target), ("120000", b"climbs", climb)]
                     + files)
        commit = _store(path, "commit", (
            f"tree {tree}\nauthor A <a@b> {COMMIT_TIME} +0000\n"
            f"committer A <a@b> {COMMIT_TIME} +0000\n\nhostile\n").encode())
        env.git("update-ref", "refs/heads/main", commit, cwd=path)
        env.git("symbolic-ref", "HEAD", "refs/heads/main", cwd=path)
    return once("hostile.git", make)


def hostile_names():
    """Names that must never be seen: in `/` they are files, in `/second` folders."""
    return [b".", b"..", b".git", b".GIT", b".Git", b"git~1", b"GIT~1", b".git ", b".git.",
            b".git...", b".git . ", b".git::$INDEX_ALLOCATION", b".g\xe2\x80\x8cit",
            b".\xe2\x80\x8dgit", b"\xef\xbb\xbf.git", b".gi\xe2\x80\x8et", b"a/b",
            b"../escape", b"/absolute"]


def _tree(path, entries):
    entries.sort(key=lambda e: e[1] + (b"/" if e[0] == "40000" else b""))
    return _store(path, "tree", b"".join(_entry(*e) for e in entries))


def _entry(mode, name, oid):
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid)


def _store(path, kind, data):
    return env.git("hash-object", "-t", kind, "--literally", "-w", "--stdin", cwd=path,
                   stdin=data)


# Facts about a repository

def rev(repo, name="HEAD"):
    return env.git("rev-parse", name, cwd=repo)


def blobs(repo, commit="HEAD"):
    """path (bytes) -> (oid, size) of every blob of a commit."""
    out = {}
    for line in env.git("ls-tree", "-r", "-l", "-z", commit, cwd=repo, text=False).split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            mode, kind, oid, size = head.split()
            if kind == b"blob" and mode != b"120000":
                out[path] = (oid.decode(), int(size))
    return out


def folder_count(repo, commit="HEAD"):
    """How many directories a commit has, the root included."""
    names = env.git("ls-tree", "-r", "-d", "-z", commit, cwd=repo, text=False).split(b"\0")
    return 1 + sum(1 for n in names if n and b" tree " in n)


def clone(repo, commit=None):
    """A checkout of a repository's commit, bytes as they are in the blobs; made once."""
    commit = rev(repo, commit or "HEAD")

    def make(path):
        env.git("clone", "-q", "--no-checkout", "--shared", str(repo), str(path / "tree"))
        tree = path / "tree"
        for key, value in (("core.autocrlf", "false"), ("core.symlinks", "true"),
                           ("core.protectNTFS", "false"), ("core.fileMode", "true")):
            env.git("config", key, value, cwd=tree)
        (tree / ".git" / "info" / "attributes").write_text(
            "* -text !eol !ident !filter !working-tree-encoding\n")
        env.git("checkout", "-q", "--detach", commit, cwd=tree)
    return once(f"clone-{Path(repo).name}-{commit[:12]}", make) / "tree"


def path_of(repo):
    return os.fspath(repo)
