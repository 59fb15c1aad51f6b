"""GitHttpServer: a real web server (lighttpd) in front of the real git http-backend.

URLs:  /git/NAME        the repository        /auth/NAME     the same behind Basic auth
       /moved/NAME      a 301 to /git/NAME    /NAME          the same as /git/NAME
       /raw/NAME/COMMIT/PATH    one file, as a host's raw URLs are (see publish())
       /to/PORT/...     a 302 to http://127.0.0.1:PORT/...

Every request is counted from the server's own log. mark() returns a point in it; count(),
requests() and sent() look at what finished between two marks. A mark is a request of its own:
the server has one thread and logs in order, so what had been answered before is in the log
when the mark is.
"""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from . import env, proc, repos, served, wire

_MODULES = ("/usr/lib/lighttpd", "/usr/lib64/lighttpd", "/usr/local/lib/lighttpd",
            "/usr/lib/x86_64-linux-gnu/lighttpd")
USER, PASSWORD = "e2e-user", "e2e-s3cret-pa55word"
TOKEN = "e2e_t0ken_of_an_api"    # as hosts take it instead of a password
TOKEN_USERS = ("x-access-token", "oauth2", "x-token-auth", "token")    # each kind has its own


def module_exists(name):
    return any(os.path.exists(f"{folder}/{name}.so") for folder in _MODULES)


@dataclass
class Request:
    """One line of the access log joined with the record of what was asked for."""
    method: str
    url: str
    status: int
    bytes: int
    protocol: str
    git_protocol: str
    authorized: bool
    kind: str = "other"
    wants: list = field(default_factory=list)
    filter: str = None
    types: dict = None
    record: dict = field(default_factory=dict)

    @property
    def content(self):
        """Whether it may have brought content of files."""
        return bool(self.record) and wire.takes_content(self.record)

    @property
    def reached_git(self):
        return self.kind != "raw" and (self.status not in (301, 401) or bool(self.record))

    def __str__(self):
        return (f"{self.method} {self.url} {self.status} {self.bytes} {self.protocol} "
                f"{self.kind} wants={len(self.wants)} {self.types or ''} "
                f"filter={self.filter}")


