"""What stands between lighttpd and git http-backend: records what each request asks for, then
lets the real http-backend answer, straight into the web server's connection (SCGI).

One process per server, so that a request costs no interpreter's start. Arguments: the
listening socket's descriptor, the folder of repositories, the file for JSON lines. A
repository with a file `e2e-v0` never sees the Git-Protocol header; one with
`e2e-no-object-info` neither advertises nor answers object-info (git before 2.45 knows no
transfer.advertiseObjectInfo). The header X-E2e-Id names the record, so that the web server's
log can be joined with it.
"""

import json
import os
import socket
import subprocess
import sys
import threading

import wire

PREFIXES = ("/git/", "/auth/")


class Backend:
    """Answers requests; one thread for each."""

    def __init__(self, root, log):
        self._root = root
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._lock = threading.Lock()
        self._count = 0

    def serve(self, listener):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection:
            headers, body = read_scgi(connection)
            path = headers.get("REQUEST_URI", "").partition("?")[0]
            for prefix in PREFIXES:
                if path.startswith(prefix):
                    path = path[len(prefix) - 1:]
            record = self._describe(headers, path, body)
            os.write(self._log, (json.dumps(record) + "\n").encode())
            try:
                connection.sendall(b"X-E2e-Id: %s\r\n" % record["id"].encode())
                self._run_git(connection, headers, path, body)
            except OSError:
                pass                                    # the client has gone

    def _describe(self, headers, path, body):
        record = wire.parse_request(headers["REQUEST_METHOD"], path,
                                    headers.get("QUERY_STRING", ""), body,
                                    headers.get("HTTP_CONTENT_ENCODING", ""))
        with self._lock:
            self._count += 1
            record["id"] = f"{os.getpid()}-{self._count}"
        record["repo"] = repository(path)
        record["body_bytes"] = len(body)
        record["agent"] = headers.get("HTTP_USER_AGENT", "")
        if record["kind"] in ("fetch", "v0-fetch"):
            record["types"] = self._types(record)
        return record

    def _types(self, record):
        """How many wants of each type: the repository tells content from trees."""
        where = os.path.join(self._root, record["repo"])
        done = subprocess.run(["git", "--git-dir", where, "cat-file",
                               "--batch-check=%(objecttype)"], stdout=subprocess.PIPE,
                              input="\n".join(record["wants"]).encode() + b"\n",
                              stderr=subprocess.DEVNULL, check=False)
        types = {}
        for line in done.stdout.decode().splitlines():
            kind = line.split(" ")[-1]
            types[kind] = types.get(kind, 0) + 1
        return types

    def _has(self, path, name):
        return os.path.exists(os.path.join(self._root, repository(path), name))

    def _run_git(self, connection, headers, path, body):
        environ = dict(os.environ, **headers)
        environ.update(GIT_PROJECT_ROOT=self._root, PATH_INFO=path, GIT_HTTP_EXPORT_ALL="1",
                       GIT_HTTP_MAX_REQUEST_BUFFER="64M")
        old = self._has(path, "e2e-v0")
        hide = self._has(path, "e2e-no-object-info") and not old
        if old:
            environ.pop("HTTP_GIT_PROTOCOL", None)
        if hide and wire.refuse_object_info(body) is None:
            connection.sendall(b"Content-Type: application/x-git-upload-pack-result\r\n\r\n")
        elif hide and headers["REQUEST_METHOD"] == "GET":
            done = subprocess.run(["git", "http-backend"], env=environ, check=False,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            connection.sendall(wire.hide_object_info(done.stdout))
        else:
            stdin = os.memfd_create("body")
            try:
                with os.fdopen(os.dup(stdin), "wb") as file:
                    file.write(body)
                os.lseek(stdin, 0, os.SEEK_SET)
                subprocess.run(["git", "http-backend"], env=environ, stdin=stdin,
                               stdout=connection, check=False)
            finally:
                os.close(stdin)


def repository(path):
    for end in ("/info/refs", "/git-upload-pack"):
        path = path.removesuffix(end)
    return path.strip("/")


def read_scgi(connection):
    """The headers and the body of one request."""
    data = b""
    while b":" not in data:
        data += _some(connection)
    length, _, data = data.partition(b":")
    while len(data) < int(length) + 1:
        data += _some(connection)
    fields = data[:int(length)].decode("latin-1").split("\0")
    headers = dict(zip(fields[0::2], fields[1::2]))
    body = data[int(length) + 1:]
    while len(body) < int(headers["CONTENT_LENGTH"]):
        body += _some(connection)
    return headers, body


def _some(connection):
    data = connection.recv(1 << 16)
    if not data:
        raise OSError("the web server went away")
    return data


if __name__ == "__main__":
    Backend(sys.argv[2], sys.argv[3]).serve(socket.socket(fileno=int(sys.argv[1])))
