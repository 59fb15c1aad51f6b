"""A real source tree, from a Debian source package of the machine's own mirror.

The deb-src lines are the machine's deb lines with another type, used with private lists and a
private cache: nothing of the system is changed. What was unpacked stays in WORK as a bare
repository, so only the first run needs the network. real_tree() raises tap.Skip with the
reason where there is no apt, no mirror or no package.
"""

import glob
import os
import subprocess
from pathlib import Path

from . import env, repos, tap

_PACKAGES = ("busybox", "findutils", "git")      # the first that can be had; all over 1,500 files


def real_tree():
    """A bare repository with the upstream files of one package as its only commit."""
    try:
        return repos.once("real-tree.git", _make)
    except _Missing as reason:
        raise tap.Skip(f"no Debian source package could be had: {reason}") from None


class _Missing(Exception):
    pass


def _make(path):
    archive = _download(env.folder("apt"))
    unpacked = env.folder("unpacked")
    done = subprocess.run(["tar", "-xf", archive, "-C", unpacked], env=env.clean(),
                          stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise _Missing(f"tar: {done.stderr.decode(errors='replace')}")
    top = list(unpacked.iterdir())
    tree = top[0] if len(top) == 1 and top[0].is_dir() else unpacked
    env.git("init", "-q", "--bare", str(path))
    location = ("--git-dir", str(path), "--work-tree", str(tree))
    env.git(*location, "add", "-A", "-f", ".")
    env.git(*location, "commit", "-q", "-m", archive.name)
    env.git("repack", "-q", "-a", "-d", cwd=path)
    (path / "index").unlink()
    if len(repos.blobs(path)) < 1500:
        raise _Missing(f"{archive.name} has too few files")


def _download(folder):
    sources = folder / "private.sources"
    sources.write_text(_source_lines())
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache").mkdir()
    options = ["-qq"]
    for option in (f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-",
                   f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache",
                   "APT::Sandbox::User=root", "Acquire::Retries=1",
                   "Acquire::http::Timeout=20", "Acquire::https::Timeout=20"):
        options += ["-o", option]
    _apt(folder, "apt-get", *options, "update")
    reason = "no package asked for"
    for package in _PACKAGES:
        try:
            _apt(folder, "apt-get", *options, "source", "--download-only", package)
            archives = [a for a in glob.glob(f"{folder}/{package}_*.orig.tar.*")
                        if not a.endswith(".asc")]
            if archives:
                return Path(archives[0])
        except _Missing as error:
            reason = error
    raise _Missing(reason)


def _apt(folder, *argv):
    # The real environment: a proxy that apt needs is allowed here.
    try:
        done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, timeout=180,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Missing(error) from None
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        raise _Missing(f"{argv[0]} {argv[-1]}: {lines[-1] if lines else 'failed'}")


def _source_lines():
    """The machine's binary sources, asked for as sources, as deb822 text."""
    stanzas = []
    for name in glob.glob("/etc/apt/sources.list.d/*.sources"):
        text = "\n".join(line for line in Path(name).read_text().splitlines()
                         if not line.startswith("#"))
        for stanza in text.split("\n\n"):
            lines = ["Types: deb-src" if line.lower().startswith("types:") else line
                     for line in stanza.splitlines() if line.strip()]
            if any(line.lower().startswith("uris:") for line in lines) \
                    and not any(line.lower() == "enabled: no" for line in lines):
                stanzas.append("\n".join(lines))
    for name in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*.list")]:
        if os.path.exists(name):
            stanzas += _one_line_sources(Path(name).read_text())
    if not stanzas:
        raise _Missing("this machine has no apt sources")
    return "\n\n".join(stanzas) + "\n"


def _one_line_sources(text):
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words or words[0] != "deb":
            continue
        signed = ""
        if words[1].startswith("["):
            end = next(i for i, w in enumerate(words) if w.endswith("]"))
            for option in " ".join(words[1:end + 1]).strip("[]").split():
                if option.startswith("signed-by="):
                    signed = "\nSigned-By: " + option.partition("=")[2]
            words = [words[0], *words[end + 1:]]
        yield (f"Types: deb-src\nURIs: {words[1]}\nSuites: {words[2]}\n"
               f"Components: {' '.join(words[3:])}{signed}")
