#!/usr/bin/env python3
"""How fast is what is here already: the hot path of a mount, beside the local disk and beside a
file system that does nothing.

    XCPFS=build/xcpfs top_builddir=build python3 bench/hot.py REPO [requests|crowd|tree|memory]...

REPO is a git repository on the local disk. Everything is done side by side in one run; the
figures are lines "name unit value". Needs root (to drop the page cache) and rg.

    requests  rates and latencies of single requests: bench_requests, with null_fs
    crowd     1,000 readers at once
    tree      rg, grep -r and a walk with stat, hot and after a remount with dropped caches
    memory    the daemon's own memory over a crawl, and per known file
"""

import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e import env, proc  # noqa: E402  pylint: disable=wrong-import-position
from e2e.mounts import Mount  # noqa: E402  pylint: disable=wrong-import-position

BENCH = env.TOP_BUILD / "bench"
NO_KERNEL_CACHE = ("-o", "entry_timeout=0,attr_timeout=0,negative_timeout=0")
# A mount that looks whether a file has changed asks for its attributes before each read, unless the
# kernel may keep them (as it may for a year): that would be two requests, beside one of the null.
KEPT_ATTRIBUTES = ("-o", "entry_timeout=0,negative_timeout=0")
KINDS = ((NO_KERNEL_CACHE, ("lookup", "getattr")), (KEPT_ATTRIBUTES, ("read", "reread")))
SMALL = 64 << 10
SAMPLE = 1024
ROUNDS = 7
WARM_ROUNDS = 3


def say(name, unit, value):
    print(f"{name} {unit} {value:.3f}" if isinstance(value, float) else f"{name} {unit} {value}",
          flush=True)


def mount(repo, *options, cache=None):
    return Mount(repo, "--log-level", "warn", *options, cache=cache)


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")


def run(*argv):
    """Seconds of one command whose output nobody wants; grep's 1 means no match."""
    start = time.monotonic()
    done = subprocess.run([os.fspath(a) for a in argv], stdout=subprocess.DEVNULL, check=False)
    if done.returncode > 1:
        raise RuntimeError(f"{argv}: exit {done.returncode}")
    return time.monotonic() - start


class NullFs:
    def __enter__(self):
        self.path = env.folder("null")
        # In a session of its own, as a daemon is: the scheduler shares out by session.
        self._process = subprocess.Popen([BENCH / "null_fs", self.path], start_new_session=True)
        self.pid = self._process.pid
        proc.wait_until(lambda: env.mountpoints_below(os.fsencode(self.path)), 10, "null_fs")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)
        self._process.wait(10)


def files_below(top):
    for folder, names, files in os.walk(top):
        if ".git" in names:
            names.remove(".git")
        for name in files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if not os.path.islink(path):
                yield st.st_size, os.path.relpath(path, top)


