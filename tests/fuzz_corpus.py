#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: fuzz_corpus.py FOLDER writes FOLDER/<target>/<seed>.

Seeds are what a real git says and stores, from a small repository made here, with the leading
bytes that each target reads as its choice. To add a target: a function named after it that
yields bytes, and nothing else. Without git a few seeds written by hand remain.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

GIT_ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent",
           "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
           "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
           "GIT_COMMITTER_NAME": "c", "GIT_COMMITTER_EMAIL": "c@example.org",
           "GIT_AUTHOR_DATE": "1700000000 +0100", "GIT_COMMITTER_DATE": "1700000000 +0100"}


def git(repo, *words, data=None, **environ):
    done = subprocess.run(["git", *words], cwd=repo, input=data, env={**GIT_ENV, **environ},
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return done.stdout


class Repo:
    """Two commits, an annotated tag, a symlink, a program, a folder, blobs worth a delta."""

    def __init__(self, where, algo):
        self.algo = algo
        self.path = Path(where)
        self.path.mkdir()
        git(self.path, "init", "-q", f"--object-format={algo}", ".")
        text = "".join(f"line {n} of a file that has many\n" for n in range(200))
        (self.path / "dir").mkdir()
        (self.path / "dir" / "file.txt").write_text(text)
        (self.path / "empty").write_text("")
        (self.path / "run.sh").write_text("#!/bin/sh\n")
        (self.path / "run.sh").chmod(0o755)
        (self.path / "link").symlink_to("dir/file.txt")
        self.commit("one")
        (self.path / "dir" / "file.txt").write_text(text.replace("line 77", "LINE 77") + "end\n")
        self.commit("two\n\nwith a body")
        git(self.path, "tag", "-a", "-m", "a tag", "v1")
        git(self.path, "config", "uploadpack.allowFilter", "true")
        git(self.path, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(self.path, "config", "transfer.advertiseObjectInfo", "true")

    def commit(self, message):
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "-m", message)

    def ids(self):
        out = git(self.path, "cat-file", "--batch-check=%(objectname) %(objecttype)",
                  "--batch-all-objects").decode()
        return [line.split() for line in out.splitlines()]

    def object(self, oid, kind):
        return git(self.path, "cat-file", kind, oid)

    def rev(self, name):
        return git(self.path, "rev-parse", name).decode().strip()

    def pack(self, *options):
        names = "\n".join(oid for oid, _ in self.ids()) + "\n"
        return git(self.path, "pack-objects", "-q", "--stdout", *options, data=names.encode())

    def answer(self, request, version=2):
        """What upload-pack answers to one stateless request."""
        return git(self.path, "upload-pack", "--stateless-rpc", ".", data=request,
                   GIT_PROTOCOL=f"version={version}")

    def advert(self, version):
        return git(self.path, "upload-pack", "--http-backend-info-refs", ".",
                   GIT_PROTOCOL=f"version={version}")


def pkt(*lines):
    out = b""
    for line in lines:
        if line is None:
            out += b"0000"
        elif line == "delim":
            out += b"0001"
        else:
            raw = line.encode() + b"\n"
            out += b"%04x" % (len(raw) + 4) + raw
    return out


def selector(repo):
    return b"\1" if repo.algo == "sha256" else b"\0"


def command(repo, name, *arguments):
    return pkt(f"command={name}", f"object-format={repo.algo}", "delim", *arguments, None)


def fetch_request(repo):
    return command(repo, "fetch", f"want {repo.rev('HEAD')}", "deepen 1", "no-progress", "done")


def varint(number):
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


# ---- one function per target ----

def fuzz_pktline(repos):
    for repo in repos:
        yield b"\3" + repo.advert(2)
        yield b"\0" + repo.answer(command(repo, "ls-refs", "symrefs", "peel"))
        yield b"\7" + repo.answer(fetch_request(repo))
    yield b"\1" + b"0000000100020005a0004"
    yield b"\1" + b"fff0" + b"x" * 100


def fuzz_protocol(repos):
    for repo in repos:
        head = repo.rev("HEAD")
        info = command(repo, "object-info", "size", f"oid {repo.rev('HEAD:run.sh')}")
        for version in (0, 1, 2):
            yield b"\0\5" + repo.advert(version)
        yield b"\1\7" + repo.answer(command(repo, "ls-refs", "symrefs", "peel", "unborn"))
        yield b"\2\3" + repo.answer(info)
        yield b"\3\11" + repo.answer(fetch_request(repo))
        for number, words in ((b"\4\13", " side-band-64k"), (b"\5\13", "")):
            caps = f"want {head}{words} no-progress object-format={repo.algo}"
            yield number + repo.answer(pkt(caps, "deepen 1", None, "done"), version=0)
    for number in range(6):
        yield bytes([number, 4]) + pkt("ERR no such thing")


def fuzz_pack(repos):
    for repo in repos:
        choice = 8 if repo.algo == "sha256" else 0
        for options in ((), ("--delta-base-offset",), ("--window=0",)):
            yield bytes([choice | 4]) + repo.pack(*options)
    yield b"\0PACK\0\0\0\2\0\0\0\1" + b"\x35" + zlib.compress(b"hello")
    yield b"\0PACK\0\0\0\2\xff\xff\xff\xff"


def fuzz_content_range(_repos):
    for text in ("bytes 0-0/1", "bytes 100-149/1000", "BYTES 0-9/*", "bytes */1000",
                 "bytes 0-9223372036854775806/9223372036854775807",
                 "bytes 0-1/18446744073709551616", "bytes 1-0/2", "bytes=0-1/2", "bytes 0-1/2, 3"):
        yield text.encode()


def fuzz_delta(_repos):
    base = bytes(range(64, 128))
    for delta in (b"\x90\x40",                              # copies all
                  b"\x90\x20\x05hello\x91\x20\x20",         # copies, inserts, copies
                  b"\x05hello", b"\x00", b"\xff" + b"\xff" * 7):
        yield bytes([len(base)]) + base + varint(len(base)) + varint(64) + delta
    yield b"\0" + varint(0) + varint(5) + b"\x05hello"


def fuzz_tree(repos):
    for repo in repos:
        for oid, kind in repo.ids():
            if kind == "tree":
                yield selector(repo) + repo.object(oid, kind)
    for name in (b".git", b".GIT", b"git~1", b".g\xe2\x80\x8cit", b"..", b"a/b", b".gitmodules "):
        yield b"\0" + name
        yield b"\0" + b"100644 " + name + b"\0" + b"\xab" * 20


def fuzz_commit(repos):
    for repo in repos:
        for oid, kind in repo.ids():
            if kind in ("commit", "tag"):
                yield selector(repo) + repo.object(oid, kind)
    yield b"\0tree " + b"1" * 40 + b"\nauthor a <a> 1 +0000\ncommitter c <c> -1 +0000\n"


def fuzz_source(_repos):
    for text in ("owner/repo", "owner/repo@v1.2", "github:owner/repo@feature/x",
                 "https://user:secret@example.org:8443/a/b.git@main", "http://[::1]:80/r",
                 "ssh://git@example.org:22/~user/r.git", "git@example.org:path/r.git@v1",
                 "file:///tmp/r%20x.git", "/tmp/a@b.git@v2", "./here", "..", "hf:a/b", "-x/y",
                 "https://example.org/r@" + "a" * 40, "https://u:1 .git@2@example.org/a.git@v1",
                 "https://example.org/x/https://u:secret@h/r.git@v1", "h:x/https://u:secret@h/r"):
        yield b"\0" + text.encode()
    yield b"\1v1.2\nowner/repo"
    yield b"\1feature/x\nhttps://example.org/a@b"


def record(kind, codec, block, size, raw_len, body):
    """One record of a segment, without its checks: the target makes those."""
    head = b"xcRC" + bytes((1, kind, 1, codec)) + bytes(8) + bytes(range(1, 21)) + bytes(12)
    head += block.to_bytes(4, "little") + b"\3\0\0\0" + size.to_bytes(8, "little")
    head += raw_len.to_bytes(4, "little") + len(body).to_bytes(4, "little") + bytes(16)
    return head + body + bytes(-len(body) % 8)


def lmdb_pages():
    """
    An environment of pages of 512 bytes: a list of free pages, and a database of three leaves, of
    which one has a value on a page of its own.
    """
    size = 512

    def page(number, flags, nodes=()):
        body, pointers, upper = bytearray(size), [], size
        for node in nodes:
            upper -= len(node) + len(node) % 2
            body[upper:upper + len(node)] = node
            pointers.append(upper)
        struct.pack_into("<QHHHH", body, 0, number, 0, flags, 16 + 2 * len(pointers), upper)
        struct.pack_into(f"<{len(pointers)}H", body, 16, *pointers)
        return bytes(body)

    def node(flags, key, value):
        return struct.pack("<HHHH", len(value), 0, flags, len(key)) + key + value

    def big(key, value_len, number):
        return struct.pack("<HHHH", value_len, 0, 1, len(key)) + key + struct.pack("<Q", number)

    def child(number, key=b""):
        return struct.pack("<HHHH", number, 0, 0, len(key)) + key

    def db(root, depth=1, flags=0, pad=0):
        return struct.pack("<IHHQQQQQ", pad, flags, depth, 0, 1, 0, 1, root)

    def meta(number, txn):
        head = struct.pack("<QHHI", number, 0, 8, 0)
        return (head + struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 1 << 20) + db(2, 1, 8, size) + db(3)
                + struct.pack("<QQ", 10, txn)).ljust(size, b"\0")

    def key(byte):
        return b"\1" + bytes([byte]) * 20

    def leaf(number, *bytes_):
        return page(number, 2, [node(0, key(byte), bytes(72)) for byte in bytes_])

    return (meta(0, 0) + meta(1, 1)
            + page(2, 2, [node(0, struct.pack("<Q", 1), struct.pack("<QQ", 1, 10))])
            + page(3, 2, [node(2, b"objects", db(4, 2))])
            + page(4, 1, [child(5), child(6, key(40)), child(7, key(80))])
            + leaf(5, 1, 20) + leaf(6, 40, 41, 42)
            + page(7, 2, [node(0, key(80), bytes(72)), big(key(90), 900, 8)])
            + struct.pack("<QHHI", 8, 0, 4, 2).ljust(2 * size, b"v")
            + bytes(size))


