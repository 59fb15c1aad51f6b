#!/usr/bin/env python3
"""The command line: verbs, exit codes, and JSON whose numbers are those of the server's log."""

import json
import os
import signal
import subprocess

from e2e import differential, env, faults, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

STATUS_KEYS = {"source", "commit", "tree", "mountpoint", "pid", "state"}
STATS_KEYS = {"requests", "bytes_received", "bytes_served", "objects_fetched",
              "objects_prefetched", "prefetch_used", "cache_hits", "cache_misses", "cache_bytes",
              "flights", "retries", "rate_limit_remaining", "errors", "rss_bytes"}
VERBS = ("mount", "umount", "status", "stats", "cache", "version", "help")


class World:
    def __init__(self, t):
        self.server = t.use(GitHttpServer())
        self.repo = repos.sources()
        self.url = self.server.add(self.repo, "r.git")


def test_help_and_version(t, _):
    for words in (("help",), ("--help",), ("-h",)):
        result = proc.xcpfs(*words)
        t.equal((result.rc, result.err), (0, ""), f"{words[0]}: exit code and stderr")
        for verb in VERBS:
            t.contains(result.out, verb, f"{words[0]} names {verb}")
    for verb in VERBS:
        result = proc.xcpfs("help", verb)
        t.equal((result.rc, result.err), (0, ""), f"help {verb}: exit code and stderr")
        t.contains(result.out, verb, f"help {verb} names it")
    for words in (("version",), ("--version",)):
        result = proc.xcpfs(*words)
        t.equal((result.rc, result.err), (0, ""), f"{words[0]}: exit code and stderr")
        t.ok(result.out.startswith("xcpfs "), f"{words[0]} begins with the name", result)
    result = proc.xcpfs("mount", "--help")
    t.equal(result.rc, 0, "mount --help: exit code")
    for option in ("--cache-dir", "--ref", "--subdir", "--offline", "--timeout", "--memory",
                   "--log-level", "--log-file", "--config"):
        t.contains(result.out, option, f"mount --help names {option}")


def test_usage_errors(t, w):
    where = env.folder("mnt")
    for words in ((), ("nonsense",), ("mount",), ("mount", w.url), ("umount",), ("stats",),
                  ("mount", w.url, where, "more"), ("mount", "--nonsense", w.url, where),
                  ("mount", "--timeout", "soon", w.url, where), ("mount", "--timeout"),
                  ("mount", "--timeout", "-1", w.url, where),
                  ("mount", "--log-level", "loud", w.url, where), ("cache",),
                  ("cache", "nonsense"), ("help", "nonsense"), ("status", "--nonsense"),
                  ("mount", "-o", "nonsense", w.url, where), ("mount", "-o", "rw", w.url, where),
                  ("mount", "-o", "allow_other,xattr=3", w.url, where),
                  ("mount", "--ref", "a..b", w.url, where), ("mount", "--ref", "", w.url, where),
                  ("mount", "--cache-dir", "", w.url, where), ("mount", w.url, ""),
                  ("mount", "", where), ("umount", ""), ("umount", where, ""), ("stats", ""),
                  ("stats", where, "more"), ("status", ""), ("status", where, "more"),
                  ("umount", "--nonsense", where), ("stats", "--nonsense", where),
                  ("cache", "info", "more"), ("cache", "--nonsense", "info"),
                  ("help", "mount", "more"), ("version", "more"), ("--nonsense",)):
        result = proc.xcpfs(*words)
        t.equal(result.rc, 2, f"exit code of {' '.join(map(str, words))!r}")
        t.ok(result.err.strip(), "something is said on stderr")
        t.equal(result.out, "", "nothing on stdout")


def test_failures(t, _):
    place = env.folder("plain")
    for words in (("umount", place), ("stats", place), ("status", place),
                  ("status", "/no/such/place"), ("umount", "/no/such/place")):
        result = proc.xcpfs(*words)
        t.equal(result.rc, 1, f"exit code of {words[0]} {words[1]}")
        t.contains(result.err, str(words[1]), "the message names the place")


def test_nothing_mounted(t, _):
    result = proc.xcpfs("status", "--json")
    t.equal(result.rc, 0, "exit code of status")
    mine = [m for m in json.loads(result.out) if m["mountpoint"].startswith(str(env.scratch()))]
    t.equal(mine, [], "mounts of this story")


