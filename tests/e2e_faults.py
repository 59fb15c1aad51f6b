#!/usr/bin/env python3
"""Every fault of a server ends in a clear error or a right answer, never in wrong bytes."""

import errno
import os

from e2e import differential, faults, repos, tap
from e2e.mounts import Mount, MountFailed, Readers, expect_failure, read_whole

TIMEOUT = "3"                             # seconds without progress; the default is 30


class World:
    def __init__(self, t):
        self.repo = repos.small()
        self.clone = repos.clone(self.repo)
        self.blobs = repos.blobs(self.repo)
        self.server = t.use(faults.FaultServer())
        self.url = self.server.add(self.repo, "r.git")
        base = os.fsencode(self.clone)
        self.want = {p: read_whole(os.path.join(base, p)) for p in self.blobs}


def read_all(mount, paths):
    """Reads files at once: (right, those with EIO, everything else)."""
    readers = Readers(paths, mount.read).start()
    stuck = readers.join(60)
    failed = [p for p, e in readers.errors.items() if getattr(e, "errno", 0) == errno.EIO]
    odd = {p: repr(e) for p, e in readers.errors.items() if p not in failed}
    if stuck:
        odd["stuck"] = stuck
    return readers.results, failed, odd


def under_a_fault(t, w, action, kind="content", heals=False, words=(), **how):
    """Reads everything under a fault, then again without it; checks what must always hold."""
    name = action.__name__
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    rule = w.server.rule(action, kind=kind, **how)
    right, failed, odd = read_all(mount, list(w.want))
    t.equal([p for p in right if right[p] != w.want[p]], [], f"{name}: wrong bytes")
    t.equal(odd, {}, f"{name}: anything but right bytes or EIO")
    t.at_least(rule.hits, 1, f"{name}: times it was met")
    if heals:
        t.equal(failed, [], f"{name}: files that failed though it heals")
    else:
        t.at_least(len(failed), 1, f"{name}: files with EIO")
        for word in words:
            t.ok(mount.log_lines(word), f"{name}: the log says {word!r}",
                 *mount.log().splitlines()[-15:])
    rule.release()
    check_afterwards(t, w, mount, name)
    return mount


def check_afterwards(t, w, mount, name):
    """The fault is gone: everything reads right, and so it does from the cache alone."""
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], f"{name}: differences when it is gone")
    mount.idle()
    mount.unmount()
    w.server.down()
    try:
        offline = t.use(Mount(w.url, "--timeout", TIMEOUT, cache=mount.cache))
        report = differential.compare(offline.path, w.clone)
        t.equal(report.differences, [], f"{name}: differences in what the cache holds")
        offline.unmount()
    finally:
        w.server.up()


def test_faults_that_pass(t, w):
    for action in (faults.reset_in_header(), faults.close_at_once(), faults.reset_in_body(300),
                   faults.short_body(300), faults.truncate_pack(-30), faults.flip_byte(-40),
                   faults.status(500), faults.status(503), faults.status(429),
                   faults.status(429, ("Retry-After", "1"))):
        under_a_fault(t, w, action, times=1, heals=True)


def test_lost_connections(t, w):
    for action in (faults.reset_in_header(), faults.close_at_once(), faults.reset_in_body(100),
                   faults.short_body(200)):
        under_a_fault(t, w, action, words=("127.0.0.1",))


def test_spoiled_packs(t, w):
    for action in (faults.truncate_pack(20), faults.truncate_pack(-1), faults.truncate_pack(-21),
                   faults.flip_byte(5), faults.flip_byte(20), faults.flip_byte(-5),
                   faults.sideband_error("e2e went wrong")):
        under_a_fault(t, w, action)


def test_another_object_than_wanted(t, w):
    wrong = w.blobs[b"run.sh"][0]
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    rule = w.server.rule(faults.other_object(wrong), kind="content")
    right, failed, odd = read_all(mount, [b"dir/inner"])
    t.equal((right, failed, odd), ({}, [b"dir/inner"], {}), "a file whose blob never comes")
    t.at_least(rule.hits, 1, "times it was met")
    rule.release()
    check_afterwards(t, w, mount, "other_object")


def test_one_unknown_id_in_a_batch(t, w):
    gone = w.blobs[b"file3"][0]
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    rule = w.server.rule(faults.err_line(f"upload-pack: not our ref {gone}"),
                         where=lambda r: r.kind == "fetch" and gone in r.wants)
    right, failed, odd = read_all(mount, list(w.want))
    t.equal(failed, [b"file3"], "the only file with EIO")
    t.equal(odd, {}, "other errors")
    t.equal([p for p in right if right[p] != w.want[p]], [], "wrong bytes")
    t.equal(len(right), len(w.want) - 1, "files that are right")
    t.ok(mount.log_lines(gone[:7]), "the log names the object", *mount.log().splitlines()[-15:])
    rule.release()
    check_afterwards(t, w, mount, "unknown id")


