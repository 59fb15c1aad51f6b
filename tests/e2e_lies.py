#!/usr/bin/env python3
"""A server that lies on purpose: about sizes, about how much is to come, about ever finishing.

Sizes come without a proof: a wrong one may be seen until the content has come, never after.
"""

import errno
import hashlib
import os
import re
import struct
import time
import zlib

from e2e import env, faults, repos, tap, wire
from e2e.mounts import Mount

TIMEOUT = "3"                             # seconds without progress; the default is 30
NAME = "lied-about"
CONTENT = b"0123456789" * 1000


class World:
    def __init__(self, t):
        repo = env.folder("lies")
        with repos.Importer(repo) as importer:
            importer.commit("refs/heads/main", {NAME.encode(): ("100644", CONTENT),
                                                b"honest": ("100644", b"honest\n"),
                                                b"empty": ("100644", b"")})
        self.server = t.use(faults.FaultServer())
        self.url = self.server.add(repo, "r.git")
        self.oid = repos.blobs(repo)[NAME.encode()][0]


def told(oid, size):
    """object-info answers with another size for one object."""
    def act(answer):
        status, headers, body = answer.real()
        lines = [re.sub(b"(?<=^%s ).*" % oid.encode(), b"%d" % size, packet)
                 for packet in wire.packets(body) if isinstance(packet, bytes)]
        return answer.send(status, headers, b"".join(map(wire.pkt, lines)) + wire.FLUSH)
    act.__name__ = f"size_{size}"
    return act


def sent(pack):
    """Content requests are answered with this pack."""
    def act(answer):
        bands = [wire.pkt(b"\x01" + pack[at:at + 60000]) for at in range(0, len(pack), 60000)]
        return answer.send(200, [("Content-Type", "application/x-git-upload-pack-result")],
                           wire.pkt(b"packfile\n") + b"".join(bands) + wire.FLUSH)
    act.__name__ = "made_up_pack"
    return act


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def entry(kind, data, between=b""):
    first, rest = kind << 4 | len(data) & 15, len(data) >> 4
    head = bytes([first | 128]) + varint(rest) if rest else bytes([first])
    return head + between + zlib.compress(data)


def bomb():
    """A pack of a few KiB: 1 MiB of zeros, a delta that makes 1 GiB of it, one that makes 1 TiB."""
    base = entry(3, bytes(1 << 20))
    first = varint(1 << 20) + varint(1 << 30) + b"\xc0\x10" * 1024
    second = varint(1 << 30) + varint(1 << 40) + b"\xc0\x10" * (1 << 20)

    def back(length):
        out = bytes([length & 127])
        length >>= 7
        while length:
            length -= 1
            out = bytes([128 | length & 127]) + out
            length >>= 7
        return out
    first = entry(6, first, back(len(base)))
    body = b"PACK" + struct.pack(">II", 2, 3) + base + first + entry(6, second, back(len(first)))
    return body + hashlib.sha1(body).digest()


def read(mount, name=NAME):
    """All bytes, whatever size stat tells; None for EIO."""
    fd = os.open(mount.join(name), os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(fd, 65536), b""))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
    finally:
        os.close(fd)


def test_a_wrong_size_does_not_outlive_the_content(t, w):
    for size in (1, 4096, 8192, len(CONTENT) - 1, len(CONTENT) + 1, 1 << 30, 1 << 50, 1 << 62):
        mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
        rule = w.server.rule(told(w.oid, size), kind="object-info")
        mount.list()                    # then sizes are asked for, not the content
        t.equal(mount.stat(NAME).st_size, size, f"{size}: stat before")
        t.at_least(rule.hits, 1, f"{size}: sizes were asked for")
        first = read(mount)
        t.ok(first in (None, CONTENT), f"{size}: the first read is right or fails")
        t.equal(read(mount), CONTENT, f"{size}: the second read")
        t.equal(mount.stat(NAME).st_size, len(CONTENT), f"{size}: stat after")
        mount.idle()
        mount.unmount()
        rule.release()
        again = t.use(Mount(w.url, cache=mount.cache))
        t.equal(again.stat(NAME).st_size, len(CONTENT), f"{size}: stat after a remount")
        again.unmount()


def test_only_the_empty_file_is_empty(t, w):
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    rule = w.server.rule(told(w.oid, 0), kind="object-info")
    mount.list()                        # then sizes are asked for, not the content
    t.equal(mount.stat(NAME).st_size, len(CONTENT), "stat, the content telling it")
    t.at_least(rule.hits, 1, "times that it was told wrongly")
    t.equal(mount.stat("empty").st_size, 0, "size of the empty file")
    rule.release()
    t.equal(read(mount), CONTENT, "read")


def test_answers_that_break_off_for_ever_end(t, w):
    """Each brings bytes, so that the deadline alone would never end the wait."""
    mount = t.use(Mount(w.url, "--timeout", "20"))
    rule = w.server.rule(faults.truncate_pack(40), kind="content")
    start = time.monotonic()
    t.ok(read(mount) is None, "the read fails")
    t.at_most(time.monotonic() - start, 60 * env.patience(), "seconds")
    rule.release()
    t.equal(read(mount), CONTENT, "read when it is gone")


def test_a_bomb_does_not_fill_the_disk(t, w):
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    rule = w.server.rule(sent(bomb()), kind="content")
    free = os.statvfs(mount.cache).f_bavail * os.statvfs(mount.cache).f_frsize
    t.ok(read(mount) is None, "the read fails")
    left = os.statvfs(mount.cache).f_bavail * os.statvfs(mount.cache).f_frsize
    t.at_most((free - left) >> 20, 4096, "MiB of disk that went")
    rule.release()
    start = time.monotonic()
    t.equal(mount.unmount().rc, 0, "unmount while it goes on")
    t.at_most(time.monotonic() - start, 10 * env.patience(), "seconds until it is gone")


tap.run([
    test_a_wrong_size_does_not_outlive_the_content,
    test_only_the_empty_file_is_empty,
    test_answers_that_break_off_for_ever_end,
    test_a_bomb_does_not_fill_the_disk,
], World, needs=("program", "fuse"))
