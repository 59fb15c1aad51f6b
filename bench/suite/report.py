"""The report: one HTML page with the goals, pictures, where xcpfs loses, and every number."""

import html
import shutil
import subprocess

from .goals import GOALS

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;
color:#222}
h1,h2,h3{font-weight:600;line-height:1.2}h2{margin-top:2em;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:right;
border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}
.met{color:#17692e;font-weight:600}.missed{color:#b3261e;font-weight:600}
.not{color:#888}figure{margin:1em 0}svg{max-width:100%;height:auto}p.about{color:#666}"""
_COMPETITORS = {"clone": "git clone --depth 1", "blobless": "git clone --filter=blob:none",
                "curl": "curl", "rclone": "rclone mount", "local": "local disk",
                "fetch": "git fetch --depth 1", "bare": "one round trip"}
_COLOURS = {"xcpfs": "#1f6feb", "clone": "#b8860b", "blobless": "#d8b25a", "curl": "#7a4fbf",
            "rclone": "#c04a7b", "local": "#888888", "fetch": "#b8860b", "bare": "#bbbbbb"}


def write(result, path):
    with open(path, "w", encoding="utf-8") as file:
        file.write("<!DOCTYPE html><meta charset=utf-8><title>xcpfs: the bench</title>"
                   f"<style>{_STYLE}</style><h1>xcpfs: the bench</h1>")
        file.write("".join((_about(result), _goals(result), _pictures(result), _losses(result),
                            _numbers(result))))


def _about(result):
    words = ", ".join(f"{key} {value}" for key, value in result.about.items())
    return (f"<p class=about>{html.escape(words)}</p><p>Medians; everything but local disk "
            "goes through one relay that behaves like a long link. <b>cold</b>: nothing cached, "
            "the mount included. <b>warm</b>: from the cache on disk, page cache dropped. "
            "<b>hot</b>: from the page cache. Shorter bars are better.</p>")


def _table(head, rows):
    cells = "".join(f"<th>{h}" for h in head)
    return f"<table><tr>{cells}" + "".join(
        "<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows) + "</table>"


def _goals(result):
    rows, met, measured = [], 0, 0
    for goal in GOALS:
        verdict = goal.verdict(result)
        met, measured = met + (verdict == "met"), measured + (verdict != "not measured")
        rows.append((html.escape(goal.what), html.escape(f"{goal.relation} {goal.limit:.4g}"),
                     _number(result.median(goal.name)),
                     f"<span class={verdict.split()[0]}>{verdict}</span>"))
    return (f"<h2>The goals: {met} of {measured} measured are met</h2>"
            + _table(("goal", "limit", "measured", ""), rows))


def _losses(result):
    rows = []
    for name in sorted(result.samples):
        last = name.rsplit(".", 1)[1]
        value = result.median(name)
        if last.startswith("ratio-") and value > 1:
            rows.append((value, (html.escape(name.rsplit(".", 1)[0]),
                                 "bytes" if "bytes-" in last else "time",
                                 _COMPETITORS.get(last.split("-")[-1], last.split("-")[-1]),
                                 f"{value:.2f}")))
    rows = [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
    return ("<h2>Where xcpfs loses</h2>" + (_table(
        ("question", "what", "beside", "times as much"), rows) if rows else "<p>Nowhere.</p>"))


def _number(value):
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _numbers(result):
    groups = {}
    for name in sorted(result.samples):
        group, _, last = name.rpartition(".")
        groups.setdefault(group, []).append(
            f"{last} {_number(result.median(name))} {result.units[name]}"
            f" &plusmn;{result.spread(name):.0%}")
    return "<h2>Every number</h2>" + _table(
        ("question", "medians, and half the spread of the runs"),
        [(html.escape(group), "<br>".join(lines)) for group, lines in groups.items()])


# Pictures: one for each profile, repository and state, of times beside the competitors'.

def _pictures(result):
    if not shutil.which("gnuplot"):
        return "<p>No pictures: gnuplot is not installed.</p>"
    charts = {}
    for name in sorted(result.samples):
        stage, question, state, who = _split(name)
        if result.units[name] == "s" and who in _COLOURS and state in ("cold", "warm", "hot"):
            charts.setdefault(f"{stage}, {state}", {}).setdefault(question, {})[who] = \
                result.median(name)
    return "<h2>Pictures</h2>" + "".join(
        f"<figure>{_chart(title, bars)}</figure>" for title, bars in sorted(charts.items())
        if any(len(players) > 1 for players in bars.values()))


def _split(name):
    profile, repository, question, rest = name.split(".", 3)
    state, _, who = rest.rpartition(".")
    return f"{repository} at {profile}", question, state, who


def _chart(title, questions):
    """Groups of bars; seconds on a logarithmic scale, because they lie far apart."""
    names = sorted(questions)
    players = [p for p in _COLOURS if any(p in bars for bars in questions.values())]
    data = "\n".join(" ".join([f'"{name}"'] + [f"{questions[name].get(player, 'NaN')}"
                                             for player in players]) for name in names)
    plots = ", ".join(
        f"$data using {column + 2}:xtic(1) title \"{_COMPETITORS.get(player, player)}\" "
        f"lc rgb \"{_COLOURS[player]}\"" for column, player in enumerate(players))
    script = f"""
$data << END
{data}
END
set terminal svg size {200 + 110 * len(names)},330 font "sans,12" background "white"
set title "{title}: seconds"
set style data histogram
set style histogram clustered gap 1
set style fill solid
set boxwidth 0.9
set logscale y
set format y "%g"
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set xtics rotate by -25
set key outside right top
plot {plots}
"""
    done = subprocess.run(["gnuplot"], input=script, text=True, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout[done.stdout.index("<svg"):]
