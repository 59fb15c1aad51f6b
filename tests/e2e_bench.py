#!/usr/bin/env python3
"""The bench's own arithmetic: what counts as worse, what is noise, and that its files compile."""

import sys

from e2e import env, tap

sys.path.insert(0, str(env.TOP_SRC / "bench"))

from suite import compare, goals, questions, report, repositories       # noqa: E402
from suite.link import PROFILES                                         # noqa: E402
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


tap.run([
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
