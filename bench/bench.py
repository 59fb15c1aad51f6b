#!/usr/bin/env python3
"""Runs the questions and prints `name unit value` lines; see bench/README.md.

    bench.py run [--runs N] [--out FILE [--add]]
    bench.py compare BEFORE AFTER [--threshold PERCENT]
    bench.py report RESULT PAGE

Environment: BENCH, PROFILE and REPO choose a part, RUNS its runs, PLACE is loopback or tcp,
XCPFS the program.
"""

import argparse
import os
import platform
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from suite import compare, report, repositories                # noqa: E402
from suite.link import PROFILES                                 # noqa: E402
from suite.place import PLACES                                  # noqa: E402
from suite.questions import QUESTIONS                           # noqa: E402
from suite.result import Result, load                           # noqa: E402
from suite.run import Run                                       # noqa: E402
from suite.stage import Stage                                   # noqa: E402
from e2e import env, proc                                       # noqa: E402


def chosen(variable, known, default):
    """The words of an environment variable, each of which must be known."""
    words = os.environ.get(variable, "").split() or default
    for word in words:
        if word not in known:
            sys.exit(f"bench: {variable}: {word} is not known; known are {' '.join(known)}")
    return words


def about(runs):
    version = proc.xcpfs("version").out.splitlines()
    return {"runs": runs, "xcpfs": env.XCPFS, "version": version[0] if version else "",
            "git": env.git("--version"), "kernel": platform.release(),
            "cpus": os.cpu_count()}


# Unless PROFILE or REPO says otherwise: what takes long where it tells little is left out.
_USUAL = {"linux": ["50ms-100mbit"], "big": ["0ms-nolimit", "50ms-100mbit", "100ms-1gbit"],
          "small": list(PROFILES)[:4], "medium": list(PROFILES)[:4]}


def stages():
    """The pairs of a profile's and a repository's name to measure on."""
    asked = os.environ.get("PROFILE") or os.environ.get("REPO")
    for profile in chosen("PROFILE", PROFILES, list(PROFILES)):
        for name in chosen("REPO", repositories.names(), repositories.names()):
            if asked or profile in _USUAL[name]:
                yield profile, name


def ask(question, run, what):
    """Asks one question; says why when it cannot be answered, and returns how often (0 or 1)."""
    print(f"# {what}", file=sys.stderr, flush=True)
    try:
        question(run)
        return 0
    except Exception:                               # pylint: disable=broad-except
        traceback.print_exc()
        print(f"# {what}: no answer", file=sys.stderr, flush=True)
        return 1


def measure(result, place, profile, name, wanted, runs):
    """Puts the samples of one stage into a result; returns how many questions failed."""
    repository, failed = repositories.get(name), 0
    with Stage(place, PROFILES[profile], repository) as stage:
        for number in range(runs):
            run = Run(stage, result)
            for question in wanted:
                function, where = QUESTIONS[question]
                if name in where:
                    failed += ask(function, run, f"{stage.name} {question}: "
                                                 f"run {number + 1} of {runs}")
            run.close()
    return failed


def run_all(options):
    proc.become_subreaper()
    place = PLACES[chosen("PLACE", PLACES, ["loopback"])[0]]
    wanted = chosen("BENCH", QUESTIONS, list(QUESTIONS))
    result, failed = Result(about(options.runs)), 0
    if options.add and os.path.exists(options.out):
        result = load(options.out)
    for profile, name in stages():
        part = Result()
        failed += measure(part, place, profile, name, wanted, options.runs)
        for line in sorted(part.samples):
            print(part.line(line), flush=True)
        result.replace(part)
        if options.out:
            result.save(options.out)
    return 1 if failed else 0


def compare_two(options):
    found = compare.changes(load(options.before), load(options.after))
    worse = [c for c in found if c.regression(options.threshold / 100)]
    for change in found:
        if change.counts:
            print(change)
    print(f"{len(found)} compared, {sum(c.counts for c in found)} changed beyond noise, "
          f"{len(worse)} worse by more than {options.threshold} %")
    return 1 if worse or not found else 0


def write_report(options):
    report.write(load(options.result), options.page)
    print(f"wrote {options.page}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("--runs", type=int, default=int(os.environ.get("RUNS") or 3))
    run.add_argument("--out", default="")
    run.add_argument("--add", action="store_true", help="keep what FILE has of other questions")
    run.set_defaults(act=run_all)
    two = verbs.add_parser("compare")
    two.add_argument("before")
    two.add_argument("after")
    two.add_argument("--threshold", type=float, default=10.0)
    two.set_defaults(act=compare_two)
    page = verbs.add_parser("report")
    page.add_argument("result")
    page.add_argument("page")
    page.set_defaults(act=write_report)
    options = parser.parse_args()
    return options.act(options)


if __name__ == "__main__":
    sys.exit(main())
