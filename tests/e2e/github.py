"""GithubApi: GitHub's REST API as its documents have it, as far as the program asks for it.

A real repository makes every answer. Its own settings say how it behaves:

    api = t.use(GithubApi())
    api.add("owner/repo", path)        # a bare repository
    api.moved["old/name"] = "owner/repo"
    api.remaining = 0                  # the rate limit is used up
    api.section(git_template)          # [host "forge"] for the configuration

Sources: the REST API's "Get a tree" (100,000 entries or 7 MB, `truncated`), "Rate limits for the
REST API", "Getting started" (User-Agent), "Best practices" (redirects of renamed repositories).
"""

import gzip
import json
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import env

ENTRIES_MAX = 100000
BYTES_MAX = 7 << 20


class _Request:
    def __init__(self, handler):
        self.target = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.status = None
        self.sent = 0

    def __str__(self):
        return f"{self.target} {self.status}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        request = _Request(self)
        status, headers, body = self.server.api.answer(request)
        if "gzip" in request.headers.get("accept-encoding", "") and len(body) > 1000:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, 1)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        request.status, request.sent = status, len(body)
        self.server.api.requests.append(request)


class GithubApi:
    kind, path = "github", "/repos/{owner}/{repo}"

    def __init__(self):
        self.requests = []
        self.moved = {}
        self.token = None               # everything is private: who has it may see it
        self.limit, self.remaining, self.reset = 60, 60, int(time.time()) + 3600
        self._repos, self._lock = {}, threading.Lock()

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, name, path):
        self._repos[name] = path

    def forget(self, name):
        """As when it is gone, or private."""
        del self._repos[name]

    def section(self, git, name="forge"):
        return (f'[host "{name}"]\nkind = {self.kind}\ngit = {git}\n'
                f"api = {self.base}{self.path}\n")

    # answers

    def answer(self, request):
        if not request.headers.get("user-agent"):
            return _message(403, "Request forbidden by administrative rules.")
        said = request.headers.get("authorization")
        if said and self.token and said not in (f"Bearer {self.token}", f"token {self.token}"):
            return _message(401, "Bad credentials")
        if self.token and not said:
            return _message(404, "Not Found")
        with self._lock:
            left = self.remaining
            self.remaining = max(0, left - 1)
        status, headers, body = (self._route(request.target) if left else
                                 _message(403, "API rate limit exceeded for 127.0.0.1."))
        headers.update({"X-RateLimit-Limit": str(self.limit),
                        "X-RateLimit-Remaining": str(max(0, left - 1)),
                        "X-RateLimit-Reset": str(self.reset)})
        return status, headers, body

    def _route(self, target):
        asked = re.fullmatch(r"/repos/([^/]+/[^/]+)/commits/([^/?]+)", target)
        if asked and asked[1] in self._repos:
            oid = commit(self._repos[asked[1]], asked[2])
            return ((200, {}, oid.encode()) if oid else
                    _message(422, f"No commit found for SHA: {asked[2]}"))
        match = re.fullmatch(r"/(repos/(?P<name>[^/]+/[^/]+)|repositories/(?P<id>\d+))"
                             r"/git/trees/(?P<tree>[^/?]+)(\?(?P<query>.*))?", target)
        if not match:
            return _message(404, "Not Found")
        names = sorted(self._repos)
        name = match["name"] if match["name"] else names[int(match["id"])]
        if name in self.moved:
            where = f"/repositories/{names.index(self.moved[name])}"
            rest = target[target.index("/git/trees/"):]
            return 301, {"Location": self.base + where + rest}, b"{}"
        if name not in self._repos:
            return _message(404, "Not Found")
        return self._tree(self._repos[name], match["tree"],
                          "recursive" in (match["query"] or ""))

    def _tree(self, repo, tree, below):
        listed = listing(repo, tree, below)
        if listed is None:
            return _message(404, "Not Found")
        entries, size = [], 0
        truncated = False
        for mode, kind, oid, length, path in listed:
            entry = {"path": path, "mode": mode, "type": kind, "sha": oid}
            if kind == "blob":
                entry["size"] = length
            entry["url"] = f"{self.base}/repos/x/git/{kind}s/{oid}"
            text = json.dumps(entry, separators=(",", ":"))
            size += len(text) + 1
            if below and (len(entries) == ENTRIES_MAX or size > BYTES_MAX):
                truncated = True
                break
            entries.append(text)
        body = (f'{{"sha":"{tree}","url":"{self.base}/x","tree":[{",".join(entries)}],'
                f'"truncated":{"true" if truncated else "false"}}}')
        return 200, {"ETag": f'W/"{tree}"'}, body.encode()


def listing(repo, tree, below):
    """(mode, type, id, size, path) of all that is in a tree; None: there is no such tree."""
    command = ["git", "ls-tree", "-z", "-l", *(["-r", "-t"] if below else []), tree]
    listed = subprocess.run(command, cwd=repo, env=env.clean(), stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False)
    if listed.returncode:
        return None
    entries = []
    for line in listed.stdout.split(b"\0")[:-1]:
        head, path = line.split(b"\t", 1)
        mode, kind, oid, length = head.decode().split()
        entries.append((mode, kind, oid, int(length) if kind == "blob" else 0,
                        path.decode("utf-8", "replace")))
    return entries


def commit(repo, name):
    """The id of the commit that a name is short for; None: of none, or of several."""
    parsed = subprocess.run(["git", "rev-parse", "--verify", "--quiet", name + "^{commit}"],
                            cwd=repo, env=env.clean(), stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False)
    return None if parsed.returncode else parsed.stdout.decode().strip()


def _message(status, words):
    return status, {}, json.dumps({"message": words, "documentation_url": "https://docs.example",
                                   "status": str(status)}).encode()
