"""Every network against one reference, from the study's paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fercore import comparison
from fercore.answer_table import AnswerTable, read_tables
from fercore.answers import StudyAnswers
from fercore.comparison import Comparison, Judgement, Verdict
from fercore.errors import FercoreError
from fercore.findings import Column, column_name
from fercore.metrics import Interval
from fercore.results import Record
from fercore.words import MINUS, points, points_range


@dataclass(frozen=True)
class Versus:
    """A column against a reference: ``difference`` is its accuracy minus the reference's.

    The judgements are those of a Comparison, the widest unit first, seen from this column.
    """

    column: Column
    difference: float
    judgements: tuple[Judgement, ...]

    @property
    def name(self) -> str:
        return column_name(self.column)


@dataclass(frozen=True)
class Comparisons:
    """All comparisons by target and dataset, and the answers they are made from.

    Both are empty where ``missing`` says why.
    """

    tables: dict[tuple[str, str], AnswerTable]
    pairs: dict[tuple[str, str], list[Comparison]]
    missing: str = ""

    def against(self, target: str, dataset: str, reference: Column) -> list[Versus]:
        """The columns that are compared with a reference on one test part, in their order."""
        found = []
        for pair in self.pairs.get((target, dataset), ()):
            if pair.second == reference:
                found.append(Versus(pair.first, pair.difference, pair.judgements))
            elif pair.first == reference:
                turned = tuple(map(_turned, pair.judgements))
                found.append(Versus(pair.second, -pair.difference, turned))
        return found


def compare(
    answers: StudyAnswers, records: Sequence[Record], *, shared: bool = False
) -> Comparisons:
    """The comparisons of all tested networks; ``shared``: over the classes that both sets have."""
    try:
        read = read_tables(answers, records, shared=shared)
    except FercoreError as error:
        return Comparisons({}, {}, str(error))
    tables = {(table.target, table.dataset): table for table in read}
    return Comparisons(tables, {of: comparison.compare(one) for of, one in tables.items()})


@dataclass(frozen=True)
class PairRow:
    """A line of the list of all pairs: one judgement of one pair.

    ``seeds`` is the interval of the difference over other trainings; "" with one seed.
    """

    pair: str
    difference: str
    seeds: str
    unit: str
    interval: str
    p: str
    p_holm: str
    verdict: str


def rows(pairs: Sequence[Comparison]) -> list[PairRow]:
    """Everything that is known of the pairs of one test part."""
    return [_row(pair, judgement) for pair in pairs for judgement in pair.judgements]


_UNITS = {
    "subject": ("person", "people"),
    "sequence": ("sequence", "sequences"),
    "image": ("image", "images"),
}


def _row(pair: Comparison, judgement: Judgement) -> PairRow:
    one, several = _UNITS[judgement.unit]
    return PairRow(
        pair=f"{column_name(pair.first)} {MINUS} {column_name(pair.second)}",
        difference=points(pair.difference),
        seeds=points_range(pair.over_seeds.interval),
        unit=f"{judgement.units:,} {one if judgement.units == 1 else several}",
        interval=points_range(judgement.interval),
        p=f"{judgement.p:.2g}",
        p_holm=f"{judgement.p_holm:.2g}",
        verdict=judgement.verdict,
    )


_OPPOSITE: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}


def _turned(judgement: Judgement) -> Judgement:
    """The same, seen from the other column."""
    interval = judgement.interval
    return replace(
        judgement,
        interval=None if interval is None else Interval(-interval.high, -interval.low),
        verdict=_OPPOSITE.get(judgement.verdict, judgement.verdict),
    )
