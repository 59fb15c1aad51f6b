#!/usr/bin/env python3
"""Every fault of a server ends in a clear error or a right answer, never in wrong bytes."""

import errno
import os

from e2e import differential, faults, repos, tap
from e2e.mounts import Mount, MountFailed, Readers, expect_failure, read_whole

TIMEOUT = "3"                             # seconds without progress; the default is 30


class World:
    """The repository and what its files hold."""

    def __init__(self, _):
        self.repo = repos.small()
        self.clone = repos.clone(self.repo)
        self.blobs = repos.blobs(self.repo)
        base = os.fsencode(self.clone)
        self.want = {p: read_whole(os.path.join(base, p)) for p in self.blobs}

    def place(self, t):
        """A server of its own, so that faults can be tried side by side."""
        return Place(t, self)


class Place:
    """A server with the repository, and mounts of it."""

    def __init__(self, t, world):
        self.server = t.use(faults.FaultServer())
        self.url = self.server.add(world.repo, "r.git")

    def mount(self, t, **options):
        return t.use(Mount(self.url, "--timeout", TIMEOUT, **options))


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
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(action, kind=kind, **how)
    right, failed, odd = read_all(mount, list(w.want))
    t.equal([p for p in right if right[p] != w.want[p]], [], f"{name}: wrong bytes")
    t.equal(odd, {}, f"{name}: anything but right bytes or EIO")
    t.at_least(rule.hits, 1, f"{name}: times it was met")
    if heals:
        t.equal(failed, [], f"{name}: files that failed though it heals")
    elif heals is False:
        t.at_least(len(failed), 1, f"{name}: files with EIO")
        for word in words:
            t.ok(mount.log_lines(word), f"{name}: the log says {word!r}",
                 *mount.log().splitlines()[-15:])
    rule.release()
    check_afterwards(t, w, place, mount, name)


def check_afterwards(t, w, place, mount, name):
    """The fault is gone: everything reads right, and so it does from the cache alone."""
    report = differential.compare(mount.path, w.clone)
    t.equal(report.differences, [], f"{name}: differences when it is gone")
    mount.idle()
    mount.unmount()
    place.server.down()
    offline = place.mount(t, cache=mount.cache)
    report = differential.compare(offline.path, w.clone)
    t.equal(report.differences, [], f"{name}: differences in what the cache holds")
    offline.unmount()


def test_faults_that_pass(t, w):
    actions = (faults.reset_in_header(), faults.close_at_once(), faults.reset_in_body(300),
               faults.short_body(300), faults.truncate_pack(-30), faults.flip_byte(-40),
               faults.status(500), faults.status(503), faults.status(429),
               faults.status(429, ("Retry-After", "1")))
    t.together((_healing, t, w, action) for action in actions)


def _healing(t, w, action):
    under_a_fault(t, w, action, times=1, heals=True)


def test_lost_connections(t, w):
    t.together((_failing, t, w, action, "127.0.0.1")
               for action in (faults.reset_in_header(), faults.close_at_once(),
                              faults.reset_in_body(100), faults.short_body(200)))


def _failing(t, w, action, *words):
    under_a_fault(t, w, action, words=words)


def test_spoiled_packs(t, w):
    t.together([(_failing, t, w, action)
                for action in (faults.truncate_pack(20), faults.truncate_pack(-40),
                               faults.flip_byte(5), faults.flip_byte(20),
                               faults.sideband_error("e2e went wrong"))]
               # Where only the pack's own checksum is hurt, every object has shown its id.
               + [(_failing_or_right, t, w, action)
                  for action in (faults.truncate_pack(-1), faults.flip_byte(-5))])


def _failing_or_right(t, w, action):
    under_a_fault(t, w, action, heals=None)


def test_words_of_the_server(t, w):
    t.together([(_failing, t, w, faults.err_line("e2e says no"), "e2e says no"),
                (_failing, t, w, faults.empty_body()), (_failing, t, w, faults.html()),
                (_failing, t, w, faults.unauthorized(), "401"),
                (_failing, t, w, faults.status(403), "403"),
                (_failing, t, w, faults.status(404), "404"),
                (_failing, t, w, faults.status(500), "500"),
                (_failing, t, w, faults.status(429), "429")])


def test_told_to_come_back_in_an_hour(t, w):
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(faults.status(429, ("Retry-After", "3600")), kind="content")
    right, failed, odd = read_all(mount, list(w.want))
    t.equal((right, odd), ({}, {}), "anything but EIO")
    t.equal(len(failed), len(w.want), "files with EIO")
    # As many as may be under way when it says so: four for contents, two for sizes.
    t.at_most(rule.hits, 6, "requests to a server that said so")
    t.ok(mount.log_lines("429"), "the log says why", *mount.log().splitlines()[-15:])


