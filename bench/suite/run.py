"""Run: one pass over the questions on one stage, and what its questions share.

A clone that several questions are compared with is made once in a run, and so is the cache that
warm starts from. put() turns readings into samples.
"""

import contextlib
import os
import shutil

from . import competitors
from .stage import drop_page_cache, timed

READ_ALL = "tar cf - . | cat"


class Run:
    def __init__(self, stage, result):
        self.stage, self.repository = stage, stage.repository
        self._result = result
        self._clones, self._cache, self._folders = {}, None, []

    def close(self):
        for path in self._folders:
            shutil.rmtree(path, ignore_errors=True)

    # what questions share

    def clone(self, options=competitors.FULL):
        """The Reading of a clone, made the first time."""
        return self._cloned(options)[0]

    def local(self):
        """The files on the local disk, as the clone of this run left them."""
        return self._cloned(competitors.FULL)[1]

    def _cloned(self, options):
        if options not in self._clones:
            self._clones[options] = competitors.clone(self.stage, options)
            self._folders.append(self._clones[options][1])
        return self._clones[options]

    @contextlib.contextmanager
    def mounted(self, **how):
        """A mount; its cache goes with it unless it was given."""
        mount = self.stage.mount(**how)
        try:
            with mount:
                yield mount
        finally:
            if "cache" not in how:
                shutil.rmtree(mount.cache, ignore_errors=True)

    def filled_cache(self):
        """A cache into which every file has been read."""
        if not self._cache:
            mount = self.stage.mount()
            with mount:
                timed(READ_ALL, mount.path)
                mount.idle()
            self._cache = mount.cache
            self._folders.append(mount.cache)
        return self._cache

    # what questions do

    def cold(self, command, **how):
        """The Reading of a mount with nothing cached and a command in it."""
        mount = self.stage.mount(**how)
        meter = self.stage.meter()
        try:
            with mount:
                meter.attend(mount)
                return meter.stop(mount.seconds + timed(command, mount.path))
        finally:
            if "cache" not in how:
                shutil.rmtree(mount.cache, ignore_errors=True)

    def after_mount(self, command, mount, **got):
        """The Reading of a command in a mount that is there; got: read or files of Reading."""
        meter = self.stage.meter(mount)
        return meter.stop(timed(command, mount.path), **got)

    def warm_and_hot(self, question, command, **got):
        """From the cache on disk with the page cache dropped, then again, beside local disk."""
        with self.mounted(cache=self.filled_cache()) as mount:
            drop_page_cache()
            warm = self.after_mount(command, mount, **got)
            drop_page_cache()
            self.put(f"{question}.warm", warm, local=timed(command, self.local()))
            self.hot(question, command, mount, **got)

    def hot(self, question, command, mount, times=5, **got):
        """Alternately here and on the local disk; a single one says little when it is short."""
        for path in (mount.path, self.local()):
            timed(command, path)
        for _ in range(times):
            reading = self.after_mount(command, mount, **got)
            self.put(f"{question}.hot", reading, local=timed(command, self.local()))

    # samples

    def put(self, question, reading, **others):
        """Samples of a reading; others: seconds or a Reading by competitor's name."""
        self.value(f"{question}.xcpfs", "s", reading.seconds)
        self.value(f"{question}.requests", "n", reading.requests)
        self.value(f"{question}.bytes", "B", reading.down)
        if reading.rss_kib is not None:
            self.value(f"{question}.rss", "KiB", reading.rss_kib)
            self.value(f"{question}.cpu", "s", reading.cpu_s)
        if reading.read:
            self.value(f"{question}.per-byte", "x", reading.down / reading.read)
        if reading.files:
            self.value(f"{question}.files-per-s", "1/s", reading.files / reading.seconds)
        for name, other in others.items():
            seconds = getattr(other, "seconds", other)
            self.value(f"{question}.{name}", "s", seconds)
            self.value(f"{question}.ratio-{name}", "x", reading.seconds / seconds)
            if getattr(other, "down", 0):
                self.value(f"{question}.requests-{name}", "n", other.requests)
                self.value(f"{question}.bytes-{name}", "B", other.down)
                self.value(f"{question}.ratio-bytes-{name}", "x", reading.down / other.down)

    def value(self, name, unit, value):
        self._result.put(f"{self.stage.name}.{name}", unit, value)


def path_of(mount, name):
    return os.path.join(os.fsencode(str(mount)), name)
