"""TAP output, and how a story is written.

A story is a file tests/e2e_<story>.py with functions and a last line:

    def world(t):                       # made once, closed at the end of the story
        return t.use(GitHttpServer())

    def test_a_mount_costs_two_requests(t, server):
        mount = t.use(Mount(server.url("torture")))     # closed at the end of the function
        t.at_most(server.count(), 2, "requests for a mount")

    tap.run([test_a_mount_costs_two_requests], world, needs=("fuse", "lighttpd"))

Every check is one test point. An exception ends the function and is a failed point; raise
Skip (or call t.skip) to say why something cannot be tried here. A watchdog frees functions
that hang: it aborts the FUSE connections of the story's mounts, so that every blocked call
comes back with an error.
"""

import contextlib
import faulthandler
import os
import shutil
import sys
import threading
import time
import traceback

from . import env

_LIMIT_S = 150


class Skip(Exception):
    """Raised with the reason why something cannot be tried on this machine."""


class Case:
    """What a test function is given: checks, and a stack of things to close."""

    _number = 0
    _failed = 0
    _lock = threading.RLock()

    def __init__(self, name):
        self.name = name
        self._stack = contextlib.ExitStack()

    def use(self, manager):
        """Enters a context manager that is left when this function (or story) ends."""
        return self._stack.enter_context(manager)

    def defer(self, function, *args):
        """Calls a function when this function (or story) ends."""
        self._stack.callback(function, *args)

    def close(self):
        self._stack.close()

    def together(self, calls, at_once=6):
        """Runs functions, some at a time: for what mostly waits. Each is (function, *args)."""
        calls = list(calls)

        def work():
            while True:
                with Case._lock:
                    if not calls:
                        return
                    function, *args = calls.pop(0)
                _attempt(self, lambda f=function, a=args: f(*a))
        threads = [threading.Thread(target=work) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ok(self, passed, what, *details):
        with Case._lock:
            return self._ok(passed, what, details)

    def _ok(self, passed, what, details):
        Case._number += 1
        if not passed:
            Case._failed += 1
        say("%sok %d - %s: %s" % ("" if passed else "not ", Case._number, self.name, what))
        if not passed:
            frames = [f for f in traceback.extract_stack(limit=6)
                      if os.path.basename(f.filename) != "tap.py"]
            for frame in frames[-1:]:
                say(f"#   at {os.path.basename(frame.filename)}:{frame.lineno}")
            for line in details:
                comment(line)
        return passed

    def equal(self, got, want, what):
        return self.ok(got == want, what, f"  got: {got!r}", f" want: {want!r}")

    def differ(self, got, other, what):
        return self.ok(got != other, what, f" both: {got!r}")

    def at_most(self, got, limit, what, *details):
        return self.ok(got <= limit, f"{what} ({got}, at most {limit})", f"  got: {got!r}",
                       f"limit: {limit!r}", *details)

    def at_least(self, got, limit, what, *details):
        return self.ok(got >= limit, f"{what} ({got}, at least {limit})", f"  got: {got!r}",
                       f"limit: {limit!r}", *details)

    def contains(self, text, part, what):
        return self.ok(part in text, what, f" text: {text!r}", f"lacks: {part!r}")

    def lacks(self, text, part, what):
        return self.ok(part not in text, what, f" text: {text!r}", f"  has: {part!r}")

    def raises(self, errno, function, *args, what=None):
        """Checks that a call fails with one errno (or one of a tuple)."""
        import errno as names
        wanted = errno if isinstance(errno, tuple) else (errno,)
        label = what or f"{getattr(function, '__name__', function)}{args}"
        label += " gives " + " or ".join(names.errorcode[e] for e in wanted)
        try:
            got = function(*args)
        except OSError as error:
            return self.ok(error.errno in wanted, label, f"  got: {error!r}")
        return self.ok(False, label, f"  got: no error, {got!r}")

    def skip(self, what, reason):
        with Case._lock:
            Case._number += 1
            say("ok %d - %s: %s # SKIP %s" % (Case._number, self.name, what, reason))

    def note(self, text):
        comment(text)


def say(text):
    sys.stdout.write(text.replace("\r", "\\r").replace("\n", "\n# ").encode(
        "utf-8", "backslashreplace").decode("utf-8") + "\n")
    sys.stdout.flush()


def comment(text):
    for line in str(text).splitlines() or [""]:
        say("# " + line[:2000])


def run(tests, world=None, needs=("program", "fuse")):
    """Runs a story and exits. An argument selects tests whose name contains it."""
    started = time.monotonic()
    reason = _missing(needs)
    if reason:
        say("1..0 # SKIP " + reason)
        sys.exit(0)
    from . import proc
    proc.become_subreaper()
    chosen = [t for t in tests if not sys.argv[1:] or any(a in t.__name__ for a in sys.argv[1:])]
    story = Case(os.path.basename(sys.argv[0]).removesuffix(".py"))
    with _Watchdog("setup"):
        made = _attempt(story, lambda: (world(story) if world else None,))
    if made is not None:
        for test in chosen:
            _run_one(test, made[0])
    with _Watchdog("closing"):
        _attempt(story, story.close)
        _leftovers(story)
    say(f"1..{Case._number}")
    comment("%.1f s" % (time.monotonic() - started))
    sys.exit(1 if Case._failed else 0)


def _run_one(test, world):
    case = Case(test.__name__.removeprefix("test_").replace("_", " "))
    limit = getattr(test, "limit_s", _LIMIT_S)
    started = time.monotonic()
    with _Watchdog(case.name, limit):
        _attempt(case, lambda: test(case, world) if world is not None else test(case))
        _attempt(case, case.close)
    if os.environ.get("XCPFS_E2E_TIMES"):
        comment("%.1f s in %s" % (time.monotonic() - started, case.name))


def limit(seconds):
    """Decorator: a test function that may take longer than most before the watchdog acts."""
    def mark(function):
        function.limit_s = seconds
        return function
    return mark


def _attempt(case, function):
    try:
        return function()
    except Skip as reason:
        case.skip("can be tried", reason)
    except Exception as error:
        case.ok(False, "no exception", *traceback.format_exc().splitlines())
        for line in getattr(error, "details", []):
            comment(line)
    return None


def _leftovers(story):
    """Nothing may outlive a story: no daemon, no broker, no mount."""
    from . import proc
    if os.path.exists(env.XCPFS):
        left = proc.wait_until(lambda: not proc.program_children() or None, 10 * env.patience(),
                               fail=False)
        names = [proc.describe(p) for p in proc.program_children()]
        story.ok(left, "no process of the program is left", *names)
        story.equal(env.mountpoints_below(os.fsencode(env.scratch())), [], "no mount is left")
        reports = env.reports()
        lines = [line for text in reports.values() for line in text.splitlines()]
        story.ok(not reports, "no sanitizer wrote a report", *lines[:200])
    proc.kill_children()


class _Watchdog:
    """Frees a test function that hangs."""

    def __init__(self, what, limit_s=_LIMIT_S):
        self._what = what
        self._limit_s = limit_s
        self._done = threading.Event()

    def __enter__(self):
        self._limit_s *= env.patience() if os.path.exists(env.XCPFS) else 1
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        if self._done.wait(self._limit_s):
            return
        comment(f"watchdog: {self._what} took longer than {self._limit_s} s; freeing it")
        faulthandler.dump_traceback(sys.stderr)
        from . import mounts
        mounts.abort_all()
        if self._done.wait(60):
            return
        say(f"Bail out! {self._what} hangs")
        from . import proc
        proc.kill_children()
        os._exit(1)

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def _missing(needs):
    for need in needs:
        reason = _NEEDS[need]()
        if reason:
            return reason
    return None


def _need_fuse():
    if os.environ.get("XCPFS_E2E_NO_FUSE"):
        return "XCPFS_E2E_NO_FUSE is set"
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user"
    return None


def _need_program():
    return None if os.access(env.XCPFS, os.X_OK) else f"the program is not built ({env.XCPFS})"


def _need_root():
    return None if os.geteuid() == 0 else "needs root"


def _need_tool(*names):
    def missing():
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        for name in names:
            if not shutil.which(name, path=path):
                return f"{name} is not installed"
        return None
    return missing


def _need_tls():
    from . import lighttpd
    if not lighttpd.module_exists("mod_openssl"):
        return "lighttpd has no mod_openssl"
    return _need_tool("openssl")()


_NEEDS = {
    "program": _need_program,
    "fuse": _need_fuse,
    "root": _need_root,
    "git": _need_tool("git"),
    "curl": _need_tool("curl"),
    "lighttpd": _need_tool("lighttpd", "git"),
    "tls": _need_tls,
    "valgrind": _need_tool("valgrind"),
    "sshd": _need_tool("sshd", "ssh", "ssh-keygen"),
}
