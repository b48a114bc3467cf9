"""What training took: time, and energy as far as its counters could be read (``energy``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fercore.files import read_json_lines
from fercore.forecast import duration
from fercore.words import listed

NAMES = {"processor": "processor", "gpu": "GPU"}
"""Sources of energy figures, as they are called."""

COUNTED = (
    "Energy is read from counters, never estimated. The processor's count whole packages: memory, "
    "disks and fans are not in them, and whatever other programs did meanwhile is; a GPU's counts "
    "all of that GPU in the same way. Of runs side by side each has its own time and an equal "
    "share of the energy. Both are those of training, without the tests."
)
"""What a figure of energy means."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of ``metrics.jsonl`` says of an epoch; joules by source, of those that were read.

    (Older lines have no ``joules``.)
    """

    seconds: float
    joules: dict[str, float] = {}


@dataclass(frozen=True)
class Consumption:
    """What several epochs took together.

    Attributes:
        seconds: in training.
        joules: by source; none that was never read.
        measured: by source, the seconds in which its joules were counted.
    """

    seconds: float
    joules: Mapping[str, float]
    measured: Mapping[str, float]

    def is_partial(self, source: str) -> bool:
        """Whether a source was not read all the time."""
        return self.measured[source] < self.seconds


def total(epochs: Iterable[Spent]) -> Consumption:
    """The sum over epochs, of one run or of many."""
    seconds = 0.0
    joules: dict[str, float] = {}
    measured: dict[str, float] = {}
    for epoch in epochs:
        seconds += epoch.seconds
        for source, used in epoch.joules.items():
            joules[source] = joules.get(source, 0.0) + used
            measured[source] = measured.get(source, 0.0) + epoch.seconds
    return Consumption(seconds, joules, measured)


def of_runs(folders: Iterable[Path]) -> Consumption:
    """What the runs in these folders took; FercoreError when a file of theirs is damaged."""
    files = (folder / "metrics.jsonl" for folder in folders)
    return total(spent for file in files if file.exists() for spent in read_json_lines(file, Spent))


def describe(used: Consumption, environment: Mapping[str, Any]) -> str:
    """Time and energy in a sentence or two; where energy is not known, why.

    ``environment`` is that of the run directory, whose entry ``energy`` says what could be read.
    """
    said = str(environment.get("energy", ""))
    why = f" ({said})" if "not readable" in said else ""
    time = f"{duration(used.seconds)} of training in all"
    if not used.joules:
        return f"{time}. Energy was not measured{why}."
    figures = []
    for source, joules in used.joules.items():
        figure = f"{amount(joules)} of the {NAMES[source]}"
        if used.is_partial(source):
            figure += f" (counted in {duration(used.measured[source])} of that, not in the rest)"
        figures.append(figure)
    return f"{time} took {listed(figures)}, other programs included{why}."


def amount(joules: float) -> str:
    """An energy for people: ``812 J``, ``34.2 kJ``, ``1.25 MJ``."""
    units = (("J", 1.0), ("kJ", 1e3), ("MJ", 1e6))
    unit, size = next((one for one in units if joules < 999.5 * one[1]), ("GJ", 1e9))
    return f"{joules / size:.3g} {unit}"
