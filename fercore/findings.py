"""What a study's records say: accuracies over seeds, by target and column.

Reads records only; nothing here trains, loads or prints. Intervals need the answers themselves
(``evidence``).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fercore.results import Record

Column = tuple[str, int | None]
"""Strategy and percent of the target's training images (None for runs on the source alone)."""


@dataclass(frozen=True)
class Accuracy:
    """An accuracy on one set, in 0..1, over one or several seeds.

    With several seeds ``value`` is their mean over the same ``n`` images, and ``sd`` tells how far
    they differ.
    """

    value: float
    n: int
    sd: float | None


@dataclass(frozen=True)
class Cell:
    """One column of one target: a strategy and amount, tested on both sets."""

    column: Column
    source: Accuracy
    target: Accuracy
    source_shared: Accuracy | None
    target_shared: Accuracy | None
    validation: float  # mean of both validation accuracies: by it strategies are chosen
    validation_images: tuple[int, int]  # of the source, of the target

    @property
    def name(self) -> str:
        return column_name(self.column)


@dataclass(frozen=True)
class Target:
    """Everything measured about one target.

    Attributes:
        name, source: of the datasets.
        classes: that the networks tell apart.
        shared_classes: that both datasets have images of.
        cells: what each column measured.
    """

    name: str
    source: str
    classes: int
    shared_classes: int
    cells: dict[Column, Cell]

    @property
    def baseline(self) -> Cell | None:
        return self.cells.get(("BL", None))

    def best(self) -> Cell:
        """The column that does best on both sets, by the mean of its validation accuracies."""
        return max(self.cells.values(), key=lambda cell: cell.validation)


def column_name(column: Column) -> str:
    """``FC 50``, as in the paper's table."""
    strategy, amount = column
    return strategy if amount is None else f"{strategy} {amount}"


def columns(records: Sequence[Record]) -> list[Column]:
    """The table's columns: strategies as they first appear, each with its amounts rising."""
    strategies = list(dict.fromkeys(record.strategy for record in records))
    found = {(record.strategy, record.amount) for record in records}
    return sorted(found, key=lambda column: (strategies.index(column[0]), column[1] or 0))


def by_target(records: Sequence[Record]) -> list[Target]:
    """The records gathered by target, in the order in which targets first appear."""
    names = dict.fromkeys(record.target for record in records if record.target is not None)
    return [_target(name, [r for r in records if r.target == name]) for name in names]


def _target(name: str, records: Sequence[Record]) -> Target:
    cells = {}
    for column in columns(records):
        repeated = [r for r in records if (r.strategy, r.amount) == column]
        cells[column] = _cell(column, repeated)
    first = records[0]
    return Target(name, first.source, first.classes, first.shared_classes, cells)


def _cell(column: Column, records: Sequence[Record]) -> Cell:
    source, target = _accuracy(records, "source", ""), _accuracy(records, "target", "")
    if source is None or target is None:
        raise ValueError(f"{column_name(column)} was not tested on a target")
    first = records[0]
    return Cell(
        column=column,
        source=source,
        target=target,
        source_shared=_accuracy(records, "source", "_shared"),
        target_shared=_accuracy(records, "target", "_shared"),
        validation=statistics.fmean(
            accuracy
            for record in records
            for accuracy in (record.source_validation_accuracy, record.target_validation_accuracy)
            if accuracy is not None
        ),
        validation_images=(first.n_source_validation, first.n_target_validation or 0),
    )


def _accuracy(records: Sequence[Record], role: str, kind: str) -> Accuracy | None:
    values = [getattr(record, f"{role}_accuracy{kind}") for record in records]
    if None in values:
        return None
    return Accuracy(
        value=statistics.fmean(values),
        n=getattr(records[0], f"n_{role}{kind}"),
        sd=statistics.stdev(values) if len(values) > 1 else None,
    )
