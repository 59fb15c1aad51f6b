"""Processes: running the program, watching daemons through /proc, waiting on conditions.

The story's process is a subreaper: a daemon, and anything a dead daemon leaves, becomes its
child, so that "nothing is left" can be checked and everything can be cleaned up by pid.
"""

import ctypes
import os
import signal
import subprocess
import threading
import time

from . import env

_PR_SET_CHILD_SUBREAPER = 36


class Result:
    """What a finished command left: rc, out and err (text)."""

    def __init__(self, argv, rc, out, err):
        self.argv, self.rc = argv, rc
        self.out, self.err = out, err

    def __repr__(self):
        words = ' '.join(map(str, self.argv))
        return f"<{words}: rc {self.rc}, out {self.out!r}, err {self.err!r}>"


def run(*argv, stdin=None, timeout=60, **kwargs):
    """Runs any command with a clean environment; bounded."""
    kwargs.setdefault("env", env.clean())
    timeout *= env.patience() if os.path.exists(env.XCPFS) else 1
    # Output goes to files, not pipes: a daemon that kept one open would make us wait for ever.
    with open_temp() as out, open_temp() as err:
        try:
            done = subprocess.run([os.fspath(a) if not isinstance(a, (str, bytes)) else a
                                   for a in argv], input=stdin, stdout=out, stderr=err,
                                  stdin=None if stdin is not None else subprocess.DEVNULL,
                                  timeout=timeout, check=False, **kwargs)
            rc = done.returncode
        except subprocess.TimeoutExpired:
            rc = -99
        out.seek(0)
        err.seek(0)
        return Result(argv, rc, out.read().decode(errors="surrogateescape"),
                      err.read().decode(errors="surrogateescape"))


def open_temp():
    import tempfile
    return tempfile.TemporaryFile(dir=env.scratch() / "tmp")


def xcpfs(*argv, environ=None, timeout=60, **kwargs):
    """Runs the program; environ adds to the clean environment."""
    return run(env.XCPFS, *argv, env=env.clean(**(environ or {})), timeout=timeout, **kwargs)


def wait_until(condition, timeout=20, what="condition", fail=True):
    """Polls until condition() is true; returns its value. Bounded; the wait is never a check."""
    end = time.monotonic() + timeout * (env.patience() if os.path.exists(env.XCPFS) else 1)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            if fail:
                raise TimeoutError(f"waited {timeout} s for: {what}")
            return None
        time.sleep(0.005)


def become_subreaper():
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    threading.Thread(target=_reap_adopted, daemon=True).start()


def _reap_adopted():
    """Reaps dead daemons: orphans have a session of their own, what we started shares ours."""
    own_session = os.getsid(0)
    while True:
        for pid in children():
            stat = _stat(pid)
            if stat and stat[0] == "Z" and int(stat[3]) != own_session:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except OSError:
                    pass
        time.sleep(0.02)


def _stat(pid):
    """The fields of /proc/PID/stat behind the name: state, ppid, pgrp, session, ..."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def children(of=None):
    """Pids of the direct children of a process (default: of this one)."""
    parent = str(of or os.getpid())
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(name)
            if stat and stat[1] == parent:
                found.append(int(name))
    return found


def descendants(of=None):
    found = []
    for pid in children(of):
        found += [pid] + descendants(pid)
    return found


def alive(pid):
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def has_terminal(pid):
    """Whether a process has a controlling terminal, or one open."""
    try:
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        names = []
    stat = _stat(pid)
    return bool(stat and int(stat[4])) or any(n.startswith(("/dev/pts/", "/dev/tty"))
                                              for n in names)


def state(pid):
    """The letter of a process's state (R, S, D, Z ...), or None."""
    stat = _stat(pid)
    return stat and stat[0]


def program_children():
    """Live processes below this one that run the program."""
    return [p for p in descendants() if alive(p) and _runs_program(p)]


def _runs_program(pid):
    try:
        return os.path.samefile(f"/proc/{pid}/exe", env.XCPFS)
    except OSError:
        return False


def describe(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return f"{pid}: {file.read().replace(bytes(1), b' ')[:200]!r}"
    except OSError:
        return f"{pid}: gone"


def kill_children():
    """Kills what this story started or adopted, by pid."""
    for pid in descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def status_field(pid, name):
    """One field of /proc/PID/status: a number of KiB or of things, or None."""
    try:
        with open(f"/proc/{pid}/status", encoding="latin-1") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def thread_count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


class RssSampler:
    """The largest RssAnon (KiB) of a process between enter and exit."""

    def __init__(self, pid):
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.max_kib = 0
        self.samples = 0

    def __enter__(self):
        self._thread.start()
        return self

    def _sample(self):
        while not self._stop.is_set():
            self.take()
            self._stop.wait(0.005)

    def take(self):
        value = status_field(self._pid, "RssAnon")
        if value is not None:
            self.max_kib = max(self.max_kib, value)
            self.samples += 1

    def __exit__(self, *_):
        self.take()
        self._stop.set()
        self._thread.join()


def syscall_of(tid):
    """The number of the system call a thread of this process is blocked in, or None."""
    try:
        with open(f"/proc/self/task/{tid}/syscall", encoding="ascii") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
