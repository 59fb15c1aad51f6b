"""What people do today: git clone, curl, and rclone's mount of files over http."""

import os
import shutil
import signal
import subprocess

from e2e import env, proc

from .stage import timed

FULL = "--depth 1"
BLOBLESS = "-n --depth 1 --filter=blob:none"
BLOBLESS_FILES = "--depth 1 --filter=blob:none"


def clone(stage, options, tag="v1"):
    """git clone over the link; returns the Reading and the folder."""
    path = env.folder("clone")
    meter = stage.meter()
    seconds = timed(f"git clone -q {options} -b {tag} {stage.url()} {path}", "/")
    return meter.stop(seconds), path


def fetch(stage, path, tag):
    """git fetch --depth 1 of another tag, and its files checked out."""
    meter = stage.meter()
    seconds = timed(f"git fetch -q --depth 1 origin tag {tag} && git checkout -q {tag}", path)
    return meter.stop(seconds)


def curl(stage, name, ranges=""):
    """One curl of a file, or of parts of it one after the other (as "0-9 10-19")."""
    url = f"{stage.static_url}/{os.fsdecode(name)}"
    meter = stage.meter()
    seconds = sum(timed(f"curl -sf -o /dev/null {'-r ' + part if part else ''} {url}", "/")
                  for part in ranges.split() or [""])
    return meter.stop(seconds)


def have_rclone():
    return shutil.which("rclone") is not None


class Rclone:
    """rclone's mount of the commit's files; use as a context manager."""

    def __init__(self, stage):
        self.path = str(env.folder("rclone"))
        self._cache = env.folder("rclone-cache")
        self._url = stage.static_url
        self._process = None

    def __enter__(self):
        self._process = subprocess.Popen(
            ["rclone", "mount", ":http:", self.path, "--http-url", self._url + "/",
             "--read-only", "--vfs-cache-mode", "full", "--cache-dir", self._cache,
             "--vfs-read-chunk-size", "4M", "--buffer-size", "16M", "--dir-cache-time", "24h",
             "--config", "/dev/null"],
            env=env.clean(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=env.die_with_parent)
        proc.wait_until(self._mounted, 30, "rclone to mount")
        return self

    def _mounted(self):
        return os.fsencode(self.path) in env.mountpoints_below(os.fsencode(self.path))

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        if self._mounted():
            subprocess.run(["umount", "-l", self.path], check=False)
        shutil.rmtree(self._cache, ignore_errors=True)