def test_words_of_the_server(t, w):
    under_a_fault(t, w, faults.err_line("e2e says no"), words=("e2e says no",))
    under_a_fault(t, w, faults.empty_body())
    under_a_fault(t, w, faults.html())
    for code in (401, 403, 404):
        action = faults.unauthorized() if code == 401 else faults.status(code)
        under_a_fault(t, w, action, words=(str(code),))


def test_a_server_that_stays_broken(t, w):
    for action in (faults.status(500), faults.status(429),
                   faults.status(429, ("Retry-After", "3600"))):
        under_a_fault(t, w, action, words=(action.__name__[-3:],))


def test_repeated_failures_are_not_a_flood(t, w):
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    rule = w.server.rule(faults.status(500), kind="content")
    _, failed, odd = read_all(mount, list(w.want))
    t.equal((len(failed), odd), (len(w.want), {}), "files with EIO")
    t.at_most(rule.hits, 40, "requests to a server that answers 500")
    rule.release()


def test_stalled_for_ever(t, w):
    for after in (None, 0, 200):
        mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
        rule = w.server.rule(faults.stall(after), kind="content")
        right, failed, odd = read_all(mount, list(w.want))
        wrong = [p for p in right if right[p] != w.want[p]]
        t.equal(wrong, [], f"stalled after {after}: wrong bytes")
        t.equal(odd, {}, f"stalled after {after}: anything but right bytes or EIO")
        # A small answer may be whole within 200 bytes.
        t.at_least(len(failed), 10 if after else len(w.want),
                   f"stalled after {after}: files with EIO within their deadline")
        t.at_least(len(mount.list()), 10, "names: what is here is still served")
        rule.release()
        check_afterwards(t, w, mount, f"stalled after {after}")


def test_refused(t, w):
    mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
    w.server.down()
    right, failed, odd = read_all(mount, list(w.want))
    t.equal((right, odd), ({}, {}), "anything but EIO")
    t.equal(len(failed), len(w.want), "files with EIO")
    w.server.up()
    check_afterwards(t, w, mount, "refused")


def test_faults_while_mounting(t, w):
    """The program's own exit code and words; transient faults heal by themselves."""
    for kind in ("caps", "ls-refs", "trees"):
        for action, words in ((faults.status(403), "403"), (faults.status(404), ""),
                              (faults.unauthorized(), ""), (faults.html(), ""),
                              (faults.flip_byte(-30) if kind == "trees" else faults.empty_body(),
                               "")):
            rule = w.server.rule(action, kind=kind)
            result = expect_failure(w.url, "--timeout", TIMEOUT)
            rule.release()
            if kind == "caps" or rule.hits:
                t.equal(result.rc, 1, f"{action.__name__} of {kind}: exit code")
                t.contains(result.err, w.url, f"{action.__name__} of {kind}: names the source")
                t.contains(result.err, words, f"{action.__name__} of {kind}: {words}")
                t.equal(len(result.err.strip().splitlines()) <= 3, True,
                        f"{action.__name__} of {kind}: a short message")
        for action in (faults.status(500), faults.reset_in_header(), faults.reset_in_body(50),
                       faults.status(429, ("Retry-After", "1"))):
            one_fault_while_mounting(t, w, action, kind)


def one_fault_while_mounting(t, w, action, kind):
    """A single fault heals, or is told in words; what comes after the mount is right."""
    name = f"one {action.__name__} of {kind}"
    rule = w.server.rule(action, kind=kind, times=1)
    mount = Mount(w.url, "--timeout", TIMEOUT)
    t.defer(mount.clean_up)
    try:
        mount.start()
        t.equal(mount.read("dir/inner"), b"inner\n", f"{name} heals")
    except MountFailed as error:
        t.ok(kind != "trees", f"{name} heals")
        t.equal(error.result.rc, 1, f"{name}: exit code")
        t.contains(error.result.err, w.url, f"{name}: names the source")
    rule.release()
    mount.clean_up()


def test_what_is_no_git_server(t, w):
    for action in (faults.dumb(), faults.html(), faults.status(404)):
        rule = w.server.rule(action)
        result = expect_failure(w.url, "--timeout", TIMEOUT)
        rule.release()
        t.equal(result.rc, 1, f"{action.__name__}: exit code")
        t.contains(result.err, w.url, f"{action.__name__}: names the source")
    rule = w.server.rule(faults.dumb())
    result = expect_failure(w.url, "--timeout", TIMEOUT)
    rule.release()
    t.contains(result.err, "dumb", "the message says dumb")


def test_a_password_wanted_and_none_there(t, w):
    rule = w.server.rule(faults.unauthorized())
    result = expect_failure(w.url, "--timeout", TIMEOUT)
    rule.release()
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, "password", "the message")
    t.contains(result.err, "credential", "the remedy")


