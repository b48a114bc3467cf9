"""Memory in numbers: what every strategy keeps of the source and gains on the target.

Each figure stands with its 95 % interval, from resampling the test parts of source and target apart
(``answer_table``). Nothing here decides between strategies: ``comparison`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fercore.answer_table import (
    AnswerTable,
    Estimate,
    UnitName,
    estimate,
    estimate_accuracy,
    estimate_difference,
)
from fercore.answers import StudyAnswers
from fercore.findings import Column
from fercore.results import Record
from fercore.statistics import levels, memory
from fercore.statistics.levels import TwinEffect

BASELINE: Column = ("BL", None)


@dataclass(frozen=True, eq=False)
class Memory:
    """What one column does to the memory of the source, mean over seeds.

    Attributes:
        column: the strategy and amount.
        stages: BL, then the column and whatever it starts from in between. FU and TO start from
            random weights: for them BL is what they are compared to.
        accuracies: the accuracy matrix ``R``, float64 ``[stages, 2]``: source, target.
        source, target: accuracies of the column.
        forgetting: source accuracy lost since BL (backward transfer, with the other sign); None for
            BL.
        forgetting_from_best: the same since the best stage; equal where there are two stages.
        gain: target accuracy won since BL; None for BL.
        forward_transfer: target accuracy above chance before the target was trained on.
        retention: the share of BL's source accuracy that is kept.
        harmonic_mean: of the accuracies on source and target.
    """

    column: Column
    stages: tuple[Column, ...]
    accuracies: np.ndarray
    source: Estimate
    target: Estimate
    forgetting: Estimate | None
    forgetting_from_best: Estimate | None
    gain: Estimate | None
    forward_transfer: Estimate
    retention: Estimate
    harmonic_mean: Estimate


@dataclass(frozen=True)
class Level:
    """What the accuracies on one test part are held against, and from what it is known.

    Attributes:
        dataset: whose test part.
        images: in it.
        unit, units: what is resampled as a whole, and how many there are.
        chance: of guessing among the classes that occur.
        majority: of always giving the commonest class of the dataset's training part.
    """

    dataset: str
    images: int
    unit: UnitName
    units: int
    chance: float
    majority: float


def measure_level(answers: StudyAnswers, table: AnswerTable) -> Level:
    """The level of one table's test part."""
    labels = table.images.labels
    units = table.units[0]
    return Level(
        dataset=table.dataset,
        images=len(labels),
        unit=units.name,
        units=len(units),
        chance=levels.chance(labels),
        majority=levels.majority(answers.images(table.dataset, "train").labels, labels),
    )


def measure_memory(
    answers: StudyAnswers,
    records: Sequence[Record],
    source: AnswerTable,
    target: AnswerTable,
    *,
    by_image: bool = False,
) -> list[Memory]:
    """The memory of every column of one target.

    Args:
        answers: of the study, which know what each run started from.
        records: all that the study measured.
        source, target: the two tables of one target.
        by_image: take images for independent, whoever they show.
    """
    stages = _stages(answers, [r for r in records if r.target == source.target])
    return [_memory(stages[column], source, target, by_image) for column in source.columns]


def twin_effects(
    answers: StudyAnswers, records: Sequence[Record], table: AnswerTable
) -> dict[Column, TwinEffect]:
    """For each column, its accuracy with and without the images whose twin it was trained on.

    Training is all that the network learned from, BL's part included where it started from BL. The
    parts, and so the twins, are the same for all seeds.
    """
    runs = {(r.strategy, r.amount): r.run for r in records if r.target == table.target}
    return {
        column: levels.twin_effect(
            table.right[:, number] / len(table.seeds),
            table.images.sha256,
            answers.trained_on(runs[column]),
        )
        for number, column in enumerate(table.columns)
    }


def _stages(answers: StudyAnswers, records: Sequence[Record]) -> dict[Column, tuple[Column, ...]]:
    """The stages that led to each column, BL first."""
    column_of = {record.run: (record.strategy, record.amount) for record in records}
    stages: dict[Column, tuple[Column, ...]] = {}
    for run, column in column_of.items():
        lineage = [column_of[ancestor] for ancestor in answers.lineage(run)]
        stages[column] = (BASELINE, *(stage for stage in lineage if stage != BASELINE))
    return stages


def _memory(
    stages: tuple[Column, ...], source: AnswerTable, target: AnswerTable, by_image: bool
) -> Memory:
    measure = partial(estimate, by_image=by_image)
    order = [source.columns.index(stage) for stage in stages]
    first, own = order[0], order[-1]
    chance = levels.chance(target.images.labels)
    # A column with an amount has seen the target.
    learned = next((i for i, stage in enumerate(stages) if stage[1] is not None), len(stages))

    def over_stages(accuracies: np.ndarray) -> np.ndarray:
        return accuracies[..., order, None]

    def lost(since: Callable[..., np.ndarray]) -> Estimate | None:
        if first == own:
            return None
        return measure(lambda a: since(over_stages(a), (0,)), source, bounds=(-1, 1))

    return Memory(
        column=stages[-1],
        stages=stages,
        accuracies=np.stack([source.accuracies[order], target.accuracies[order]], axis=1),
        source=estimate_accuracy(source, own, by_image=by_image),
        target=estimate_accuracy(target, own, by_image=by_image),
        forgetting=lost(memory.forgetting_from_first),
        forgetting_from_best=lost(memory.forgetting_from_best),
        gain=(None if first == own else estimate_difference(target, own, first, by_image=by_image)),
        forward_transfer=measure(
            lambda a: memory.forward_transfer(over_stages(a), (learned,), (chance,)),
            target,
            bounds=(-1, 1),
        ),
        retention=measure(
            lambda a: memory.retention(a[..., first], a[..., own]), source, bounds=(0, math.inf)
        ),
        harmonic_mean=measure(
            lambda s, t: memory.harmonic_mean(s[..., own], t[..., own]),
            source,
            target,
            bounds=(0, 1),
        ),
    )
