"""The APIs of other hosts than GitHub, as far as the program asks for them (see github.py).

    GiteaApi    pages of entries; so has Forgejo, whose settings are kind="forgejo"
    AzureApi    all entries at once, with names of their own

Sources: Gitea's API, "GetTree" (1,000 entries on a page, `truncated` while there are more); Azure
DevOps' REST API 7.1, "Trees - Get".
"""

import json
import re
import urllib.parse

from .github import GithubApi, commit, listing

PAGE_MAX = 1000


class GiteaApi(GithubApi):
    kind, path = "gitea", "/api/v1/repos/{owner}/{repo}"

    def _route(self, target):
        asked = re.fullmatch(r"/api/v1/repos/([^/]+/[^/]+)/git/commits/([^/?]+)(\?.*)?", target)
        if asked and asked[1] in self._repos:
            oid = commit(self._repos[asked[1]], asked[2])
            return _json(200 if oid else 404, {"sha": oid} if oid else {"message": "not found"})
        match = re.fullmatch(r"/api/v1/repos/(?P<name>[^/]+/[^/]+)/git/trees/(?P<tree>[^/?]+)"
                             r"(\?(?P<query>.*))?", target)
        if not match or match["name"] not in self._repos:
            return _json(404, {"message": "The target couldn't be found."})
        query = dict(urllib.parse.parse_qsl(match["query"] or ""))
        entries = listing(self._repos[match["name"]], match["tree"],
                          query.get("recursive") in ("1", "true"))
        if entries is None:
            return _json(400, {"message": "sha not found"})
        length = min(int(query.get("per_page", PAGE_MAX)), PAGE_MAX)
        page = max(1, int(query.get("page", 1)))
        shown = entries[(page - 1) * length:page * length]
        return _json(200, {
            "sha": match["tree"], "url": "x", "truncated": page * length < len(entries),
            "page": page, "total_count": len(entries),
            "tree": [{"path": path, "mode": mode, "type": kind, "size": size, "sha": oid,
                      "url": "x"} for mode, kind, oid, size, path in shown]})


class ForgejoApi(GiteaApi):
    kind = "forgejo"


class AzureApi(GithubApi):
    kind, path = "azure", "/{owner}/_apis/git/repositories/{repo}"

    def _route(self, target):
        match = re.fullmatch(r"/(?P<owner>[^/]+)/_apis/git/repositories/(?P<repo>[^/]+)/trees/"
                             r"(?P<tree>[^/?]+)\?(?P<query>.*)", target)
        name = match and f"{match['owner']}/{match['repo']}"
        if not match or name not in self._repos:
            return _json(404, {"message": "TF401019: The Git repository does not exist."})
        query = dict(urllib.parse.parse_qsl(match["query"]))
        entries = listing(self._repos[name], match["tree"], query.get("recursive") == "true")
        if query.get("api-version") != "7.1" or entries is None:
            return _json(400, {"message": "no such version, or no such tree"})
        return _json(200, {
            "objectId": match["tree"], "url": "x", "size": 0,
            "treeEntries": [{"objectId": oid, "relativePath": path, "mode": mode,
                             "gitObjectType": kind, "url": "x", "size": size}
                            for mode, kind, oid, size, path in entries]})


def _json(status, body):
    return status, {}, json.dumps(body).encode()
