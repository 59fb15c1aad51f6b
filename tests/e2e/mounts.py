"""Mount: the program driven as a person would, with nothing left behind.

    mount = t.use(Mount(url))                    # xcpfs mount, waits, unmounts at the end
    mount = t.use(Mount(url, "--ref", "v1", cache=other.cache))

A Mount has a cache folder of its own unless one is given, and a debug log in mount.log().
"""

import json
import os
import signal
import subprocess
import threading
import time

from . import env, proc

_live = []


class MountFailed(Exception):
    """The program did not mount; result holds what it said."""

    def __init__(self, result, log):
        super().__init__(f"exit {result.rc}: {result.err.strip()}")
        self.result = result
        self.details = ["log: " + line for line in log.splitlines()[-40:]]


class Mount:
    """Use as a context manager, or start() and unmount()."""

    def __init__(self, source, *options, cache=None, environ=None, at=None, foreground=False,
                 timeout=60, under=(), log_level="debug"):
        self.source = str(source)
        self.options = [str(o) for o in options]
        self.cache = str(cache or env.folder("cache"))
        self.environ = environ or {}
        self.path = str(at or env.folder("mnt"))
        self.log_path = str(env.folder("log") / "log")
        self.pid = None
        self.process = None             # with foreground: the Popen
        self.result = None
        self._foreground = foreground
        self._under = list(under)       # a command that runs the program: valgrind
        self._timeout = timeout
        self._log_level = log_level
        self.seconds = None             # that the command took

    # life

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.clean_up()

    def start(self):
        """Mounts; raises MountFailed."""
        if self._foreground:
            self._start_in_front()
        else:
            began = time.monotonic()
            self.result = proc.xcpfs(*self.argv(), environ=self.environ, timeout=self._timeout)
            self.seconds = time.monotonic() - began
            if self.result.rc:
                raise MountFailed(self.result, self.log())
        _live.append(self)
        self.pid = self.status()["pid"]
        return self

    def argv(self):
        return ["mount", *(["-f"] if self._foreground else []), "--cache-dir", self.cache,
                "--log-file", self.log_path, "--log-level", self._log_level, *self.options,
                self.source, self.path]

    def _start_in_front(self):
        self.process = subprocess.Popen(
            [*self._under, env.XCPFS, *self.argv()], env=env.clean(**self.environ),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        proc.wait_until(lambda: self.process.poll() is not None or self.mounted(), self._timeout,
                        "the mount to appear")
        if self.process.poll() is not None:
            out, err = self.process.communicate()
            raise MountFailed(proc.Result(self.argv(), self.process.returncode, out.decode(),
                                          err.decode()), self.log())

    def mounted(self):
        """Whether the mount table has it: never touches the mountpoint."""
        return os.fsencode(self.path) in env.mountpoints_below(os.fsencode(self.path))

    def unmount(self):
        """xcpfs umount, until daemon and mount are gone; returns the command's Result."""
        result = proc.xcpfs("umount", self.path, environ=self.environ)
        if result.rc == 0:
            self.wait_gone()
        return result

    def wait_gone(self):
        """Waits until neither the mount nor its daemon is there."""
        proc.wait_until(lambda: not self.mounted(), 20, "the mount to go")
        if self.process:
            self.process.wait(20 * env.patience())
        else:
            proc.wait_until(lambda: not proc.alive(self.pid), 20, "the daemon to end")
        if self in _live:
            _live.remove(self)

    def kill(self):
        """kill -9 of the daemon."""
        os.kill(self.pid, signal.SIGKILL)
        proc.wait_until(lambda: not proc.alive(self.pid), 20, "the daemon to die")

    def clean_up(self):
        """Unmounts if that has not been done, by force if it must be."""
        if self.mounted():
            try:
                self.unmount()
            except TimeoutError:
                pass
        if self.mounted():
            subprocess.run(["umount", "-l", self.path], stderr=subprocess.DEVNULL, check=False)
        if self.pid and proc.alive(self.pid):
            if not proc.wait_until(lambda: not proc.alive(self.pid), 5, fail=False):
                os.kill(self.pid, signal.SIGKILL)
        if self.process:
            self.process.stdout.close()
            self.process.stderr.close()
            self.process.wait(20)
        if self in _live:
            _live.remove(self)

    # asking

    def status(self, path=None):
        """xcpfs status --json as a dict."""
        result = proc.xcpfs("status", "--json", path or self.path, environ=self.environ)
        if result.rc:
            raise RuntimeError(f"status: {result!r}")
        answer = json.loads(result.out)
        return answer[0] if isinstance(answer, list) else answer

    def stats(self):
        """xcpfs stats --json as a dict."""
        result = proc.xcpfs("stats", "--json", self.path, environ=self.environ)
        if result.rc:
            raise RuntimeError(f"stats: {result!r}")
        return json.loads(result.out)

    def idle(self):
        """Waits until the daemon has nothing on its way."""
        proc.wait_until(lambda: self.stats()["flights"] == 0, 30, "flights to end")

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def log_lines(self, *words):
        """Lines of the log that contain every word."""
        return [line for line in self.log().splitlines() if all(w in line for w in words)]

    # files

    def join(self, name=""):
        """A path (bytes) below the mount."""
        return os.path.join(os.fsencode(self.path), os.fsencode(name))

    def read(self, name):
        with open(self.join(name), "rb") as file:
            return file.read()

    def stat(self, name=""):
        return os.lstat(self.join(name))

    def list(self, name=""):
        return sorted(os.listdir(self.join(name)))


def expect_failure(source, *options, environ=None, cache=None, timeout=60):
    """xcpfs mount where it must fail: returns the Result; what mounts after all is unmounted."""
    mount = Mount(source, *options, environ=environ, cache=cache, timeout=timeout)
    try:
        mount.start()
    except MountFailed as error:
        error.result.log = mount.log()
        return error.result
    mount.clean_up()
    mount.result.log = mount.log()
    return mount.result


def table_line(path):
    """The fields of a mount in mountinfo: (fstype, source, options) as text, or None."""
    wanted = os.fsencode(path)
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            before, _, after = line.rstrip(b"\n").partition(b" - ")
            fields = before.split(b" ")
            if env.unescape(fields[4]) == wanted:
                kind, source, options = after.split(b" ", 2)
                return (kind.decode(), os.fsdecode(env.unescape(source)),
                        fields[5].decode() + "," + options.decode())
    return None


def abort_all():
    """Ends every daemon of the story, so that whoever is blocked on a mount gets an error."""
    for pid in proc.program_children():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


class Readers:
    """Threads that call a function with each item; errors and results are kept by item."""

    def __init__(self, items, function, threads=None):
        self.results, self.errors = {}, {}
        self._items = list(items)
        self._function = function
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, daemon=True)
                        for _ in range(threads or len(self._items))]
        self.tids = set()

    def start(self):
        threading.stack_size(256 * 1024)
        try:
            for thread in self.threads:
                thread.start()
        finally:
            threading.stack_size(0)
        return self

    def join(self, timeout=100):
        """Waits for all; returns how many threads are stuck."""
        end = time.monotonic() + timeout * env.patience()
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
        return sum(t.is_alive() for t in self.threads)

    def blocked_in(self, numbers):
        """How many threads are in one of these system calls right now."""
        with self._lock:
            tids = list(self.tids)
        return sum(proc.syscall_of(tid) in numbers for tid in tids)

    def _run(self):
        with self._lock:
            self.tids.add(threading.get_native_id())
        while True:
            with self._lock:
                if not self._items:
                    self.tids.discard(threading.get_native_id())
                    return
                item = self._items.pop(0)
            try:
                value = self._function(item)
                with self._lock:
                    self.results[item] = value
            except Exception as error:        # pylint: disable=broad-except
                with self._lock:
                    self.errors[item] = error


SYS_READ, SYS_PREAD = (0, 17) if os.uname().machine == "x86_64" else (63, 67)


def read_whole(path):
    """Reads a file through its descriptor (so that a blocked thread is in read or pread)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while True:
            part = os.read(fd, 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(fd)
