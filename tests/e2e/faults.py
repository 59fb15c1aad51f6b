"""FaultServer: a web server whose answers can be slow, short, wrong or gone.

A real git http-backend makes every answer; rules say which answers are spoiled, and how:

    server.rule(truncate_pack(500), kind="content")            # always, until released
    server.rule(status(500), kind="content", times=2)          # the first two, then fine
    gate = server.rule(stall(100), kind="content").gate        # until gate.open()

A rule's kind: caps, ls-refs, fetch, trees (a fetch with a filter or deepen), content (a fetch
of blobs), object-info, any. The first rule that matches is used. Every request is recorded in
server.requests, with the rule that met it.
"""

import socket
import struct
import subprocess
import threading

from . import env, served, wire


class Gate:
    """Where stalled answers wait; open() lets them go on."""

    def __init__(self):
        self._event = threading.Event()
        self._lock = threading.Lock()
        self.waiting = 0                # how many wait at this moment
        self.reached = 0                # how many ever came

    def wait(self, closing):
        with self._lock:
            self.waiting += 1
            self.reached += 1
        while not self._event.wait(0.02) and not closing.is_set():
            pass
        with self._lock:
            self.waiting -= 1

    def open(self):
        self._event.set()


class Rule:
    """Which requests are spoiled, and how; see FaultServer.rule()."""

    def __init__(self, action, kind, skip, times, where):
        self.action, self.kind = action, kind
        self.gate = Gate()
        self.hits = 0
        self._skip, self._times, self._where = skip, times, where
        self._released = False

    def matches(self, request):
        if self._released or not _is_kind(request, self.kind):
            return False
        if self._where and not self._where(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._times is not None and self.hits >= self._times:
            return False
        self.hits += 1
        return True

    def release(self):
        """The rule meets nothing any more; what waits at its gate goes on."""
        self._released = True
        self.gate.open()


def _is_kind(request, kind):
    if kind == "any":
        return True
    if kind == "trees":
        return request.kind == "fetch" and not request.content
    if kind == "content":
        return request.content
    return request.kind == kind


class Request:
    """One request as it came, and what was done with it."""

    def __init__(self, method, target, headers, body):
        path, _, query = target.partition("?")
        self.method, self.path, self.query = method, path, query
        self.headers, self.body = headers, body
        try:
            self.record = wire.parse_request(method, path, query, body,
                                             headers.get("content-encoding", ""))
        except OSError:
            self.record = {"kind": "other", "wants": [], "filter": None, "deepen": False}
        self.kind = self.record["kind"]
        self.wants = self.record["wants"]
        self.filter = self.record["filter"]
        self.content = self.kind == "v0-fetch" or (
            self.kind == "fetch" and not self.filter and not self.record["deepen"]) or (
            self.kind == "fetch" and wire.takes_content(self.record)
            and not self.record["deepen"])
        self.authorization = headers.get("authorization")
        self.rule = None
        self.status = None

    def __str__(self):
        return (f"{self.method} {self.path} {self.kind} wants={len(self.wants)} "
                f"filter={self.filter} status={self.status}"
                + (f" rule={self.rule.action.__name__}" if self.rule else ""))


class FaultServer:
    """Use as a context manager; down() and up() close and open its port, which stays."""

    def __init__(self, host="127.0.0.1"):
        self.folder = env.folder("faults")
        self.repos = served.Served(self.folder)
        self.host, self.port = host, None
        self.requests = []
        self._rules = []
        self._lock = threading.Lock()
        self._listener = None
        self._connections = set()
        self._closing = threading.Event()

    # life

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self._closing.set()
        for rule in self._rules:
            rule.release()
        self.down()

    def up(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port or 0))
        listener.listen(1024)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self):
        """Refuses connections from now on and drops those there are."""
        listener, self._listener = self._listener, None
        if listener:
            # close() alone would leave a blocked accept() with the port.
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def add(self, source, name=None, **options):
        path = self.repos.add(source, name, **options)
        return self.url(path.relative_to(self.folder))

    def url(self, name):
        return f"http://{self.host}:{self.port}/{name}"

    # rules and records

    def rule(self, action, kind="any", skip=0, times=None, where=None):
        """Spoils requests of a kind, after the first `skip`, `times` of them (None: all)."""
        rule = Rule(action, kind, skip, times, where)
        with self._lock:
            self._rules.append(rule)
        return rule

    def release_all(self):
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.release()

    def count(self, kind="any", since=0):
        return len([r for r in self.requests[since:] if _is_kind(r, kind)])

    def mark(self):
        return len(self.requests)

    # serving

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        try:
            while True:
                request = _read_request(reader, connection)
                if request is None or not self._answer(connection, request):
                    return
        except OSError:
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            reader.close()
            connection.close()

    def _answer(self, connection, request):
        with self._lock:
            request.rule = next((r for r in self._rules if r.matches(request)), None)
            self.requests.append(request)
        answer = Answer(self, connection, request)
        if request.rule:
            return request.rule.action(answer)
        return answer.send(*answer.real())


