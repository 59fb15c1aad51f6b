"""Result: every sample of a run by name, kept as JSON; lines `name unit value` with medians.

A name is PROFILE.REPOSITORY.QUESTION.STATE.WHAT. A ratio is made within one run and only
then is the median taken.
"""

import json
import statistics


class Result:
    def __init__(self, about=None):
        self.about = about or {}
        self.samples = {}               # name -> list of numbers
        self.units = {}

    def put(self, name, unit, value):
        self.units[name] = unit
        self.samples.setdefault(name, []).append(value)

    def replace(self, part):
        """Takes over what another result has; its samples replace those of the same name."""
        self.units.update(part.units)
        self.samples.update(part.samples)

    def median(self, name):
        return statistics.median(self.samples[name]) if name in self.samples else None

    def spread(self, name):
        """Half the distance between the least and the most, relative to the median."""
        values = self.samples[name]
        middle = abs(statistics.median(values))
        return (max(values) - min(values)) / 2 / middle if middle else 0.0

    def line(self, name):
        return f"{name} {self.units[name]} {self.median(name):.6g}"

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"about": self.about, "units": self.units, "samples": self.samples}, file,
                      indent=1)


def load(path):
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    result = Result(data["about"])
    result.units, result.samples = data["units"], data["samples"]
    return result
