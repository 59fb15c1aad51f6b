#!/usr/bin/env python3
"""Many readers at once, on a server that answers and on one that has stalled."""

import os
import random
import signal
import subprocess
import threading

from e2e import env, faults, proc, repos, tap
from e2e.lighttpd import GitHttpServer
from e2e.mounts import SYS_PREAD, SYS_READ, Mount, Readers, read_whole

MIB = 1 << 20
PAGE = 4096


def contents(clone, paths):
    base = os.fsencode(clone)
    return {p: read_whole(os.path.join(base, p)) for p in paths}


def test_a_thousand_readers_on_cold_files(t):
    repo = repos.sources()
    server = t.use(GitHttpServer())
    mount = t.use(Mount(server.add(repo)))
    rng = random.Random(1)
    paths = sorted(repos.blobs(repo))
    distinct = rng.sample(paths, 800)
    chosen = distinct + rng.choices(distinct, k=200)
    rng.shuffle(chosen)
    start = server.settle()
    items = list(enumerate(chosen))                    # so that overlapping ones stay apart
    readers = Readers(items, lambda item: read_whole(mount.join(item[1]))).start()
    t.equal(readers.join(), 0, "stuck threads")
    t.equal(readers.errors, {}, "errors")
    want = contents(repos.clone(repo), distinct)
    t.equal([i for i in items if readers.results.get(i) != want[i[1]]], [], "wrong bytes")
    mount.idle()
    t.at_most(server.count(start, server.settle()), len(distinct) // 20,
              f"requests for {len(distinct)} files")
    t.equal(mount.stats()["flights"], 0, "flights at the end")


class Stalled:
    """A mount whose server answers everything but content; one 1 MiB file is cached."""

    def __init__(self, t):
        self.repo = repos.mixed()
        self.clone = repos.clone(self.repo)
        self.blobs = repos.blobs(self.repo)
        self.server = t.use(faults.FaultServer())
        self.mount = t.use(Mount(self.server.add(self.repo), "--timeout", "200"))
        self.one_mib = self.mount.read("one.bin")
        self.mount.idle()
        self.rule = self.server.rule(faults.stall(100), kind="content")
        t.defer(self.rule.release)
        small = [p for p, (_, size) in self.blobs.items() if size < MIB]
        self.cold = random.Random(2).sample(small, 500)

    def folder(self):
        """One with files that are going to be read, and others."""
        return os.path.dirname(self.cold[0])

    def park(self, t):
        """All are open before the first is read: the kernel has heard no size."""
        opened = threading.Barrier(len(self.cold))

        def read(path):
            fd = os.open(self.mount.join(path), os.O_RDONLY)
            try:
                opened.wait(60 * env.patience())
                return b"".join(iter(lambda: os.read(fd, MIB), b""))
            finally:
                os.close(fd)
        readers = Readers(self.cold, read).start()
        parked = proc.wait_until(
            lambda: readers.blocked_in((SYS_READ, SYS_PREAD)) + len(readers.results) >= 500
            and self.rule.gate.waiting, 60, "500 reads to be parked", fail=False)
        t.ok(parked, "500 reads are parked")
        t.at_least(readers.blocked_in((SYS_READ, SYS_PREAD)), 400, "threads that wait in read")
        return readers


