"""Is one strategy better than another? Every pair, on every test set, and how sure that is.

For each target and test set, every two strategies of the same amount (BL goes with each amount) are
compared on the same images: the difference of their accuracies with a bootstrap interval, the exact
p-value of the sign-flip test, and that p-value after Holm's correction over all pairs of the table.

Where a set names its people, a pair is judged twice. *By subject* asks whether it would come out
the same for other people: that is what a verdict should mean, and what a few subjects cannot tell.
*By image* takes images for independent, and so speaks of other photographs of these people alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fercore.answer_table import AnswerTable, UnitName, Units, estimate_difference
from fercore.findings import Column
from fercore.metrics import Interval
from fercore.statistics import bootstrap, paired
from fercore.statistics.bootstrap import Spread

LEVEL = 0.05

Verdict = Literal["better", "worse", "not distinguishable", "not testable"]


@dataclass(frozen=True)
class Judgement:
    """What can be said of a pair from so many independent units.

    Attributes:
        unit: what was resampled and flipped as a whole.
        units: how many there are.
        interval: of the difference, 95 %, not corrected for the number of pairs; None for one unit.
        p: of the sign-flip test (McNemar's exact test for images and one seed).
        p_holm: the same, corrected for all pairs of the table.
        verdict: whether the first is better or worse than the second, at 0.05 after correction.
            "not testable" where no outcome could have been called different: the smallest p that so
            many units can give, times the number of pairs, is above 0.05.
    """

    unit: UnitName
    units: int
    interval: Interval | None
    p: float
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Two columns of one target on one test part.

    Attributes:
        target, dataset: whose columns, and whose test part.
        first, second: the columns; the second comes first in the study's table.
        images: tested.
        difference: accuracy of the first minus that of the second, -1..1, mean over seeds.
        only_first, only_second: images that only one of them got right; None with several seeds.
        over_seeds: how the difference spreads over seeds: of training's own chance, which
            ``judgements`` do not speak of.
        judgements: the widest unit first; the last is by image.
    """

    target: str
    dataset: str
    first: Column
    second: Column
    images: int
    difference: float
    only_first: int | None
    only_second: int | None
    over_seeds: Spread
    judgements: tuple[Judgement, ...]


def compare(table: AnswerTable) -> list[Comparison]:
    """Every pair of columns that have the same amount, or of which one has none."""
    pairs = [
        (second, first)
        for first, second in itertools.combinations(range(len(table.columns)), 2)
        if _comparable(table.columns[first], table.columns[second])
    ]
    judged = [_judge(table, units, pairs) for units in table.units]
    return [
        _comparison(table, pair, judgements)
        for pair, *judgements in zip(pairs, *judged, strict=True)
    ]


def _comparable(first: Column, second: Column) -> bool:
    return first[1] is None or second[1] is None or first[1] == second[1]


def _judge(table: AnswerTable, units: Units, pairs: Sequence[tuple[int, int]]) -> list[Judgement]:
    """A judgement for each pair of column numbers, from one kind of unit."""
    differences = [units.sums[:, first] - units.sums[:, second] for first, second in pairs]
    p_values = [paired.sign_flip(difference) for difference in differences]
    testable = len(pairs) * paired.smallest_p(len(units)) <= LEVEL
    by_image = units.name == "image"
    return [
        Judgement(
            unit=units.name,
            units=len(units),
            interval=estimate_difference(table, *pair, by_image=by_image).interval,
            p=p,
            p_holm=p_holm,
            verdict=_verdict(int(difference.sum()), p_holm) if testable else "not testable",
        )
        for pair, difference, p, p_holm in zip(
            pairs, differences, p_values, paired.holm(p_values), strict=True
        )
    ]


def _verdict(difference: int, p_holm: float) -> Verdict:
    if p_holm > LEVEL:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def _comparison(
    table: AnswerTable, pair: tuple[int, int], judgements: Sequence[Judgement]
) -> Comparison:
    first, second = (table.right[:, column] for column in pair)
    single = len(table.seeds) == 1
    return Comparison(
        target=table.target,
        dataset=table.dataset,
        first=table.columns[pair[0]],
        second=table.columns[pair[1]],
        images=len(table.images),
        difference=float(table.accuracies[pair[0]] - table.accuracies[pair[1]]),
        only_first=int((first > second).sum()) if single else None,
        only_second=int((first < second).sum()) if single else None,
        over_seeds=bootstrap.over_seeds(table.by_seed[:, pair[0]] - table.by_seed[:, pair[1]]),
        judgements=tuple(judgements),
    )
