"""What is measured on: source trees of three sizes, and large files.

Each is a bare repository with two commits, tagged v1 (which HEAD names) and v2, packed as a
forge would: one pack with a bitmap, a commit graph, packed refs. It is made once and kept in
the work folder. Trees are the upstream files of Debian source packages; where the mirror has
no second version of one, v2 is v1 with about one file in a hundred changed.
"""

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e import debsource, env, repos

MIB = 1 << 20
BIG, HALF, BIGGEST = b"256MiB.bin", b"256MiB.hex", b"1GiB.bin"
_PACKAGES = {"small": "mbedtls", "medium": "git", "linux": "linux"}
_PINNED = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
           (("NAME", "Bench"), ("EMAIL", "bench@example.org"), ("DATE", "1600000000 +0000"))}


@dataclass
class Repository:
    name: str
    path: Path

    def checkout(self, tag="v1"):
        """The files of a tag on the local disk."""
        return repos.clone(self.path, tag)

    def commit(self, tag="v1"):
        return repos.rev(self.path, tag)

    def files(self, tag="v1"):
        """path (bytes) -> (id, size), without links."""
        return repos.blobs(self.path, tag)

    def sample(self, count, tag="v1", seed=1):
        """Some small files, the same ones every time."""
        small = sorted(p for p, (_, size) in self.files(tag).items() if 0 < size < 65536)
        return random.Random(seed).sample(small, min(count, len(small)))


def names():
    return [*_PACKAGES, "big"]


def get(name):
    make = _make_big if name == "big" else lambda path: _make_tree(path, _PACKAGES[name])
    return Repository(name, repos.once(f"bench-{name}.git", make))


def _make_tree(path, package):
    folder = env.folder("package")
    first, second = _trees(package, folder)
    env.git("init", "-q", "--bare", str(path))
    _commit(path, first, "v1")
    if second is None:
        _change_some(first)
    _commit(path, second or first, "v2")
    _pack(path)
    shutil.rmtree(folder)


def _trees(package, folder):
    """The unpacked files of the newest version that can be had, and of another one or None.
    The older of two is the first."""
    apt, trees, seen = debsource.Apt(folder), [], set()
    for version in apt.versions(package):
        upstream = version.split("-")[0]
        if upstream in seen or len(trees) == 2:
            continue
        seen.add(upstream)
        try:
            archive = apt.archive(package, version, timeout=900)
        except debsource.Missing:
            continue                    # listed, and gone from the mirror
        trees.insert(0, debsource.unpack(archive, env.folder("unpacked")))
    if not trees:
        raise debsource.Missing(f"no version of {package} can be had")
    return trees[0], trees[1] if len(trees) == 2 else None


def _change_some(tree):
    """A release's worth of changes: a line more in about one file in a hundred."""
    kinds = {".c": "/* second release */\n", ".h": "/* second release */\n",
             ".md": "\nSecond release.\n", ".adoc": "\nSecond release.\n"}
    files = sorted(p for p in tree.rglob("*") if p.suffix in kinds and not p.is_symlink())
    total = sum(1 for p in tree.rglob("*") if p.is_file())
    for path in files[::max(1, len(files) * 100 // total)]:
        with open(path, "a", encoding="utf-8") as file:
            file.write(kinds[path.suffix])


def _commit(path, tree, tag):
    """Commits the files of a folder on main; v1 is where HEAD stays."""
    where = ("--git-dir", str(path), "--work-tree", str(tree))
    environ = env.clean(**_PINNED)
    env.git(*where, "add", "-A", "-f", ".", env=environ)
    env.git(*where, "commit", "-q", "-m", tag, env=environ)
    env.git("tag", tag, cwd=path)


def _pack(path):
    (path / "index").unlink()
    env.git("branch", "-f", "later", "v2", cwd=path)
    env.git("update-ref", "refs/heads/main", "v1^{commit}", cwd=path)
    env.git("reflog", "expire", "--expire=now", "--all", cwd=path)
    env.git("repack", "-q", "-a", "-d", "-b", cwd=path)
    env.git("commit-graph", "write", "--reachable", cwd=path)
    env.git("pack-refs", "--all", cwd=path)


def _make_big(path):
    tree = env.folder("big")
    env.git("init", "-q", "--bare", str(path))
    env.git("config", "core.bigFileThreshold", "16m", cwd=path)
    _write(tree / os.fsdecode(BIG), 256, lambda rng: rng.randbytes(MIB))
    _write(tree / os.fsdecode(HALF), 256, lambda rng: rng.randbytes(MIB // 2).hex().encode())
    _write(tree / os.fsdecode(BIGGEST), 1024, lambda rng: rng.randbytes(MIB))
    (tree / "README").write_text("first\n")
    _commit(path, tree, "v1")
    (tree / "README").write_text("second\n")
    _commit(path, tree, "v2")
    _pack(path)
    shutil.rmtree(tree)


def _write(path, mib, piece):
    rng = random.Random(path.name)
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(piece(rng))