def fuzz_pages(_repos):
    for choice in (4, 8, 16, 32, 64, 60, 61, 28, 29, 63):
        yield bytes([choice]) + lmdb_pages()


def fuzz_pins(_repos):
    def pin(algo, name, *hashes):
        return (b"xcpfsPIN" + struct.pack("<IIQIIQ", 1, algo, len(hashes), len(name), 0, 0)
                + name + b"".join(hashes))
    yield b"\1" + pin(1, b"https://host/a\nHEAD\nsrc", b"a" * 20, b"b" * 20)
    yield b"\1" + pin(2, b"x", b"a" * 32)
    yield b"\1" + pin(1, b"")


def fuzz_json_items(_repos):
    entry = b'{"path":"a/b","mode":"100644","type":"blob","size":7,"sha":"' + b"a" * 40 + b'"}'
    yield b"\x81" + b'{"sha":"x","tree":[' + entry + b"," + entry + b'],"truncated":false}'
    yield b"\x40[" + entry + b',{"n":"]}\\\""}, {"x":[{"y":[]}]}]'
    yield b"\x01" + b'{"k":{"tree":[{}]},"tree":[],"message":"Not Found"}'

def fuzz_values(_repos):
    key = b"\1" + bytes(20)
    place = struct.pack("<B3xIQQII", 1, 7, 5, 64, 100, 300)
    head = struct.pack("<BBBBB3xQq", 1, 3, 1, 0, 1, 300, 1700000000)
    check = bytes(8)
    yield b"\1" + key + head + struct.pack("<Q", 200) + place + check
    yield b"\1" + key + struct.pack("<BBBBB3xQq", 1, 3, 0, 0, 0, 300, 9) + check
    yield b"\1" + key + (struct.pack("<BBBBB3xQqQ", 1, 3, 4, 1, 0, 300, 9, 0) + b"n" * 20
                         + bytes(12) + check)
    yield b"\3" + key + struct.pack("<B7x", 1) + place + check
    yield b"\5" + key + struct.pack("<B3xIq", 1, 3, 9) + b"keyvalue" + check
    yield b"\7" + key + struct.pack("<B7xQQQ", 1, 900, 500, 10) + check


