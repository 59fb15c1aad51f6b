"""Compares a mount with a checkout: every name, type, mode, size, link target and byte.

The walk is that of a person reading everything: list a directory, look at each entry, read
each file, then go down. It uses one thread, so that counts of requests are the same each time.
"""

import os
import stat
from dataclasses import dataclass, field

_SHOWN = 20


@dataclass
class Report:
    """What was compared, and what was not the same."""
    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    differences: list = field(default_factory=list)

    def add(self, path, what):
        if len(self.differences) < _SHOWN:
            self.differences.append(f"{path!r}: {what}")
        elif len(self.differences) == _SHOWN:
            self.differences.append("and more")


class Comparison:
    """compare() is the short way; the class lets a story stop or choose the parts."""

    def __init__(self, mount, clone, mtime=None, content=True, on_file=None):
        self._mount, self._clone = os.fsencode(mount), os.fsencode(clone)
        self._mtime, self._content, self._on_file = mtime, content, on_file
        self.report = Report()

    def run(self, below=b""):
        folders = [below]
        while folders:
            folders += self._folder(folders.pop())
        return self.report

    def _folder(self, folder):
        report = self.report
        report.folders += 1
        with os.scandir(os.path.join(self._mount, folder)) as listing:
            ours = {entry.name: entry for entry in listing}
        names = set(os.listdir(os.path.join(self._clone, folder))) - ({b".git"} if not folder
                                                                      else set())
        for name in names ^ set(ours):
            report.add(os.path.join(folder, name),
                       "missing" if name in names else "not in the clone")
        below = []
        for name in (n for n in ours if n in names):      # in readdir's order
            path = os.path.join(folder, name)
            want = os.lstat(os.path.join(self._clone, path))
            self._entry(path, ours[name], want)
            if stat.S_ISDIR(want.st_mode):
                below.append(path)
        return below[::-1]

    def _entry(self, path, entry, want):
        report = self.report
        got = os.lstat(os.path.join(self._mount, path))
        kind = stat.S_IFMT(got.st_mode)
        if kind != stat.S_IFMT(want.st_mode):
            report.add(path, f"type {got.st_mode:o}, not {want.st_mode:o}")
            return
        if entry.inode() != got.st_ino:
            report.add(path, f"d_ino {entry.inode()}, st_ino {got.st_ino}")
        if entry.is_dir(follow_symlinks=False) != stat.S_ISDIR(got.st_mode) \
                or entry.is_symlink() != stat.S_ISLNK(got.st_mode):
            report.add(path, "d_type is not the type")
        if not 0 < got.st_ino < 1 << 48:
            report.add(path, f"st_ino {got.st_ino} is not below 2^48")
        if got.st_nlink != 1:
            report.add(path, f"st_nlink {got.st_nlink}")
        if got.st_uid != os.geteuid() or got.st_gid != os.getegid():
            report.add(path, f"owner {got.st_uid}:{got.st_gid}")
        if self._mtime is not None and int(got.st_mtime) != self._mtime:
            report.add(path, f"mtime {got.st_mtime}, not {self._mtime}")
        if kind == stat.S_IFREG:
            self._file(path, got, want)
        elif kind == stat.S_IFLNK:
            self._link(path, got)

    def _file(self, path, got, want):
        report = self.report
        report.files += 1
        if got.st_size != want.st_size:
            report.add(path, f"size {got.st_size}, not {want.st_size}")
        if bool(got.st_mode & 0o111) != bool(want.st_mode & 0o111) or got.st_mode & 0o444 != 0o444:
            report.add(path, f"mode {got.st_mode:o}, not like {want.st_mode:o}")
        if got.st_blocks != (got.st_size + 511) // 512:
            report.add(path, f"st_blocks {got.st_blocks} for {got.st_size} bytes")
        if self._content:
            with open(os.path.join(self._mount, path), "rb") as ours, \
                    open(os.path.join(self._clone, path), "rb") as theirs:
                at = 0
                while True:
                    one, two = ours.read(1 << 20), theirs.read(1 << 20)
                    if one != two:
                        report.add(path, f"bytes differ from {at} on ({len(one)}, {len(two)})")
                        break
                    if not one:
                        break
                    at += len(one)
                report.bytes += at
        if self._on_file:
            self._on_file(report)

    def _link(self, path, got):
        self.report.links += 1
        target = os.readlink(os.path.join(self._clone, path))
        ours = os.readlink(os.path.join(self._mount, path))
        if ours != target:
            self.report.add(path, f"target {ours!r}, not {target!r}")
        if got.st_size != len(target):
            self.report.add(path, f"link size {got.st_size}, not {len(target)}")


def compare(mount, clone, **options):
    """Compares everything; see Report."""
    return Comparison(mount, clone, **options).run()
