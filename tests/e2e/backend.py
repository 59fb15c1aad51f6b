"""The CGI in front of git http-backend: records what a request asks for, then becomes the
real http-backend. Runs as a program under lighttpd; its settings come from its environment:

E2E_ROOT      the folder of repositories      E2E_LOG       where JSON lines go
E2E_PREFIXES  URL prefixes to take off, separated by ":"

A repository with a file `e2e-v0` never sees the Git-Protocol header; one with
`e2e-no-object-info` neither advertises nor answers object-info (git before 2.45 knows no
transfer.advertiseObjectInfo). The header X-E2e-Id names the record, so that the web server's
log can be joined with it.
"""

import json
import os
import subprocess
import sys
import time

import wire


def main():
    environ = os.environ
    path = environ.get("REQUEST_URI", "").partition("?")[0]
    for prefix in environ["E2E_PREFIXES"].split(":"):
        if path.startswith(prefix + "/"):
            path = path[len(prefix):]
            break
    body = sys.stdin.buffer.read(int(environ.get("CONTENT_LENGTH") or 0))
    record = describe(path, body)
    line = json.dumps(record) + "\n"
    log = os.open(environ["E2E_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, line.encode())
    os.close(log)
    os.write(1, b"X-E2e-Id: %s\r\n" % record["id"].encode())
    become_http_backend(path, body)


def describe(path, body):
    environ = os.environ
    record = wire.parse_request(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""),
                                body, environ.get("HTTP_CONTENT_ENCODING", ""))
    record["id"] = f"{os.getpid()}-{time.monotonic_ns()}"
    record["repo"] = repository(path)
    record["body_bytes"] = len(body)
    record["agent"] = environ.get("HTTP_USER_AGENT", "")
    if record["kind"] in ("fetch", "v0-fetch"):
        record["types"] = types_of(record)
    if len(record["wants"]) > 300:
        record["wants_count"] = len(record["wants"])
    return record


def repository(path):
    for end in ("/info/refs", "/git-upload-pack"):
        path = path.removesuffix(end)
    return path.strip("/")


def types_of(record):
    """How many wants of each type: content is told from trees by the repository itself."""
    where = os.path.join(os.environ["E2E_ROOT"], record["repo"])
    done = subprocess.run(["git", "--git-dir", where, "cat-file",
                           "--batch-check=%(objecttype)"], stdout=subprocess.PIPE,
                          input="\n".join(record["wants"]).encode() + b"\n",
                          stderr=subprocess.DEVNULL, check=False)
    types = {}
    for line in done.stdout.decode().splitlines():
        kind = line.split(" ")[-1]
        types[kind] = types.get(kind, 0) + 1
    return types


def become_http_backend(path, body):
    environ = dict(os.environ, GIT_PROJECT_ROOT=os.environ["E2E_ROOT"], PATH_INFO=path,
                   GIT_HTTP_EXPORT_ALL="1", GIT_HTTP_MAX_REQUEST_BUFFER="64M")
    if has_marker(path, "e2e-v0"):
        environ.pop("HTTP_GIT_PROTOCOL", None)
        environ.pop("GIT_PROTOCOL", None)
    elif has_marker(path, "e2e-no-object-info"):
        answer_without_object_info(environ, body)
        return
    become_with_body(environ, body)


def become_with_body(environ, body):
    stdin = os.memfd_create("body", 0)
    with os.fdopen(os.dup(stdin), "wb") as file:
        file.write(body)
    os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    os.execvpe("git", ["git", "http-backend"], environ)


def has_marker(path, name):
    return os.path.exists(os.path.join(os.environ["E2E_ROOT"], repository(path), name))


def answer_without_object_info(environ, body):
    body = wire.refuse_object_info(body)
    if body is None:
        os.write(1, b"Content-Type: application/x-git-upload-pack-result\r\n\r\n")
    elif environ["REQUEST_METHOD"] == "GET":
        done = subprocess.run(["git", "http-backend"], env=environ, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, check=False)
        sys.stdout.buffer.write(wire.hide_object_info(done.stdout))
    else:
        become_with_body(environ, body)