def fuzz_segment(_repos):
    raw = b"the bytes of a small object"
    frame = (b"\x28\xb5\x2f\xfd\x20" + bytes((27,)) + (27 << 3 | 1).to_bytes(3, "little") + raw)
    zeros = b"\x28\xb5\x2f\xfd\xa0\0\0\2\0" + (131072 << 3 | 3).to_bytes(3, "little") + b"\0"
    yield b"\1" + bytes(64) + record(1, 0, 0, 27, 27, raw) + record(1, 0, 0, 0, 0, b"")
    yield b"\1" + bytes(64) + record(1, 1, 0, 200, 200, frame)
    yield (b"\1" + bytes(64) + record(2, 1, 0, 262144 + 27, 131072, zeros) +
           record(2, 0, 2, 262144 + 27, 27, raw))
    yield b"\0" + b"xcpfsSEG" + bytes(56) + record(1, 0, 0, 27, 27, raw)


def write(folder, target, seeds):
    where = folder / target
    where.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (where / f"seed-{number:03}").write_bytes(seed)


def main():
    folder = Path(sys.argv[1])
    targets = {name: make for name, make in globals().items() if name.startswith("fuzz_")}
    work = Path(tempfile.mkdtemp(prefix="xcpfs-corpus-"))
    try:
        repos = []
        if shutil.which("git"):
            repos = [Repo(work / algo, algo) for algo in ("sha1", "sha256")]
        for name, make in targets.items():
            write(folder, name, make(repos))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
