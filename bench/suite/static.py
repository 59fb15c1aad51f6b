"""StaticServer: lighttpd with the files of checkouts, byte ranges and listings of folders.

/raw/COMMIT/PATH is a file of a commit, as forges serve them.
"""

import os
import socket
import subprocess
import urllib.error
import urllib.request

from e2e import env, proc


class StaticServer:
    """Use as a context manager."""

    def __init__(self, address):
        self._address = address
        self._folder = env.folder("static")
        self._root = self._folder / "root"
        (self._root / "raw").mkdir(parents=True)
        self._access = self._folder / "access.log"
        self._process = None
        self.port = None
        self._marks = 0

    def add(self, repository, tag="v1"):
        """Serves a commit's files; returns their folder's path on the server."""
        name = repository.commit(tag)
        (self._root / "raw" / name).symlink_to(repository.checkout(tag))
        return f"/raw/{name}"

    def __enter__(self):
        config = self._folder / "lighttpd.conf"
        config.write_text(f"""
server.modules = ("mod_accesslog", "mod_dirlisting")
server.document-root = "{self._root}"
server.bind = "/dev/stdin"
server.errorlog = "{self._folder}/errors.log"
server.max-connections = 1024
server.max-fds = 4096
server.max-keep-alive-requests = 100000
dir-listing.activate = "enable"
accesslog.filename = "|exec cat >>{self._access}"
accesslog.format = "%m %U %>s %b"
""")
        with socket.socket() as listener:
            listener.bind((self._address, 0))
            listener.listen(1024)
            self.port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                ["lighttpd", "-D", "-f", config], stdin=listener, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, cwd="/", preexec_fn=env.die_with_parent,
                env=env.clean(PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
        self.count()                    # answered when it serves
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def count(self):
        """How many requests clients have made; a request of its own marks the log's end."""
        self._marks += 1
        mark = f"/mark-{self._marks}"
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://{self._address}:{self.port}{mark}", timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
        proc.wait_until(lambda: self._access.exists() and mark in self._log(), 20,
                        "the mark in the log")
        return sum(1 for line in self._log().splitlines() if " /mark-" not in line)

    def _log(self):
        return self._access.read_text(errors="replace")