def test_another_object_than_wanted(t, w):
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(faults.other_object(w.blobs[b"run.sh"][0]), kind="content")
    right, failed, odd = read_all(mount, [b"dir/inner"])
    t.equal((right, failed, odd), ({}, [b"dir/inner"], {}), "a file whose blob never comes")
    t.at_least(rule.hits, 1, "times it was met")
    rule.release()
    check_afterwards(t, w, place, mount, "other_object")


def test_one_unknown_id_in_a_batch(t, w):
    gone = w.blobs[b"file3"][0]
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(faults.err_line(f"upload-pack: not our ref {gone}"),
                             where=lambda r: r.kind == "fetch" and gone in r.wants)
    right, failed, odd = read_all(mount, list(w.want))
    t.equal(failed, [b"file3"], "the only file with EIO")
    t.equal(odd, {}, "other errors")
    t.equal([p for p in right if right[p] != w.want[p]], [], "wrong bytes")
    t.equal(len(right), len(w.want) - 1, "files that are right")
    t.ok(mount.log_lines(gone[:7]), "the log names the object", *mount.log().splitlines()[-15:])
    rule.release()
    check_afterwards(t, w, place, mount, "unknown id")


def test_repeated_failures_are_not_a_flood(t, w):
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(faults.status(500), kind="content")
    _, failed, odd = read_all(mount, list(w.want))
    t.equal((len(failed), odd), (len(w.want), {}), "files with EIO")
    t.at_most(rule.hits, 40, "requests to a server that answers 500")


def test_stalled_for_ever(t, w):
    t.together((_stalled, t, w, after) for after in (None, 0, 200))


def _stalled(t, w, after):
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(faults.stall(after), kind="content")
    right, failed, odd = read_all(mount, list(w.want))
    wrong = [p for p in right if right[p] != w.want[p]]
    t.equal(wrong, [], f"stalled after {after}: wrong bytes")
    t.equal(odd, {}, f"stalled after {after}: anything but right bytes or EIO")
    # A small answer may be whole within 200 bytes.
    t.at_least(len(failed), 10 if after else len(w.want),
               f"stalled after {after}: files with EIO within their deadline")
    t.at_least(len(mount.list()), 10, f"stalled after {after}: names that are still served")
    rule.release()
    check_afterwards(t, w, place, mount, f"stalled after {after}")


def test_refused(t, w):
    place = w.place(t)
    mount = place.mount(t)
    place.server.down()
    right, failed, odd = read_all(mount, list(w.want))
    t.equal((right, odd), ({}, {}), "anything but EIO")
    t.equal(len(failed), len(w.want), "files with EIO")
    place.server.up()
    check_afterwards(t, w, place, mount, "refused")


def test_faults_while_mounting(t, w):
    """Exit code and words; what passes may heal by itself."""
    place = w.place(t)
    for kind in ("caps", "ls-refs", "trees"):
        for action, words in ((faults.status(403), "403"), (faults.status(404), ""),
                              (faults.unauthorized(), ""), (faults.html(), ""),
                              (faults.empty_body(), "")):
            rule = place.server.rule(action, kind=kind)
            result = expect_failure(place.url, "--timeout", TIMEOUT)
            rule.release()
            name = f"{action.__name__} of {kind}"
            t.at_least(rule.hits, 1, f"{name}: times it was met")
            t.equal(result.rc, 1, f"{name}: exit code")
            t.contains(result.err, place.url, f"{name}: names the source")
            t.contains(result.err, words, f"{name}: {words}")
            t.at_most(len(result.err.strip().splitlines()), 3, f"{name}: lines of the message")
        for action in (faults.status(500), faults.reset_in_header(), faults.reset_in_body(50),
                       faults.status(429, ("Retry-After", "1"))):
            _one_fault_while_mounting(t, place, action, kind)


def _one_fault_while_mounting(t, place, action, kind):
    """A single fault heals, or is told in words; what comes after the mount is right."""
    name = f"one {action.__name__} of {kind}"
    rule = place.server.rule(action, kind=kind, times=1)
    mount = Mount(place.url, "--timeout", TIMEOUT)
    t.defer(mount.clean_up)
    try:
        mount.start()
        t.equal(mount.read("dir/inner"), b"inner\n", f"{name} heals")
    except MountFailed as error:
        t.ok(kind != "trees", f"{name} heals", error)
        t.equal(error.result.rc, 1, f"{name}: exit code")
        t.contains(error.result.err, place.url, f"{name}: names the source")
    rule.release()
    mount.clean_up()


def test_what_is_no_git_server(t, w):
    place = w.place(t)
    for action, words in ((faults.dumb(), "dumb"), (faults.html(), "git"),
                          (faults.status(404), "")):
        rule = place.server.rule(action)
        result = expect_failure(place.url, "--timeout", TIMEOUT)
        rule.release()
        t.equal(result.rc, 1, f"{action.__name__}: exit code")
        t.contains(result.err, place.url, f"{action.__name__}: names the source")
        t.contains(result.err.replace(place.url, ""), words, f"{action.__name__}: says {words}")


