"""Comparison: what got better or worse since a baseline, beyond noise.

A number is judged when a busy machine moves it little: ratios to a competitor of the same run,
requests, bytes, memory. Seconds are shown and never judged. Noise of a number is half the
distance between its least and its most sample, relative to the median, the larger of both results;
a change counts when it is more than that and more than 2 %. Smaller is better, but for `per-s`.
"""

from dataclasses import dataclass

_SHOWN = ("xcpfs", "cpu", "files-per-s")
_JUDGED = ("requests", "bytes", "rss", "per-byte", "per-file", "round-trips")
_LEAST = 0.02


@dataclass
class Change:
    name: str
    before: float
    after: float
    apart: bool                         # no sample of one lies among the other's
    judged: bool

    @property
    def ratio(self):
        """How much worse: 0.1 is ten per cent; negative is better."""
        if self.before == self.after:
            return 0.0
        old, new = (self.after, self.before) if self.name.endswith("per-s") \
            else (self.before, self.after)
        return new / old - 1 if old else float("inf")

    @property
    def counts(self):
        return self.apart and abs(self.ratio) > _LEAST

    def regression(self, threshold):
        return self.judged and self.counts and self.ratio > threshold

    def __str__(self):
        kind = "worse" if self.ratio > 0 else "better"
        return (f"{kind:6} {self.ratio:+8.1%} {self.before:12.6g} -> {self.after:<12.6g} "
                f"{self.name}{'' if self.judged else ' (not judged)'}")


def changes(before, after):
    """The changes of what both results have, the worst first."""
    found = []
    for name in after.samples:
        last = name.rsplit(".", 1)[1]
        judged = last in _JUDGED or last.startswith("ratio-")
        if name in before.samples and (judged or last in _SHOWN):
            found.append(Change(name, before.median(name), after.median(name),
                                _apart(before.samples[name], after.samples[name]), judged))
    return sorted(found, key=lambda change: -change.ratio)


def _apart(some, others):
    return max(some) < min(others) or max(others) < min(some)
