"""A real source tree, from a Debian source package of the machine's own mirror.

The deb-src lines are the machine's deb lines with another type, used with private lists and a
private cache: nothing of the system is changed. What was unpacked stays in WORK as a bare
repository, so only the first run needs the network. real_tree() raises tap.Skip with the
reason where there is no apt, no mirror or no package.
"""

import glob
import os
import re
import subprocess
from pathlib import Path

from . import env, repos, tap

_PACKAGES = ("busybox", "findutils", "git")      # the first that can be had; all over 1,500 files


def real_tree():
    """A bare repository with the upstream files of one package as its only commit."""
    try:
        return repos.once("real-tree.git", _make)
    except Missing as reason:
        raise tap.Skip(f"no Debian source package could be had: {reason}") from None


class Missing(Exception):
    """What was asked for cannot be had; says why."""


def _make(path):
    archive = _download(env.folder("apt"))
    tree = unpack(archive, env.folder("unpacked"))
    env.git("init", "-q", "--bare", str(path))
    location = ("--git-dir", str(path), "--work-tree", str(tree))
    env.git(*location, "add", "-A", "-f", ".")
    env.git(*location, "commit", "-q", "-m", archive.name)
    env.git("repack", "-q", "-a", "-d", cwd=path)
    (path / "index").unlink()
    if len(repos.blobs(path)) < 1500:
        raise Missing(f"{archive.name} has too few files")


def unpack(archive, folder):
    """Unpacks an archive; returns the folder of its files."""
    done = subprocess.run(["tar", "-xf", archive, "-C", folder], env=env.clean(),
                          stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise Missing(f"tar: {done.stderr.decode(errors='replace')}")
    top = list(folder.iterdir())
    return top[0] if len(top) == 1 and top[0].is_dir() else folder


def _download(folder):
    apt, reason = Apt(folder), "no package asked for"
    for package in _PACKAGES:
        try:
            return apt.archive(package)
        except Missing as error:
            reason = error
    raise Missing(reason)


class Apt:
    """apt with lists and a cache of its own in a folder; whatever fails raises Missing."""

    def __init__(self, folder):
        self._folder = folder
        sources = folder / "private.sources"
        sources.write_text(_source_lines())
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache").mkdir()
        self._options = ["-qq"]
        for option in (f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-",
                       f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache",
                       "APT::Sandbox::User=root", "Acquire::Retries=1",
                       "Acquire::http::Timeout=20", "Acquire::https::Timeout=20"):
            self._options += ["-o", option]
        self._run("apt-get", "update")

    def versions(self, package):
        """The versions of a source package that the mirror lists, the newest first."""
        listed = self._run("apt-cache", "madison", package).splitlines()
        found = [line.split("|")[1].strip() for line in listed if line.endswith("Sources")]
        return sorted(set(found), key=_VersionKey, reverse=True)

    def archive(self, package, version=None, timeout=180):
        """Downloads a package's upstream archive; returns its path."""
        self._run("apt-get", "source", "--download-only",
                  f"{package}={version}" if version else package, timeout=timeout)
        version = (version or "*").split(":")[-1].split("-")[0]
        archives = [a for a in glob.glob(f"{self._folder}/{package}_{version}.orig.tar.*")
                    if not a.endswith(".asc")]
        if not archives:
            raise Missing(f"{package} {version} has no upstream archive")
        return Path(archives[0])

    def _run(self, program, *argv, timeout=180):
        # The real environment: a proxy that apt needs is allowed here.
        try:
            done = subprocess.run([program, *self._options, *argv], cwd=self._folder,
                                  stdin=subprocess.DEVNULL, timeout=timeout, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(error) from None
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        if done.returncode:
            raise Missing(f"{program} {argv[-1]}: {lines[-1] if lines else 'failed'}")
        return "\n".join(lines)


class _VersionKey:
    """Orders version numbers well enough: digits as numbers, the rest as text."""

    def __init__(self, version):
        self._parts = [int(part) if part.isdigit() else part
                       for part in re.split(r"(\d+)", version)]

    def __lt__(self, other):
        return self._parts < other._parts


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
        raise Missing("this machine has no apt sources")
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