def sample_list(tree):
    """A file with a seeded sample of the tree's small files, as bench_requests wants it."""
    small = sorted(f for f in files_below(tree) if 0 < f[0] <= SMALL and "\n" not in f[1])
    chosen = random.Random(1).sample(small, min(SAMPLE, len(small)))
    path = env.folder("list") / "list"
    path.write_text("".join(f"{size} {name}\n" for size, name in chosen), encoding="utf-8")
    say("sample_files", "1", len(chosen))
    say("sample_mean", "bytes", sum(f[0] for f in chosen) // len(chosen))
    return path


def fill(repo, cache):
    """Brings the whole tree into the cache."""
    with mount(repo, cache=cache) as mounted:
        run("grep", "-rc", "no such words", mounted.path)
        mounted.idle()


def say_latencies(mounted):
    for name, figures in mounted.stats()["latency_us"].items():
        if figures["count"]:
            for key in ("count", "p50", "p95", "p99", "max"):
                say(f"daemon_{name}_{key}", "1" if key == "count" else "us", figures[key])


def processor_ns(pid):
    """Processor time of all threads of a process so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total


def requests(repo, cache, tree):
    sample = sample_list(tree)
    for options, kinds in KINDS:
        request_kinds(repo, cache, sample, options, kinds)


def request_kinds(repo, cache, sample, options, kinds):
    with NullFs() as null, mount(repo, *options, cache=cache) as mounted:
        for kind in kinds:
            before = [processor_ns(pid) for pid in (null.pid, mounted.pid)]
            subprocess.run([BENCH / "bench_requests", null.path, mounted.path, sample, kind],
                           check=True)
            after = [processor_ns(pid) for pid in (null.pid, mounted.pid)]
            # The daemon's processor time does not mind what else runs on this machine.
            say(f"{kind}_processor_ratio", "1", (after[0] - before[0]) / (after[1] - before[1]))
        say_latencies(mounted)


def crowd(repo, cache, tree):
    sample = sample_list(tree)
    with mount(repo, *NO_KERNEL_CACHE, cache=cache) as mounted:
        subprocess.run([BENCH / "bench_requests", "--crowd", "1000", mounted.path, sample],
                       check=True)
        say_latencies(mounted)


COMMANDS = {
    "rg": ("rg", "-c", "no such words", "-uu"),
    "grep": ("grep", "-rc", "no such words"),
    "find": ("find", "DIR", "-printf", "%s %m %n"),
}


def command(name, top):
    argv = COMMANDS[name]
    return [top if a == "DIR" else a for a in argv] if "DIR" in argv else [*argv, top]


def say_ratio(name, local, ours):
    say(f"{name}_local", "s", statistics.median(local))
    say(f"{name}_mount", "s", statistics.median(ours))
    say(f"{name}_ratio", "1", statistics.median(ours) / statistics.median(local))


def hot(mounted, tree):
    for name in COMMANDS:
        times = ([], [])
        for round_number in range(ROUNDS + 2):
            for which, top in enumerate((tree, mounted.path)):
                took = run(*command(name, top))
                if round_number >= 2:
                    times[which].append(took)
        say_ratio(f"hot_{name}", *times)


def warm(repo, cache, tree):
    for name in COMMANDS:
        times = ([], [])
        for _ in range(WARM_ROUNDS):
            drop_caches()
            times[0].append(run(*command(name, tree)))
            with mount(repo, cache=cache) as mounted:
                drop_caches()
                times[1].append(run(*command(name, mounted.path)))
        say_ratio(f"warm_{name}", *times)


def trees(repo, cache, tree):
    with mount(repo, cache=cache) as mounted:
        hot(mounted, tree)
        say_latencies(mounted)
    warm(repo, cache, tree)


def memory(repo):
    """A crawl of a cold mount, then the same tree known but not read."""
    cache = env.folder("cache")
    with mount(repo, cache=cache) as mounted, proc.RssSampler(mounted.pid) as rss:
        run("grep", "-rc", "no such words", mounted.path)
        mounted.idle()
        say("crawl_rss_anon_max", "KiB", rss.max_kib)
    with mount(repo, cache=cache) as mounted:
        before = mounted.stats()
        run("find", mounted.path, "-printf", "%s")
        after = mounted.stats()
        nodes = after["nodes"] - before["nodes"]
        say("known_files", "1", nodes)
        say("known_file_cost", "bytes",
            (after["rss_anon_bytes"] - before["rss_anon_bytes"]) // nodes)


def checkout(repo):
    """A plain copy on the local disk, without .git, as a tree that was just unpacked."""
    path = env.folder("tree")
    subprocess.run(f"git -C '{repo}' archive HEAD | tar -x -C '{path}'", shell=True, check=True)
    return path


def main():
    repo = Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:] or ["requests", "crowd", "tree", "memory"]
    if "memory" in wanted:
        memory(repo)
    if wanted == ["memory"]:
        return
    cache, tree = env.folder("cache"), checkout(repo)
    fill(repo, cache)
    for name, measure in (("requests", requests), ("crowd", crowd), ("tree", trees)):
        if name in wanted:
            measure(repo, cache, tree)


main()