def test_a_password_wanted_and_none_there(t, w):
    place = w.place(t)
    place.server.rule(faults.unauthorized())
    result = expect_failure(place.url, "--timeout", TIMEOUT)
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, "password", "the message")
    t.contains(result.err, "credential", "the remedy")


def test_refused_while_mounting(t, w):
    place = w.place(t)
    place.server.down()
    result = expect_failure(place.url, "--timeout", TIMEOUT)
    t.equal(result.rc, 1, "exit code")
    t.contains(result.err, place.url, "the message names the source")
    t.contains(result.err, "onnect", "the message")


def test_redirects_and_credentials(t, w):
    place = w.place(t)
    other = t.use(faults.FaultServer("127.0.0.2"))
    other.add(w.repo, "r.git")
    secret = "e2e-redirect-s3cret"
    url = place.url.replace("//", f"//someone:{secret}@")
    elsewhere = faults.redirect(f"http://127.0.0.2:{other.port}")
    rule = place.server.rule(elsewhere, kind="caps")
    mount = Mount(url, "--timeout", TIMEOUT)
    t.defer(mount.clean_up)
    try:
        mount.start()
        t.equal(mount.read("dir/inner"), b"inner\n", "a file through a first redirect")
        mount.unmount()
    except MountFailed as error:          # refusing is right too, when it says so
        t.contains(str(error), "redirect", "a refusal says why")
    rule.release()
    t.equal([str(r) for r in other.requests if r.authorization], [],
            "requests with credentials at the other host")
    t.equal([r.path for r in other.requests if secret in r.path + str(r.headers)], [],
            "the secret at the other host")

    # Later on, in the middle of things: not followed with what was typed for another host.
    mount = t.use(Mount(url, "--timeout", TIMEOUT))
    rule = place.server.rule(elsewhere, kind="content")
    right, _, odd = read_all(mount, [b"dir/inner"])
    t.ok(right in ({}, {b"dir/inner": b"inner\n"}) and not odd, "a later redirect", right, odd)
    rule.release()
    t.equal([str(r) for r in other.requests if r.authorization], [],
            "requests with credentials at the other host after a later redirect")


def test_spoiled_trees_never_show(t, w):
    t.together((_spoiled_trees, t, w, action)
               for action in (faults.truncate_pack(-30), faults.flip_byte(60),
                              faults.flip_byte(-30),
                              faults.other_object(w.blobs[b"run.sh"][0])))


def _spoiled_trees(t, w, action):
    name = f"{action.__name__} of the trees"
    place = w.place(t)
    rule = place.server.rule(action, kind="trees")
    mount = Mount(place.url, "--timeout", TIMEOUT)
    t.defer(mount.clean_up)
    try:
        mount.start()
        t.equal(tree_differences(mount, w), [], f"{name}: anything but the truth or EIO")
    except MountFailed as error:
        t.equal(error.result.rc, 1, f"{name}: exit code")
        mount = None
    t.at_least(rule.hits, 1, f"{name}: times it was met")
    rule.release()
    if mount:                                           # what came whole may be shown
        check_afterwards(t, w, place, mount, name)


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
    t.together((_without_sizes, t, w, action, ends)
               for action, ends in ((faults.status(500), False), (faults.empty_body(), True),
                                    (faults.err_line("e2e no sizes"), True),
                                    (faults.reset_in_header(), False), (faults.babble(), True),
                                    (faults.html(), True)))


def _without_sizes(t, w, action, answered):
    """object-info fails: sizes come in another way; without an answer stat may fail."""
    name = f"{action.__name__} of object-info"
    place = w.place(t)
    mount = place.mount(t)
    rule = place.server.rule(action, kind="object-info")
    readers = Readers(list(w.blobs), lambda p: mount.stat(p).st_size).start()
    t.equal(readers.join(60), 0, f"{name}: stuck threads")
    wrong = {p: s for p, s in readers.results.items() if s != w.blobs[p][1]}
    t.equal(wrong, {}, f"{name}: wrong sizes")
    t.ok({e.errno for e in readers.errors.values()} <= {errno.EIO},
         f"{name}: errors other than EIO", readers.errors)
    if answered:
        t.equal(readers.errors, {}, f"{name}: files whose size was not found another way")
        t.equal(len(mount.log_lines("warn", "another way")), 1, f"{name}: lines of the log")
    rule.release()
    check_afterwards(t, w, place, mount, name)


tap.run([
    test_faults_that_pass,
    test_lost_connections,
    test_spoiled_packs,
    test_another_object_than_wanted,
    test_one_unknown_id_in_a_batch,
    test_words_of_the_server,
    test_told_to_come_back_in_an_hour,
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