def test_refused_while_mounting(t, w):
    w.server.down()
    result = expect_failure(w.url, "--timeout", TIMEOUT)
    w.server.up()
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, w.url, "the message names the source")
    t.contains(result.err, "onnect", "the message")


def test_redirects_and_credentials(t, w):
    other = t.use(faults.FaultServer("127.0.0.2"))
    other.add(w.repo, "r.git")
    secret = "e2e-redirect-s3cret"
    url = w.url.replace("//", f"//someone:{secret}@")
    rule = w.server.rule(faults.redirect(f"http://127.0.0.2:{other.port}"), kind="caps")
    mount = None
    try:
        mount = Mount(url, "--timeout", TIMEOUT)
        t.defer(mount.clean_up)
        mount.start()
        t.equal(mount.read("dir/inner"), b"inner\n", "a file through a first redirect")
    except OSError as error:
        t.ok(False, "a file through a redirect of the first request", error)
    except Exception as error:            # refusing is right too, when it says so
        t.contains(str(error), "redirect", "a refusal says why")
    rule.release()
    t.equal([str(r) for r in other.requests if r.authorization], [],
            "requests with credentials at the other host")
    t.equal([r.path for r in other.requests if secret in r.path + str(r.headers)], [],
            "the secret at the other host")

    # A redirect later on, in the middle of things: not followed with what was typed for another.
    mount = t.use(Mount(url, "--timeout", TIMEOUT))
    rule = w.server.rule(faults.redirect(f"http://127.0.0.2:{other.port}"), kind="content")
    right, _, odd = read_all(mount, [b"dir/inner"])
    t.ok(right in ({}, {b"dir/inner": b"inner\n"}) and not odd, "a later redirect")
    rule.release()
    t.equal([str(r) for r in other.requests if r.authorization], [],
            "requests with credentials at the other host after a later redirect")


def test_spoiled_trees_never_show(t, w):
    for action in (faults.truncate_pack(-30), faults.flip_byte(60), faults.flip_byte(-30),
                   faults.other_object(w.blobs[b"run.sh"][0])):
        rule = w.server.rule(action, kind="trees")
        mount = Mount(w.url, "--timeout", TIMEOUT)
        t.defer(mount.clean_up)
        try:
            mount.start()
            wrong = tree_differences(mount, w)          # what came whole may be shown
            t.equal(wrong, [], f"{action.__name__} of the trees: anything but the truth or EIO")
        except MountFailed as error:
            t.equal(error.result.rc, 1, f"{action.__name__} of the trees: exit code")
            mount = None
        t.at_least(rule.hits, 1, f"{action.__name__}: times it was met")
        rule.release()
        if mount:
            check_afterwards(t, w, mount, f"{action.__name__} of the trees")


def tree_differences(mount, w):
    """Folders whose names are not those of the clone, unless they cannot be listed (EIO)."""
    wrong = []
    for folder in ("", "dir", "dir/sub"):
        want = sorted(n for n in os.listdir(os.path.join(w.clone, folder)) if n != ".git")
        try:
            if sorted(map(os.fsdecode, mount.list(folder))) != want:
                wrong.append(folder)
        except OSError as error:
            if error.errno != errno.EIO:
                wrong.append((folder, error))
    return wrong


def test_sizes_that_do_not_come(t, w):
    """object-info fails: sizes come in another way, or the stat fails; no wrong size."""
    for action in (faults.status(500), faults.empty_body(), faults.err_line("e2e no sizes"),
                   faults.reset_in_header()):
        mount = t.use(Mount(w.url, "--timeout", TIMEOUT))
        rule = w.server.rule(action, kind="object-info")
        wrong, errors = [], set()
        for path, (_, size) in w.blobs.items():
            try:
                if mount.stat(path).st_size != size:
                    wrong.append(path)
            except OSError as error:
                errors.add(error.errno)
        t.equal(wrong, [], f"{action.__name__}: wrong sizes")
        t.ok(errors <= {errno.EIO}, f"{action.__name__}: errors other than EIO", errors)
        rule.release()
        check_afterwards(t, w, mount, f"{action.__name__} of object-info")


tap.run([
    test_faults_that_pass,
    test_lost_connections,
    test_spoiled_packs,
    test_another_object_than_wanted,
    test_one_unknown_id_in_a_batch,
    test_words_of_the_server,
    test_a_server_that_stays_broken,
    test_repeated_failures_are_not_a_flood,
    test_stalled_for_ever,
    test_refused,
    test_faults_while_mounting,
    test_what_is_no_git_server,
    test_a_password_wanted_and_none_there,
    test_refused_while_mounting,
    test_redirects_and_credentials,
    test_spoiled_trees_never_show,
    test_sizes_that_do_not_come,
], World, needs=("program", "fuse", "git"))
