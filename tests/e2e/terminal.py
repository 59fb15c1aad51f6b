"""A terminal of its own for a command, as a person sits at: typing, reading, Ctrl-C, closing.

    terminal = t.use(Terminal(env.XCPFS, "mount", ...))
    terminal.expect("Password")
    terminal.type("secret\n")
    terminal.finish()                            # its exit status, as a shell tells it

A shell stands between, as it does for a person: it keeps the terminal when the command is
interrupted, and says how it ended.
"""

import fcntl
import os
import select
import subprocess
import termios
import time

from . import env

_SHELL = 'trap : INT; "$@"; echo "(status $?)"'


class Terminal:
    """Use as a context manager; `said` is all that was shown."""

    def __init__(self, *argv, environ=None):
        self.said = ""
        self._argv = [str(a) for a in argv]
        self._environ = environ or {}
        self._master = self._process = None

    def __enter__(self):
        self._master, slave = os.openpty()
        self._process = subprocess.Popen(           # pylint: disable=consider-using-with
            ["sh", "-c", _SHELL, "sh", *self._argv], stdin=slave, stdout=slave, stderr=slave,
            env=env.clean(TERM="dumb", **self._environ), start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        return self

    def __exit__(self, *_):
        self.close()

    def expect(self, text, timeout=30):
        """Reads until `text` was shown; returns whether it was."""
        end = time.monotonic() + timeout * env.patience()
        while text not in self.said:
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            try:
                data = os.read(self._master, 4096) if ready else b""
            except OSError:                         # EIO: nobody has it open any more
                data = b""
            if not data:
                return False
            self.said += data.decode(errors="replace")
        return True

    def type(self, text):
        os.write(self._master, text.encode())

    def echoes(self):
        """Whether what is typed is shown: not while a password is asked for."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def finish(self):
        """The exit status of the command, or None when it does not end."""
        if not self.expect("(status "):
            return None
        self.expect(")\r\n")
        return int(self.said.rpartition("(status ")[2].partition(")")[0])

    def close(self):
        """The window is closed: whoever belongs to it is told so."""
        if self._master is not None:
            os.close(self._master)
            self._master = None
            self._process.wait(20 * env.patience())
