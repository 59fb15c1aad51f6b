"""Where things are: the program, the shared work folder, and a clean environment.

Everything a story writes lives either in WORK (repositories made once and shared by all
stories, in the build folder) or in its own scratch folder, which is removed at the end.
Nothing is taken from the environment of the person who runs the tests: HOME, proxies, git
configuration and the XDG folders are all replaced.
"""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

TOP_SRC = Path(os.environ.get("top_srcdir", Path(__file__).resolve().parents[2])).resolve()
TOP_BUILD = Path(os.environ.get("top_builddir", TOP_SRC)).resolve()
XCPFS = os.path.abspath(os.environ.get("XCPFS", TOP_BUILD / "xcpfs"))
WORK = Path(os.environ.get("XCPFS_E2E_WORK", TOP_BUILD / "tests" / "e2e-work")).resolve()
LONG = os.environ.get("XCPFS_LONG") == "1"

_DROPPED = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
            "no_proxy", "NO_PROXY", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_DIR", "GIT_WORK_TREE",
            "SSH_AUTH_SOCK", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "NETRC",
            "CURL_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_ASKPASS",
            "SSH_ASKPASS", "GIT_PROTOCOL")

_scratch = None
_sanitized = None


def scratch():
    """The story's own folder, with a short path because sockets live in it."""
    global _scratch
    if _scratch is None:
        _scratch = Path(tempfile.mkdtemp(prefix="xcpfs-e2e-", dir="/tmp"))
        os.chmod(_scratch, 0o755)
        for name, mode in (("home", 0o700), ("run", 0o700), ("tmp", 0o777), ("reports", 0o777)):
            (_scratch / name).mkdir()
            os.chmod(_scratch / name, mode)
        (_scratch / "home" / ".gitconfig").write_text(_GITCONFIG)
        if os.environ.get("XCPFS_E2E_KEEP") != "1":
            atexit.register(_remove_scratch, os.getpid())
    return _scratch


_GITCONFIG = """[user]
\tname = Test
\temail = test@example.org
[safe]
\tdirectory = *
[init]
\tdefaultBranch = main
[protocol "file"]
\tallow = always
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""


def _remove_scratch(owner):
    if os.getpid() != owner:
        return
    base = os.fsencode(_scratch)
    for where in mountpoints_below(base):
        subprocess.run(["umount", "-l", where], stderr=subprocess.DEVNULL, check=False)
    if not mountpoints_below(base):
        shutil.rmtree(_scratch, ignore_errors=True)


def mountpoints_below(base):
    """Mountpoints (bytes) below a folder, innermost first, from mountinfo alone."""
    found = []
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            where = unescape(line.split(b" ")[4])
            if where == base or where.startswith(base + b"/"):
                found.append(where)
    return found[::-1]


def unescape(field):
    """Undoes the octal escapes of mountinfo."""
    out, at = bytearray(), 0
    while at < len(field):
        if field[at:at + 1] == b"\\" and field[at + 1:at + 4].isdigit():
            out.append(int(field[at + 1:at + 4], 8))
            at += 4
        else:
            out += field[at:at + 1]
            at += 1
    return bytes(out)


def folder(name):
    """A new folder in the scratch folder; the name is made unique when it is taken."""
    for number in range(1, 100000):
        path = scratch() / (name if number == 1 else f"{name}{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
    raise RuntimeError("no free name for " + name)


def clean(**extra):
    """An environment with nothing of the caller's but PATH; values of None are dropped."""
    env = {k: v for k, v in os.environ.items()
           if k not in _DROPPED and not k.startswith(("XCPFS", "GIT_", "LC_"))}
    env.update(HOME=str(scratch() / "home"), XDG_RUNTIME_DIR=str(scratch() / "run"),
               TMPDIR=str(scratch() / "tmp"), LANG="C.UTF-8", LC_ALL="C.UTF-8",
               GIT_CONFIG_NOSYSTEM="1", GIT_TERMINAL_PROMPT="0", PYTHONDONTWRITEBYTECODE="1")
    # A daemon has no terminal to complain on: sanitizers write to files that tap.py looks at.
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
        more = os.environ.get(name, "print_stacktrace=1" if name == "UBSAN_OPTIONS" else "")
        env[name] = f"{more}:log_path={scratch()}/reports/{name[:4].lower()}".lstrip(":")
    env.update(extra)
    return {k: str(v) for k, v in env.items() if v is not None}


def git(*args, cwd=None, stdin=None, env=None, check=True, text=True):
    """Runs git; returns its output without the last newline (text) or as it is (bytes)."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(["git", *args], cwd=cwd, input=data, env=env or clean(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if check and done.returncode:
        raise RuntimeError(f"git {args}: exit {done.returncode}: "
                           + done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="surrogateescape").rstrip("\n") if text else done.stdout


def reports():
    """What sanitizers wrote, by file name; only their first lines."""
    found = {}
    for path in sorted((scratch() / "reports").iterdir()):
        found[path.name] = path.read_text(errors="replace")[:6000]
    return found


def sanitized():
    """True when the program was built with a sanitizer (memory and times mean nothing then)."""
    global _sanitized
    if _sanitized is None:
        if os.environ.get("XCPFS_SANITIZED") is not None:
            _sanitized = os.environ["XCPFS_SANITIZED"] not in ("", "0", "no")
        elif os.access(XCPFS, os.X_OK):
            done = subprocess.run([XCPFS, "version"], stdout=subprocess.PIPE, env=clean(),
                                  stderr=subprocess.DEVNULL, check=False)
            _sanitized = b"sanitizers" in done.stdout
        else:
            _sanitized = False
    return _sanitized


def patience():
    """How much longer than on a plain build a bounded wait may take."""
    return 6 if sanitized() else 1


def die_with_parent():
    """For preexec_fn: the child ends when the story does, however the story ends."""
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