@tap.limit(240)
def test_a_stalled_server_stops_nobody_else(t):
    w = Stalled(t)
    readers = w.park(t)

    before = w.mount.stats()
    fd = os.open(w.mount.join("one.bin"), os.O_RDONLY)
    t.defer(os.close, fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    done = Readers(["one"], lambda _: os.pread(fd, MIB + 1, 0)).start()
    t.equal(done.join(20), 0, "a cached 1 MiB file is read while 500 wait")
    t.ok(done.results.get("one") == w.one_mib, "its bytes are right")
    after = w.mount.stats()
    hits = read_requests(after) - read_requests(before)
    t.at_most(hits, MIB // (64 << 10), "read requests of the kernel for 1 MiB")
    t.at_least(hits, 1, "read requests of the kernel for 1 MiB")

    folder = w.folder()
    names = [p for p in w.blobs if os.path.dirname(p) == folder]
    done = Readers(names, lambda p: w.mount.stat(p).st_size).start()
    t.equal(done.join(20), 0, "stat of every name in a folder of parked files comes back")
    t.equal(done.results, {p: w.blobs[p][1] for p in names}, "sizes")
    t.raises(2, os.lstat, w.mount.join(folder + b"/none"))

    for command in ("cat", "md5sum"):
        ends_with_ctrl_c(t, [command, w.mount.join(w.cold[3])], reads=True)
    t.equal(w.rule.gate.waiting > 0, True, "the server still stalls")
    t.equal(len(readers.results) < 500, True, "the readers still wait")

    w.rule.release()
    t.equal(readers.join(), 0, "stuck threads when the server goes on")
    t.equal(readers.errors, {}, "errors")
    want = contents(w.clone, w.cold)
    t.equal([p for p in w.cold if readers.results.get(p) != want[p]], [], "wrong bytes")
    w.mount.idle()
    t.equal(w.mount.stats()["flights"], 0, "flights at the end")
    t.ok(w.mount.read("d03/three.bin") == (w.clone / "d03/three.bin").read_bytes(),
         "the mount still serves")


@tap.limit(240)
def test_ls_of_a_folder_that_is_being_read_comes_back(t):
    """The kernel asked for each size before it read, so nothing is left to wait for."""
    w = Stalled(t)
    w.mount.list(w.folder())
    readers = w.park(t)
    path = w.mount.join(w.folder())
    for command in (["find", path, "-size", "+1"], ["du", "-a", path], ["ls", "-l", path]):
        done = proc.run(*command, timeout=20)
        t.equal(done.rc, 0, f"{command[0]} while the server stalls")
    t.equal(sizes_listed(os.fsencode(done.out)), sizes_in(w.blobs, w.folder()),
            "sizes that ls shows")
    t.equal(len(readers.results), 0, "reads that have ended")
    w.rule.release()
    t.equal(readers.join(), 0, "stuck threads when the server goes on")


def sizes_listed(text):
    rows = [line.split(maxsplit=8) for line in text.splitlines()]
    return {row[8]: int(row[4]) for row in rows if row[0].startswith(b"-")}


def sizes_in(blobs, folder):
    return {os.path.basename(p): size for p, (_, size) in blobs.items()
            if os.path.dirname(p) == folder}


def ends_with_ctrl_c(t, command, reads=False):
    """
    A program that waits for the mount ends by a signal, and never sleeps where none comes. (A wait
    for a page that another one reads looks like that, but does end.)
    """
    name = command[0]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             preexec_fn=_default_sigint)
    t.ok(proc.wait_until(lambda: blocked(child.pid), 20, fail=False), f"{name} waits")
    if not reads:
        t.equal([proc.state(child.pid) for _ in range(50)].count("D"), 0,
                f"{name} in uninterruptible sleep")
    child.send_signal(signal.SIGINT)
    t.equal(wait(child, 1 * env.patience()), -signal.SIGINT, f"Ctrl-C ends {name}")


def _default_sigint():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait(child, seconds=20):
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return "did not end"


def read_requests(stats):
    """How many READs of the kernel the daemon has answered."""
    latency = stats["latency_us"]
    return sum(latency[name]["count"] for name in ("read_hit", "read_miss"))


def blocked(pid):
    """Whether a process waits for a FUSE answer (its system call has not returned)."""
    try:
        with open(f"/proc/{pid}/stack", encoding="ascii") as file:
            stack = file.read()
    except OSError:
        return True
    return "fuse" in stack or "folio_wait" in stack


def test_ctrl_c_ends_a_stat_that_waits(t):
    repo = repos.mixed()
    server = t.use(faults.FaultServer())
    mount = t.use(Mount(server.add(repo, object_info=False), "--timeout", "200"))
    mount.list("d05")
    rule = server.rule(faults.stall(None), kind="content")
    child = subprocess.Popen(["stat", mount.join("d05/f005")], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, preexec_fn=_default_sigint)
    t.ok(proc.wait_until(lambda: blocked(child.pid) and rule.gate.waiting, 20, fail=False),
         "stat waits for the size")
    other = Readers(["d05/none"], lambda p: os.path.exists(mount.join(p))).start()
    t.equal(other.join(20), 0, "a lookup of another name in the folder comes back")
    child.send_signal(signal.SIGINT)
    t.equal(wait(child), -signal.SIGINT, "Ctrl-C ends stat")
    rule.release()
    size = repos.blobs(repo)[b"d05/f005"][1]
    t.equal(mount.stat("d05/f005").st_size, size, "the size when the server goes on")


def test_stat_beside_a_blind_read_can_be_ended(t):
    """
    sendfile does not ask for the size first, so its pages are locked while the kernel hears it. A
    far end changes nothing: all pages of a file go when its size changes.
    """
    repo = repos.mixed()
    server = t.use(faults.FaultServer())
    mount = t.use(Mount(server.add(repo), "--timeout", "200"))
    rule = server.rule(faults.stall(None), kind="content")
    t.defer(rule.release)
    path = mount.join("d03/eight.bin")
    fd = os.open(path, os.O_RDONLY)
    t.defer(os.close, fd)
    for name in ("f003", "f015", "f027"):  # we know all sizes from here on, the kernel does not
        mount.stat(f"d03/{name}")
    send = f"import os; print(os.sendfile(1, {fd}, 0, 4))"
    reader = subprocess.Popen(["python3", "-c", send], pass_fds=(fd,), stdout=subprocess.PIPE)
    # what links say was asked for with the sizes, and stands at the gate already
    t.ok(proc.wait_until(lambda: mount.stats()["parked"] and blocked(reader.pid), 20, fail=False),
         "a blind read waits")
    ends_with_ctrl_c(t, ["stat", path])
    t.equal(wait(subprocess.Popen(["ls", mount.join("d03")], stdout=subprocess.DEVNULL)), 0,
            "a listing of the folder comes back")
    rule.release()
    want = (repos.clone(repo) / "d03/eight.bin").read_bytes()
    t.equal(reader.communicate(timeout=20 * env.patience())[0], want[:4] + b"4\n",
            "what sendfile sent")
    t.equal(mount.stat("d03/eight.bin").st_size, len(want), "the size afterwards")


def test_killed_readers_leave_nothing(t):
    w = Stalled(t)
    children = [subprocess.Popen(["cat", w.mount.join(p)], stdout=subprocess.DEVNULL)
                for p in w.cold[:60]]
    proc.wait_until(lambda: sum(blocked(c.pid) for c in children) >= 60, 30, "60 cats to wait")
    for child in children:
        child.kill()
    codes = {wait(child) for child in children}
    t.equal(codes, {-signal.SIGKILL}, "kill -9 ends every reader")
    w.rule.release()
    w.mount.idle()
    want = contents(w.clone, w.cold[:60])
    t.equal([p for p in want if w.mount.read(p) != want[p]], [], "wrong bytes afterwards")


def test_readers_of_one_large_file(t):
    repo = repos.large()
    server = t.use(GitHttpServer())
    mount = t.use(Mount(server.add(repo)))
    want = (repos.clone(repo) / "8MiB.bin").read_bytes()
    # Known before: a first look at a file of unknown size may be a request that ends at its header.
    mount.list()
    t.equal(mount.stat("8MiB.bin").st_size, len(want), "size")
    start = server.settle()
    items = [(n, random.Random(n).randrange(len(want))) for n in range(64)]
    fd = os.open(mount.join("8MiB.bin"), os.O_RDONLY)
    t.defer(os.close, fd)
    barrier = threading.Barrier(len(items))

    def read(item):
        barrier.wait()
        return os.pread(fd, 3 * PAGE, item[1])
    readers = Readers(items, read).start()
    t.equal(readers.join(), 0, "stuck threads")
    t.equal([i for i in items if readers.results.get(i) != want[i[1]:i[1] + 3 * PAGE]], [],
            "wrong bytes")
    mount.idle()
    contents_sent = server.contents(start, server.settle())
    t.at_most(contents_sent, 1, "requests for content: one flight per thing")


tap.run([
    test_a_thousand_readers_on_cold_files,
    test_a_stalled_server_stops_nobody_else,
    test_ls_of_a_folder_that_is_being_read_comes_back,
    test_ctrl_c_ends_a_stat_that_waits,
    test_stat_beside_a_blind_read_can_be_ended,
    test_killed_readers_leave_nothing,
    test_readers_of_one_large_file,
], needs=("program", "fuse", "lighttpd"))