def _read_request(reader, connection):
    first = reader.readline(65536)
    if not first.strip():
        return None
    method, target, _ = first.decode("latin-1").split(" ", 2)
    headers = {}
    while True:
        line = reader.readline(65536).decode("latin-1").strip()
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            length = int(reader.readline().split(b";")[0], 16)
            body += reader.read(length)
            reader.readline()
            if not length:
                break
    else:
        body = reader.read(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


_REASONS = {200: "OK", 301: "Moved Permanently", 302: "Found", 401: "Unauthorized",
            403: "Forbidden", 404: "Not Found", 429: "Too Many Requests",
            500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


class Answer:
    """What an action works with: the request, the true answer, and the connection."""

    def __init__(self, server, connection, request):
        self.server, self.connection, self.request = server, connection, request
        self.gate = request.rule.gate if request.rule else None

    def real(self, body=None):
        """The true answer: status, headers, body. Another request body may be given."""
        request = self.request
        sent = request.body if body is None else body
        environ = env.clean(
            GIT_PROJECT_ROOT=self.server.folder, GIT_HTTP_EXPORT_ALL="1",
            PATH_INFO=request.path, REQUEST_METHOD=request.method, QUERY_STRING=request.query,
            CONTENT_TYPE=request.headers.get("content-type", ""),
            CONTENT_LENGTH=str(len(sent)), REMOTE_ADDR="127.0.0.1",
            HTTP_CONTENT_ENCODING=request.headers.get("content-encoding") if body is None
            else None, GIT_PROTOCOL=self._protocol())
        done = subprocess.run(["git", "http-backend"], input=sent, env=environ,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        if self._has_marker("e2e-no-object-info"):
            if request.kind == "caps":
                content = wire.hide_object_info(content)
            elif request.kind == "object-info":
                content = b""
        return status, headers, content

    def _protocol(self):
        if self._has_marker("e2e-v0"):
            return None
        return self.request.headers.get("git-protocol")

    def _has_marker(self, name):
        path = self.request.path
        for end in ("/info/refs", "/git-upload-pack"):
            path = path.removesuffix(end)
        return (self.server.folder / path.strip("/") / name).exists()

    def head(self, status, headers, length):
        self.request.status = status
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers if name != "Content-Length"]
        lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def send(self, status, headers, body):
        """A whole answer; the connection stays open."""
        self.connection.sendall(self.head(status, headers, len(body)) + body)
        return True

    def reset(self):
        """Ends the connection with an RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        return False


# Actions: what a rule does. Each returns a function(answer) -> whether the connection stays.

def _named(name, function):
    function.__name__ = name
    return function


def reset_in_header():
    def act(answer):
        answer.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
        return answer.reset()
    return _named("reset_in_header", act)


def close_at_once():
    return _named("close_at_once", lambda answer: False)


def reset_in_body(after):
    def act(answer):
        status_, headers, body = answer.real()
        answer.connection.sendall(answer.head(status_, headers, len(body)) + body[:after])
        return answer.reset()
    return _named("reset_in_body", act)


def short_body(after):
    """The length of the whole is announced, but the connection closes cleanly before it."""
    def act(answer):
        status_, headers, body = answer.real()
        answer.connection.sendall(answer.head(status_, headers, len(body)) + body[:after])
        return False
    return _named("short_body", act)


def truncate_pack(keep, end=wire.FLUSH):
    """A clean answer whose pack ends after `keep` bytes (negative: so many are missing)."""
    def spoil(pack):
        return pack[:keep]
    return _named("truncate_pack", _spoil_pack(spoil, end))


def flip_byte(at):
    """One bit of the pack is wrong."""
    def spoil(pack):
        spoiled = bytearray(pack)
        spoiled[at] ^= 0x10
        return bytes(spoiled)
    return _named("flip_byte", _spoil_pack(spoil, wire.FLUSH))


def _spoil_pack(spoil, end):
    def act(answer):
        status_, headers, body = answer.real()
        parts = wire.PackResponse(body)
        if parts.has_pack:
            body = parts.rebuild(spoil(parts.pack), end)
        return answer.send(status_, headers, body)
    return act


def other_object(oid):
    """Answers as if `oid` had been wanted instead of the first want."""
    def act(answer):
        import gzip
        body = answer.request.body
        if answer.request.record.get("gzip"):
            body = gzip.decompress(body)
        first = answer.request.wants[0]
        return answer.send(*answer.real(body.replace(first.encode(), oid.encode())))
    return _named("other_object", act)


def err_line(text):
    def act(answer):
        _, headers, _ = answer.real()
        return answer.send(200, headers, wire.pkt(b"ERR " + text.encode()))
    return _named("err_line", act)


def sideband_error(text):
    """A fatal message in band 3, after the pack has begun."""
    def act(answer):
        status_, headers, body = answer.real()
        parts = wire.PackResponse(body)
        message = wire.pkt(b"\x03" + text.encode() + b"\n")
        return answer.send(status_, headers,
                           parts.rebuild(parts.pack[:100], message + wire.FLUSH))
    return _named("sideband_error", act)


def empty_body():
    def act(answer):
        _, headers, _ = answer.real()
        return answer.send(200, headers, b"")
    return _named("empty_body", act)


def status(code, *headers, body=b"no\n"):
    def act(answer):
        return answer.send(code, [("Content-Type", "text/plain"), *headers], body)
    return _named(f"status_{code}", act)


def unauthorized():
    return _named("unauthorized",
                  status(401, ("WWW-Authenticate", 'Basic realm="e2e"')))


def stall(after=None):
    """Sends `after` bytes of the body (None: not even the header), waits at the gate, goes on."""
    def act(answer):
        status_, headers, body = answer.real()
        whole = answer.head(status_, headers, len(body))
        first = 0 if after is None else len(whole) + after
        whole += body
        answer.connection.sendall(whole[:first])
        answer.gate.wait(answer.server._closing)   # pylint: disable=protected-access
        answer.connection.sendall(whole[first:])
        return True
    return _named("stall", act)


def redirect(base, code=301):
    """To the same path and query below another base URL."""
    def act(answer):
        query = "?" + answer.request.query if answer.request.query else ""
        return answer.send(code, [("Location", base + answer.request.path + query)], b"")
    return _named("redirect", act)


def dumb():
    """As a server that knows no git: info/refs is a file."""
    def act(answer):
        return answer.send(200, [("Content-Type", "text/plain")], b"%s\trefs/heads/main\n"
                           % (b"1" * 40))
    return _named("dumb", act)


def html():
    def act(answer):
        return answer.send(200, [("Content-Type", "text/html; charset=utf-8")],
                           b"<!DOCTYPE html><html><body>Welcome</body></html>\n")
    return _named("html", act)


def babble():
    """Well-formed packets of no meaning."""
    def act(answer):
        _, headers, _ = answer.real()
        return answer.send(200, headers, wire.pkt(b"size\n") + wire.pkt(b"what you like\n")
                           + wire.FLUSH)
    return _named("babble", act)
