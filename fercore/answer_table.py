"""The answers of all strategies to one test set, image by image, and what they say for sure.

**How seeds and images combine.** A column has one network a seed; they are counted together: an
image's score is the share of the seeds whose network got it right, and images, or the people they
show, are what is resampled and flipped. Intervals and p-values so speak of other images, or other
people, for the networks that were trained; how far other seeds would differ is told apart, by the
standard deviation over seeds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fercore import metrics
from fercore.answers import Images, StudyAnswers
from fercore.errors import FercoreError
from fercore.findings import Column, column_name, columns
from fercore.metrics import Interval
from fercore.results import Record
from fercore.statistics import bootstrap

UnitName = Literal["subject", "sequence", "image"]


@dataclass(frozen=True, eq=False)
class Units:
    """A test set as units that are taken whole: what hangs together is never torn apart.

    Attributes:
        name: what a unit is.
        sizes: images of each, int64 ``[units]``.
        sums: right answers to them, over all seeds, int64 ``[units, columns]``.
        seeds: how many there are.
        draws: seed of the resamples, another one for each dataset.
    """

    name: UnitName
    sizes: np.ndarray
    sums: np.ndarray
    seeds: int
    draws: int

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def resampled(self) -> np.ndarray:
        """Accuracies of every column in resamples of units, ``[resamples, columns]``."""
        return bootstrap.resampled_means(self.sums, self.sizes * self.seeds, seed=self.draws)


@dataclass(frozen=True, eq=False)
class AnswerTable:
    """One test part, and which of its images every column of one target got right.

    Attributes:
        target: whose columns these are.
        dataset: whose test part: the source's or the target's.
        columns: strategies and amounts, in the order of the study's table.
        seeds: of the networks of every column.
        images: of the test part.
        right: how many seeds got an image right, int64 ``[images, columns]``.
        by_seed: the accuracy of each network, float64 ``[seeds, columns]``.
    """

    target: str
    dataset: str
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    images: Images
    right: np.ndarray
    by_seed: np.ndarray

    @cached_property
    def accuracies(self) -> np.ndarray:
        """The mean accuracy over seeds of every column, 0..1; NaN without an image."""
        if not len(self.images):
            return np.full(len(self.columns), np.nan)
        return np.asarray(self.right.mean(axis=0) / len(self.seeds))

    @cached_property
    def units(self) -> tuple[Units, ...]:
        """The widest units first: subjects, or sequences where nobody is named; then images."""
        images = self.images
        kinds: list[tuple[UnitName, Sequence[str]]] = [("image", ("",) * len(images))]
        if any(images.subjects):
            kinds.insert(0, ("subject", images.subjects))
        elif any(images.groups):
            kinds.insert(0, ("sequence", images.groups))
        return tuple(self._units(name, names) for name, names in kinds)

    def _units(self, name: UnitName, names: Sequence[str]) -> Units:
        """Images of one name are a unit; an image without a name is one by itself."""
        keys = [known or f"\0{row}" for row, known in enumerate(names)]
        _, unit_of = np.unique(np.array(keys, dtype=object), return_inverse=True)
        sums = np.zeros((unit_of.max(initial=-1) + 1, len(self.columns)), np.int64)
        np.add.at(sums, unit_of, self.right)
        draws = zlib.crc32(self.dataset.encode())
        return Units(name, np.bincount(unit_of), sums, len(self.seeds), draws)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, which is None where a single person was tested, or none."""

    value: float
    interval: Interval | None


def estimate(
    figure: Callable[..., np.ndarray],
    *tables: AnswerTable,
    by_image: bool = False,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """A figure made of accuracies, with the interval that resampling gives it.

    An interval by people is never narrower than the one by image: a few who happen to agree would
    promise more than their pictures can.

    Args:
        figure: from the accuracies of each table, ``[..., columns]``, to ``[...]``.
        tables: one, or those of the source and of the target, which are drawn apart.
        by_image: take images for independent, whoever they show.
        bounds: what the figure cannot leave.
    """
    value = float(figure(*(table.accuracies for table in tables)))
    if math.isnan(value):
        return Estimate(value, None)

    def resample(units: Sequence[Units]) -> Interval | None:
        resampled = figure(*(some.resampled for some in units))
        return bootstrap.interval(value, resampled, min(map(len, units)), bounds)

    interval = resample([table.units[-1] for table in tables])
    if not by_image:
        interval = _wider(interval, resample([table.units[0] for table in tables]))
    return Estimate(value, interval)


def estimate_accuracy(table: AnswerTable, column: int, *, by_image: bool = False) -> Estimate:
    """The accuracy of a column; never more certain than Wilson's interval for as many images.

    Resampling alone takes a network that was right on all images for one that always is.
    """
    found = estimate(lambda a: a[..., column], table, by_image=by_image, bounds=(0, 1))
    n = len(table.images)
    return Estimate(found.value, _wider(found.interval, metrics.wilson(found.value * n, n)))


def estimate_difference(
    table: AnswerTable, first: int, second: int, *, by_image: bool = False
) -> Estimate:
    """By how much the accuracy of one column exceeds another's, on the same images."""
    return estimate(
        lambda a: a[..., first] - a[..., second], table, by_image=by_image, bounds=(-1, 1)
    )


def _wider(one: Interval | None, other: Interval | None) -> Interval | None:
    """What holds both; None where one of them could be anything."""
    if one is None or other is None:
        return None
    return Interval(min(one.low, other.low), max(one.high, other.high))


def read_tables(
    answers: StudyAnswers, records: Sequence[Record], *, shared: bool = False
) -> list[AnswerTable]:
    """Two tables for each target: the answers to the source's test part, and to the target's.

    Args:
        answers: of the finished study.
        records: all that its runs measured.
        shared: look only at images of classes that both sets have, with the other classes ruled
            out, as ``source_accuracy_shared`` does.

    Raises:
        FercoreError: answers are missing or damaged, or columns have other seeds than the rest.
    """
    tables = []
    for target in dict.fromkeys(r.target for r in records if r.target is not None):
        mine = [record for record in records if record.target == target]
        for dataset in (mine[0].source, target):
            allowed = None
            if shared:
                allowed = sorted(answers.classes(mine[0].source) & answers.classes(target))
            tables.append(_table(answers, mine, target, dataset, allowed))
    return tables


def _table(
    answers: StudyAnswers,
    records: Sequence[Record],
    target: str,
    dataset: str,
    allowed: list[int] | None,
) -> AnswerTable:
    seeds = tuple(dict.fromkeys(record.seed for record in records))
    images = answers.images(dataset, "test")
    rows = np.arange(len(images))
    if allowed is not None:
        rows = np.flatnonzero(np.isin(images.labels, allowed))
    order = tuple(columns(records))
    right = np.zeros((len(seeds), len(rows), len(order)), bool)
    for number, column in enumerate(order):
        runs = {r.seed: r.run for r in records if (r.strategy, r.amount) == column}
        if set(runs) != set(seeds):
            raise FercoreError(
                f"{answers.directory.results}: {column_name(column)} has the seeds "
                f"{sorted(runs)}, other columns {sorted(seeds)}; finish the study with --resume"
            )
        for place, seed in enumerate(seeds):
            given = metrics.predict(answers.of(runs[seed])[dataset, "test"].logits, allowed)
            right[place, :, number] = (given == images.labels)[rows]
    by_seed = right.mean(axis=1) if len(rows) else np.full(right[:, 0].shape, np.nan)
    return AnswerTable(
        target, dataset, order, seeds, images.select(rows), right.sum(axis=0), by_seed
    )
