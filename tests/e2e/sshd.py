"""A real sshd on a port of 127.0.0.1, set up like a plain Debian one, and a client to match.

The program calls `ssh` from PATH; environ() puts a wrapper there that adds the story's own
client configuration (OpenSSH does not look at HOME) and records each command line.
"""

import getpass
import os
import shlex
import shutil
import socket
import subprocess

from . import env, proc

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Sshd:
    """Use as a context manager."""

    def __init__(self, accept_env="LANG LC_*"):
        self.folder = env.folder("sshd")
        self.port = None
        self.user = getpass.getuser()
        self._accept_env = accept_env
        self._process = None

    def __enter__(self):
        self._make_keys()
        self._make_client()
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
            os.makedirs("/run/sshd", 0o755)
        for _ in range(10):
            if self.port is None:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    self.port = probe.getsockname()[1]
            self._write_config()
            self._process = subprocess.Popen(
                [shutil.which("sshd", path=_PATH), "-D", "-f", self.folder / "sshd_config", "-E",
                 self.folder / "sshd.log"], env=env.clean(), preexec_fn=env.die_with_parent)
            if proc.wait_until(lambda: self._process.poll() is not None or self._answers(), 20,
                               fail=False) and self._process.poll() is None:
                self._write_client_config()
                return
            self._process.wait()
            self.port = None
        raise RuntimeError("sshd does not start: " + self.log())

    def stop(self):
        """Stops it and every connection: sshd's children are ended too."""
        if self._process:
            for pid in [self._process.pid, *proc.descendants(self._process.pid)]:
                try:
                    os.kill(pid, 15)
                except OSError:
                    pass
            self._process.wait()
            self._process = None

    def url(self, path):
        return f"ssh://{self.user}@127.0.0.1:{self.port}{path}"

    def scp_style(self, path):
        """user@host:path, for a host name that only the client's configuration knows."""
        return f"{self.user}@e2e-host:{path}"

    def environ(self):
        """Environment for the program: the wrapper first in PATH."""
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    def commands(self):
        """The command lines that ssh was called with so far."""
        path = self.folder / "calls"
        return [shlex.split(line) for line in path.read_text().splitlines()] \
            if path.exists() else []

    def log(self):
        path = self.folder / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _make_keys(self):
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                            self.folder / name], check=True, stdin=subprocess.DEVNULL)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")

    def _write_config(self):
        (self.folder / "sshd_config").write_text(f"""
ListenAddress 127.0.0.1
Port {self.port}
HostKey {self.folder}/host_key
AuthorizedKeysFile {self.folder}/authorized_keys
PidFile none
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM {'yes' if os.geteuid() == 0 else 'no'}
X11Forwarding yes
PrintMotd no
MaxStartups 100
AcceptEnv {self._accept_env}
""")

    def _make_client(self):
        folder = self.folder / "bin"
        folder.mkdir()
        wrapper = folder / "ssh"
        wrapper.write_text(f"""#!/bin/bash
printf '%q ' "$@" >>{self.folder}/calls
echo >>{self.folder}/calls
exec {shutil.which('ssh')} -F {self.folder}/ssh_config "$@"
""")
        wrapper.chmod(0o755)

    def _write_client_config(self):
        key = (self.folder / "host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(
            f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n")
        (self.folder / "ssh_config").write_text(f"""
Host e2e-host
    HostName 127.0.0.1
    Port {self.port}
Host *
    IdentityFile {self.folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {self.folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
""")
