"""What a study's records say: accuracies over seeds, changes from BL, and the paper's questions.

Reads records only; nothing here trains, loads or prints.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fercore import metrics
from fercore.metrics import Interval
from fercore.results import Record

Column = tuple[str, int | None]
"""Strategy and percent of the target's training images (None for runs on the source alone)."""


@dataclass(frozen=True)
class Accuracy:
    """An accuracy on one set, in 0..1, over one or several seeds.

    With several seeds ``value`` is their mean; the interval is Wilson's around it for the ``n``
    images, which are the same for every seed, and ``sd`` tells how far the seeds differ.
    """

    value: float
    n: int
    sd: float | None

    @property
    def interval(self) -> Interval:
        return metrics.wilson(self.value * self.n, self.n)

    def minus(self, other: Accuracy) -> Interval:
        """The interval of the difference, as if the two were measured on different images."""
        return metrics.newcombe((self.value * self.n, self.n), (other.value * other.n, other.n))


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
    """Everything measured about one target."""

    name: str
    source: str
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
    return Target(name, records[0].source, records[0].shared_classes, cells)


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


# -- the paper's questions, in words ----------------------------------------------------------


def answers(target: Target) -> list[str]:
    """What this target says about memory, the best strategy, and whether transfer helps."""
    return [*_memory(target), _best(target), *_transfer(target)]


def _memory(target: Target) -> list[str]:
    base = target.baseline
    others = [cell for cell in target.cells.values() if cell.column[1] is not None]
    if base is None or not others:
        return []
    lost = ", ".join(f"{c.name} {100 * (base.source.value - c.source.value):+.1f}" for c in others)
    return [f"{target.name}, memory lost (points of {target.source} accuracy below BL): {lost}."]


def _best(target: Target) -> str:
    best = target.best()
    images = " and ".join(f"{n:,}" for n in best.validation_images)
    return (
        f"{target.name}, best on both sets by validation: {best.name} (mean validation accuracy "
        f"{_percent(best.validation)}, of {images} images): {_percent(best.source.value)} on "
        f"{target.source}, {_percent(best.target.value)} on {target.name}."
    )


def _transfer(target: Target) -> list[str]:
    """Strategies that use the source against TO, which does not, each with the most images."""
    amounts = [amount for _, amount in target.cells if amount is not None]
    alone = target.cells.get(("TO", max(amounts, default=0)))
    if alone is None:
        return []
    said = []
    for cell in target.cells.values():
        if cell.column[0] != "TO" and cell.column[1] == alone.column[1]:
            low, high = cell.target.minus(alone.target)
            verdict = "helps" if low > 0 else "harms" if high < 0 else "undecided"
            gain = cell.target.value - alone.target.value
            said.append(
                f"{cell.name} {100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] {verdict}"
            )
    if not said:
        return []
    return [
        f"{target.name}, does transfer help? Points of {target.name} accuracy above {alone.name} "
        f"({_percent(alone.target.value)}), with 95 % intervals that are not corrected for "
        f"their number: {'; '.join(said)}."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