def test_status(t, w):
    mount = t.use(Mount(w.url))
    status = mount.status()
    t.ok(STATUS_KEYS <= set(status), "keys", STATUS_KEYS - set(status))
    t.equal(status["source"], w.url, "source")
    t.equal(status["commit"], repos.rev(w.repo), "commit")
    t.equal(status["tree"], repos.rev(w.repo, "HEAD^{tree}"), "tree")
    t.equal(status["mountpoint"], mount.path, "mountpoint")
    t.ok(proc.alive(status["pid"]), "pid")
    t.equal(status["state"], "online", "state")
    every = json.loads(proc.xcpfs("status", "--json").out)
    t.contains([m["pid"] for m in every], mount.pid, "status of all")
    for words in (("status",), ("status", mount.path), ("stats", mount.path)):
        result = proc.xcpfs(*words)
        t.equal((result.rc, result.err), (0, ""), f"{words[0]} for people: exit code and stderr")
        t.ok(result.out.strip(), f"{words[0]} for people says something")
    file = mount.status(mount.path + "/file0000.c")
    t.equal(file["oid"], repos.rev(w.repo, "HEAD:file0000.c"), "oid in the status of a file")


def test_stats_agree_with_the_servers_log(t, w):
    start = w.server.settle()
    mount = t.use(Mount(w.url))
    report = differential.compare(mount.path, repos.clone(w.repo))
    t.equal(report.differences, [], "differences")
    mount.idle()
    end = w.server.settle()
    stats = mount.stats()
    t.ok(STATS_KEYS <= set(stats), "keys", STATS_KEYS - set(stats))
    kinds = w.server.by_kind(start, end)
    want = {"caps": kinds.get("caps", 0), "refs": kinds.get("ls-refs", 0),
            "fetch": kinds.get("fetch", 0), "sizes": kinds.get("object-info", 0),
            "range": kinds.get("raw", 0), "api": 0, "total": sum(kinds.values())}
    t.equal(stats["requests"], want, "requests by kind")
    sent = w.server.sent(start, end)
    # The log's bytes have the framing of chunks, which no client sees as body.
    t.at_most(stats["bytes_received"], sent, "bytes received, bytes in the log")
    t.at_least(stats["bytes_received"], sent * 97 // 100, "bytes received, bytes in the log")
    t.equal(stats["bytes_served"] >= report.bytes, True, "bytes served are at least those read")
    t.equal(stats["flights"], 0, "flights")
    t.equal(stats["errors"], 0, "errors")
    t.at_least(stats["objects_fetched"], len({o for o, _ in repos.blobs(w.repo).values()}),
               "objects fetched")
    for name in ("lookup", "getattr", "read_hit", "read_miss"):
        latency = stats["latency_us"][name]
        t.ok({"p50", "p95", "p99"} <= set(latency), f"percentiles of {name}", latency)
        t.ok(latency["p50"] <= latency["p95"] <= latency["p99"], f"order of those of {name}")
    t.at_least(stats["rss_bytes"], 1 << 20, "bytes of memory")


def test_cache(t, w):
    mount = t.use(Mount(w.url))
    mount.read("file0000.c")
    mount.idle()
    info = proc.xcpfs("cache", "info", "--json", "--cache-dir", mount.cache)
    t.equal(info.rc, 0, "exit code of cache info")
    t.at_least(json.loads(info.out)["disk_bytes"], 1, "bytes on disk")
    t.equal(proc.xcpfs("cache", "info", "--cache-dir", mount.cache).rc, 0, "info for people")
    by_environment = proc.xcpfs("cache", "info", "--json",
                                environ={"XCPFS_CACHE_DIR": mount.cache})
    t.equal(json.loads(by_environment.out)["dir"], mount.cache, "XCPFS_CACHE_DIR is used")
    cleared = proc.xcpfs("cache", "clear", "--json", "--cache-dir", mount.cache)
    t.equal(cleared.rc, 0, "exit code of cache clear under a mount")
    path = next(p for p in repos.blobs(w.repo) if p != b"file0000.c")
    want = (repos.clone(w.repo) / os.fsdecode(path)).read_bytes()
    t.equal(mount.read(path), want, "the mount goes on")
    walk = differential.Comparison(mount.path, repos.clone(w.repo))
    t.equal(walk.run(os.path.dirname(path)).differences, [], "differences after clear")
    mount.unmount()
    t.equal(proc.xcpfs("cache", "clear", "--cache-dir", mount.cache).rc, 0, "cache clear")
    info = json.loads(proc.xcpfs("cache", "info", "--json", "--cache-dir", mount.cache).out)
    t.equal(info.get("objects", 0), 0, "objects after clear")
    none = proc.xcpfs("cache", "info", "--cache-dir", env.folder("empty") / "none")
    t.equal(none.rc, 0, "exit code of info for a cache that is not there")


def test_where_the_cache_is_by_default(t, w):
    home = env.folder("home-for-cache")
    for environ, where in (({"HOME": home}, home / ".cache" / "xcpfs"),
                           ({"XDG_CACHE_HOME": home / "x"}, home / "x" / "xcpfs"),
                           ({"XCPFS_CACHE_DIR": home / "y"}, home / "y")):
        place = env.folder("mnt")
        result = proc.xcpfs("mount", w.url, place, environ=environ)
        t.equal(result.rc, 0, f"mount with {list(environ)[0]}")
        t.equal(proc.xcpfs("umount", place).rc, 0, "umount")
        t.equal(os.stat(where).st_mode & 0o777, 0o700, f"mode of {where.name}")


def test_quiet_when_all_is_well(t, w):
    mount = t.use(Mount(w.url))
    t.equal((mount.result.out, mount.result.err), ("", ""), "what mount says")
    result = mount.unmount()
    t.equal((result.out, result.err), ("", ""), "what umount says")


def test_log(t, w):
    mount = t.use(Mount(w.url))
    mount.read("file0000.c")
    mount.idle()
    t.at_least(len(mount.log_lines("debug")), 2, "debug lines")
    mount.unmount()
    where, log = env.folder("mnt"), env.folder("log") / "log"
    proc.xcpfs("mount", "--cache-dir", env.folder("cache"), "--log-file", log, "--log-level",
               "info", w.url, where)
    (where / "file0000.c").read_bytes()
    t.equal(proc.xcpfs("umount", where).rc, 0, "umount")
    lines = log.read_text().splitlines()
    t.at_most(len(lines), 10, "lines at info for a mount", *lines)
    t.equal(os.stat(log).st_mode & 0o007, 0, "others may not read the log")


def test_giving_up_while_it_connects(t, w):
    """Ctrl-C at a server that does not answer: nothing stays behind, neither process nor mount."""
    server = t.use(faults.FaultServer())
    url = server.add(w.repo, "r.git")
    for front in ((), ("-f",)):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            rule = server.rule(faults.stall(), kind="ls-refs")
            mount = Mount(url, *front)
            argv = [env.XCPFS, *mount.argv()]
            with subprocess.Popen(argv, env=env.clean(), stdin=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as command:
                proc.wait_until(lambda: rule.gate.waiting, what="a request")
                command.send_signal(number)
                what = f"{number.name}{' -f' if front else ''}"
                t.equal(command.wait(20 * env.patience()), -number, f"{what}: ends the command")
            t.ok(proc.wait_until(lambda: not proc.program_children(), fail=False),
                 f"{what}: no process is left")
            t.ok(not mount.mounted(), f"{what}: no mount is left")
            rule.release()


def test_odd_circumstances(t, w):
    """Closed streams, a full one, a limit on files, words that are empty, files without an end."""
    # The thread sanitizer writes to a file of $TMPDIR before main(), and would end there.
    script = {"closed streams": 'exec "$0" "$@" <&- >&- 2>&-',
              "no file may grow": 'ulimit -f 0; TMPDIR=/none exec "$0" "$@" > /dev/null 2>&1'}
    for what, text in script.items():
        mount = Mount(w.url)
        argv = [a for a in mount.argv() if a not in ("--log-file", mount.log_path)]
        t.equal(proc.run("bash", "-c", text, env.XCPFS, *argv).rc, 0, f"mount, {what}")
        report = differential.compare(mount.path, repos.clone(w.repo))
        t.equal(report.differences, [], f"differences, {what}")
        t.equal(proc.xcpfs("umount", mount.path).rc, 0, f"umount, {what}")
    t.equal(proc.run("bash", "-c", '"$0" help > /dev/full', env.XCPFS).rc, 1, "a full output")
    result = proc.xcpfs("mount", w.url, "", cwd=mount.path)
    t.equal(result.rc, 2, "an empty mountpoint is not where we are")
    t.contains(result.err, "operand 2 is empty", "it says so")
    for path in ("/dev/zero", "/"):
        result = proc.xcpfs("mount", "--config", path, w.url, mount.path, timeout=20)
        t.equal(result.rc, 2, f"--config {path}")


tap.run([
    test_help_and_version,
    test_usage_errors,
    test_failures,
    test_nothing_mounted,
    test_status,
    test_stats_agree_with_the_servers_log,
    test_cache,
    test_where_the_cache_is_by_default,
    test_quiet_when_all_is_well,
    test_log,
    test_giving_up_while_it_connects,
    test_odd_circumstances,
], World, needs=("program", "fuse", "lighttpd"))