class GitHttpServer:
    """Use as a context manager, or start() and stop(); the port stays the same."""

    def __init__(self, authority=None, address="127.0.0.1"):
        self.folder = env.folder("lighttpd")
        self.root = self.folder / "root"
        self.root.mkdir()
        self.repos = served.Served(self.root)
        self.authority = authority
        self.address = address
        self.port = None
        self._marks = 0
        self._lost = 0                  # requests that a stop() cut off: they are in no log
        self._process = None
        self._backend = None
        self._backend_path = self.folder / "backend"
        self._access = self.folder / "access.log"
        self._users = self.folder / "users"
        self._asked = self.folder / "asked.log"
        self._access.touch()
        self._asked.touch()

    # life

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        if self._backend:
            self._backend.terminate()
            self._backend.wait()

    def _start_backend(self):
        with socket.socket(socket.AF_UNIX) as listener, \
                open(self.folder / "backend.err", "ab") as errors:
            listener.bind(os.fspath(self._backend_path))
            listener.listen(1024)
            self._backend = subprocess.Popen(
                [sys.executable, "-B", Path(__file__).with_name("backend.py"),
                 str(listener.fileno()), self.root, self._asked],
                pass_fds=[listener.fileno()], env=env.clean(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=env.die_with_parent)

    def start(self):
        if self._backend is None:
            self._start_backend()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, self.port or 0))
        listener.listen(1024)
        self.port = listener.getsockname()[1]
        config = self.folder / "lighttpd.conf"
        config.write_text(self._config())
        with listener, open(self.folder / "errors.out", "ab") as errors:
            self._process = subprocess.Popen(
                ["lighttpd", "-D", "-f", config], stdin=listener, stdout=errors, stderr=errors,
                env=env.clean(PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"), cwd="/",
                preexec_fn=env.die_with_parent)
        # The listener is bound already, so the first mark waits until lighttpd serves.
        try:
            self.mark()
        except OSError as error:
            raise RuntimeError(f"lighttpd did not start: {error}: {self._errors()}") from error

    def stop(self):
        """Stops it: connections are closed and new ones refused."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._lost = self._unfinished()

    def add(self, source, name=None, **options):
        """Serves a repository (see Served.add); returns its URL."""
        return self.url(self.repos.add(source, name, **options).relative_to(self.root))

    def publish(self, source, name, commit="HEAD"):
        """Puts the files of a commit below /raw/NAME/COMMIT/ (for NAME: owner/repo)."""
        commit = repos.rev(source, commit)
        folder = self.root / "raw" / name / commit
        folder.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=source, env=env.clean(),
                                 stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
        return folder

    # addresses

    def host(self, name="forge", below="git"):
        """A section of a configuration for what is served and published here."""
        return (f'[host "{name}"]\n'
                f"git = {self.base}/{below}/{{owner}}/{{repo}}\n"
                f"raw = {self.base}/raw/{{owner}}/{{repo}}/{{commit}}/{{path}}\n")

    @property
    def base(self):
        return f"http{'s' if self.authority else ''}://{self.address}:{self.port}"

    def url(self, name, below="git"):
        return f"{self.base}/{below}/{name}"

    # the log

    def mark(self):
        """The number of requests of clients that had finished; waits for the log."""
        self._marks += 1
        path = f"/e2e-mark/{os.getpid()}-{self._marks}"
        context = None
        if self.authority:
            import ssl
            context = ssl.create_default_context(cafile=self.authority.ca)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        try:
            opener.open(self.base + path, timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
        proc.wait_until(lambda: path.encode() in self._access.read_bytes(), 20,
                        "the mark in lighttpd's log")
        return len(self._lines())

    def requests(self, since=0, until=None):
        """The requests between two marks (until: now), in the order they finished."""
        if until is None:
            until = self.mark()
        asked = {}
        for line in self._asked.read_text().splitlines():
            record = json.loads(line)
            asked[record["id"]] = record
        return [_parse(line, asked) for line in self._lines()[since:until]]

    def count(self, since=0, until=None, kind=None):
        return len([r for r in self.requests(since, until) if kind in (None, r.kind)])

    def contents(self, since=0, until=None):
        """How many requests may have brought content of files."""
        return len([r for r in self.requests(since, until) if r.content])

    def sent(self, since=0, until=None):
        """Bytes of bodies sent."""
        return sum(r.bytes for r in self.requests(since, until))

    def by_kind(self, since=0, until=None):
        kinds = {}
        for request in self.requests(since, until):
            kinds[request.kind] = kinds.get(request.kind, 0) + 1
        return kinds

    def settle(self):
        """Waits until every request that began has finished; returns a mark."""
        def settled():
            until = self.mark()
            return (until,) if self._unfinished() == self._lost else None
        return proc.wait_until(settled, 30, "requests to finish")[0]

    def _unfinished(self):
        began = len(self._asked.read_text().splitlines())
        lines = self._lines()
        return began - sum(1 for r in self.requests(0, len(lines)) if r.reached_git)

    def _lines(self):
        text = self._access.read_text(errors="surrogateescape")
        return [line for line in text.splitlines()
                if "/e2e-mark/" not in line and not line.startswith("PRI ")]

    def _errors(self):
        paths = [self.folder / name for name in ("errors.log", "errors.out", "backend.err")]
        return "".join(p.read_text(errors="replace") for p in paths if p.exists())

    def let_in(self, users):
        """From now on these: name -> password. The server reads the file each time."""
        new = self.folder / "users.new"
        new.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        new.rename(self._users)

    def _config(self):
        users = self._users
        self.let_in({USER: PASSWORD} | {name: TOKEN for name in TOKEN_USERS})
        (self.folder / "upload").mkdir(exist_ok=True)
        text = f"""
server.modules = ("mod_accesslog", "mod_auth", "mod_authn_file", "mod_redirect", "mod_scgi")
server.document-root = "{self.root}"
server.bind = "/dev/stdin"
server.errorlog = "{self.folder}/errors.log"
server.upload-dirs = ("{self.folder}/upload")
server.stream-response-body = 1
server.max-request-size = 0
server.max-connections = 1024
server.max-fds = 4096
server.max-keep-alive-requests = 100000
accesslog.filename = "|exec cat >>{self._access}"
accesslog.format = "%m %U %>s %b %H %{{Git-Protocol}}i %{{X-E2e-Id}}o %{{Authorization}}i"
auth.backend = "plain"
auth.backend.plain.userfile = "{users}"
auth.require = ("/auth/" => ("method" => "basic", "realm" => "e2e", "require" => "valid-user"))
url.redirect = ("^/moved/([^?]*)" => "/git/${{noesc:1}}${{qsa}}",
	"^/to/([0-9]+)/([^?]*)" => "http://127.0.0.1:$1/${{noesc:2}}${{qsa}}")
url.redirect-code = 301
$HTTP["url"] =~ "^/to/" {{ url.redirect-code = 302 }}
$HTTP["url"] !~ "^/(e2e-mark|moved|raw|to)/" {{
\tscgi.server = ("/" => (("socket" => "{self._backend_path}", "check-local" => "disable")))
}}
"""
        if self.authority:
            text += f"""
server.modules += ("mod_openssl")
ssl.engine = "enable"
ssl.pemfile = "{self.authority.server}"
server.feature-flags += ("server.h2proto" => "enable")
"""
        return text


def _parse(line, asked):
    method, url, status, sent, protocol, git_protocol, name, authorization = line.split(" ", 7)
    request = Request(method, url, int(status), 0 if sent == "-" else int(sent), protocol,
                      git_protocol, authorization != "-")
    record = asked.get(name)
    if url.startswith(("/raw/", "/to/")):
        request.kind = "raw"
    if record:
        request.record = record
        request.kind = record["kind"]
        request.wants = record["wants"]
        request.filter = record["filter"]
        request.types = record.get("types")
    return request
