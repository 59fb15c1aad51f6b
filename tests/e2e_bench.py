#!/usr/bin/env python3
"""The bench's own: what counts as worse, what is noise, what the relay counts and holds."""

import socket
import sys
import threading

from e2e import env, proc, tap

sys.path.insert(0, str(env.TOP_SRC / "bench"))

from suite import compare, goals, questions, report, repositories       # noqa: E402
from suite.link import PROFILES, Link, Profile                          # noqa: E402
from suite.result import Result, load                                   # noqa: E402


def result(**samples):
    """A result whose names end in the given words (ratio_clone for ratio-clone)."""
    out = Result({"runs": 3})
    for name, values in samples.items():
        for value in values:
            out.put("50ms-100mbit.medium.grep.cold." + name.replace("_", "-"), "x", value)
    return out


def judge(before, after, threshold=0.1):
    """(names that count, names that are regressions), without what is the same in all."""
    found = compare.changes(before, after)
    return ([c.name.rsplit(".", 1)[1] for c in found if c.counts],
            [c.name.rsplit(".", 1)[1] for c in found if c.regression(threshold)])


def test_every_file_compiles(t):
    files = sorted((env.TOP_SRC / "bench").rglob("*.py"))
    t.at_least(len(files), 10, "files")
    for path in files:
        compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_a_regression_is_found(t):
    before = result(ratio_clone=[1.0, 1.01, 0.99], requests=[10, 10, 10])
    after = result(ratio_clone=[1.2, 1.21, 1.19], requests=[12, 12, 12])
    t.equal(judge(before, after), (["ratio-clone", "requests"],) * 2, "worse by a fifth")
    t.equal(judge(before, after, 0.5)[1], [], "regressions past half")
    t.equal(judge(after, before)[1], [], "regressions the other way")
    t.equal(sorted(judge(after, before)[0]), ["ratio-clone", "requests"], "and what is better")


def test_noise_is_forgiven(t):
    before = result(ratio_clone=[1.0, 1.5, 0.7])
    after = result(ratio_clone=[1.3, 1.3, 1.3])
    t.equal(judge(before, after), ([], []), "a change within the spread of the runs")


def test_seconds_are_shown_and_not_judged(t):
    before, after = result(xcpfs=[1.0], clone=[1.0]), result(xcpfs=[2.0], clone=[2.0])
    t.equal(judge(before, after), (["xcpfs"], []), "a busy machine")


def test_more_files_per_second_are_better(t):
    change = compare.changes(result(files_per_s=[100]), result(files_per_s=[200]))[0]
    t.ok(change.ratio < 0, "twice the files per second", str(change))


def test_requests_where_there_were_none(t):
    t.equal(judge(result(requests=[0]), result(requests=[1]))[1], ["requests"], "regressions")
    t.equal(judge(result(requests=[0]), result(requests=[0])), ([], []), "none and none")


def test_a_result_survives_its_file(t):
    path = env.folder("result") / "result.json"
    result(ratio_clone=[3, 1, 2]).save(path)
    again = load(path)
    name = "50ms-100mbit.medium.grep.cold.ratio-clone"
    t.equal(again.line(name), name + " x 2", "the line with the median")
    t.equal(again.spread(name), 0.5, "half the spread")
    again.replace(result(ratio_clone=[7]))
    t.equal(again.median(name), 7, "after it was measured again")


def test_goals_name_what_the_bench_measures(t):
    for goal in goals.GOALS:
        profile, repository, question, *_ = goal.name.split(".")
        t.ok(profile in PROFILES and repository in repositories.names()
             and any(question.startswith(known.split("-")[0]) for known in questions.QUESTIONS),
             f"a goal of {goal.name}")


def test_the_report_says_what_was_met_and_lost(t):
    page = env.folder("report") / "page.html"
    report.write(result(ratio_clone=[1.5], requests=[9], xcpfs=[3], clone=[2]), page)
    text = page.read_text(encoding="utf-8")
    t.ok("1 of 2 measured are met" in text, "the goals are counted", text[:2000])
    t.ok("Where xcpfs loses" in text and "1.50" in text, "the loss is named")


class Echo:
    """A server that sends back what it is sent, until it is closed."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.ended = threading.Event()      # some connection was read to its end
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection):
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)
            except OSError:
                pass
        self.ended.set()


def connect(link):
    return socket.create_connection(("127.0.0.1", int(link.base.rpartition(":")[2])), timeout=30)


def read_all(connection):
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_the_relay_passes_and_counts_every_byte(t):
    echo, data = t.use(Echo()), bytes(range(256)) * 4096
    link = t.use(Link(Profile("test", 2, 1000), echo.port))
    for _ in range(3):
        with connect(link) as client:
            threading.Thread(target=lambda c=client: (c.sendall(data),
                                                      c.shutdown(socket.SHUT_WR))).start()
            t.ok(read_all(client) == data, "the bytes came back, and the end of them")
    traffic = link.traffic()
    t.equal((traffic.up, traffic.down, traffic.connections),
            (3 * len(data), 3 * len(data), 3), "counted")


def test_a_reader_that_is_slow_stops_the_sender(t):
    echo = t.use(Echo())
    link = t.use(Link(Profile("test", 0, 0), echo.port))
    with connect(link) as client:
        client.setblocking(False)
        sent, idle = 0, 0
        while idle < 50 and sent < 512 << 20:
            try:
                sent, idle = sent + client.send(bytes(1 << 20)), 0
            except BlockingIOError:
                idle += 1
                threading.Event().wait(0.01)
        t.at_most(sent, 256 << 20, "bytes taken from one whose echo nobody reads")
        shadow = 4 if env.sanitized() else 1        # a sanitizer's memory counts, too
        t.at_most(proc.status_field(link.pid, "RssAnon"), (20 << 10) * shadow,
                  "KiB of the relay")


def test_one_that_goes_away_is_known_on_the_other_side(t):
    echo = t.use(Echo())
    link = t.use(Link(Profile("test", 2, 0), echo.port))
    with connect(link) as client:
        client.sendall(bytes(1 << 20))
    t.ok(echo.ended.wait(20), "the server's connection ends")


def test_nobody_listens_behind_the_relay(t):
    with Echo() as echo:
        link = t.use(Link(Profile("test", 0, 0), echo.port))
    with connect(link) as client:
        try:
            t.equal(client.recv(1), b"", "the connection ends")
        except ConnectionResetError:
            t.ok(True, "the connection ends")
    t.equal(link.traffic().down, 0, "and the relay lives: bytes")


tap.run([
    test_the_relay_passes_and_counts_every_byte,
    test_a_reader_that_is_slow_stops_the_sender,
    test_one_that_goes_away_is_known_on_the_other_side,
    test_nobody_listens_behind_the_relay,
    test_every_file_compiles,
    test_a_regression_is_found,
    test_noise_is_forgiven,
    test_seconds_are_shown_and_not_judged,
    test_more_files_per_second_are_better,
    test_requests_where_there_were_none,
    test_a_result_survives_its_file,
    test_goals_name_what_the_bench_measures,
    test_the_report_says_what_was_met_and_lost,
], needs=())
