"""What is taken for what before and after, and which classes are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fercore.data.dataset import CLASSES
from fercore.findings import Column, column_name, columns
from fercore.results import Record

Role = Literal["source", "target"]
ROLES: tuple[Role, ...] = ("source", "target")


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix on one test set: rows are the true classes.

    Attributes:
        name: strategy and amount.
        dataset: whose test images.
        classes: names of rows and columns.
        rows: for each class its cells: images (over several seeds, their sum), and their share of
            the row, 0 to 1.
        accuracy: share on the diagonal.
    """

    name: str
    dataset: str
    classes: tuple[str, ...]
    rows: list[list[tuple[int, float]]]
    accuracy: float


@dataclass(frozen=True)
class Recall:
    """The recall of one class, 0 to 1, and its change from BL; None without images or BL."""

    value: float | None
    change: float | None


@dataclass(frozen=True)
class Recalls:
    """Recall by class on one test set.

    Attributes:
        dataset: whose test images.
        classes: name and number of test images of each class.
        rows: of each column, a Recall a class; BL first where there is one.
    """

    dataset: str
    classes: list[tuple[str, int]]
    rows: list[tuple[str, list[Recall]]]


def matrices(records: Sequence[Record]) -> list[tuple[Matrix, Matrix | None]]:
    """The matrices of every column of one target, on the source and on the target."""
    pairs = []
    for column in columns(records):
        of = [record for record in records if (record.strategy, record.amount) == column]
        source = _matrix(of, column, "source")
        if source is not None:
            pairs.append((source, _matrix(of, column, "target")))
    return pairs


def recalls(records: Sequence[Record], role: Role) -> Recalls | None:
    """Recall by class, before and after; None where no matrix is known."""
    counts = {column: _counts(_of(records, column), role) for column in columns(records)}
    known = {column: count for column, count in counts.items() if count is not None}
    if not known:
        return None
    first = next(iter(known.values()))
    seeds = len({record.seed for record in records})
    images = [int(n) // seeds for n in first.sum(axis=1)]
    base = known.get(("BL", None))
    return Recalls(
        dataset=str(getattr(records[0], role)),
        classes=list(zip(_names(first), images, strict=True)),
        rows=[
            (column_name(column), _recalls(count, None if column[0] == "BL" else base))
            for column, count in known.items()
        ],
    )


def _of(records: Sequence[Record], column: Column) -> list[Record]:
    return [record for record in records if (record.strategy, record.amount) == column]


def _counts(records: Sequence[Record], role: Role) -> np.ndarray | None:
    """The sum of the records' matrices."""
    found = [getattr(record, f"{role}_confusion") for record in records]
    return None if None in found else np.sum(np.array(found, np.int64), axis=0)


def _names(counts: np.ndarray) -> tuple[str, ...]:
    return CLASSES[: len(counts)]


def _matrix(records: Sequence[Record], column: Column, role: Role) -> Matrix | None:
    counts = _counts(records, role)
    if counts is None:
        return None
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return Matrix(
        name=column_name(column),
        dataset=str(getattr(records[0], role)),
        classes=_names(counts),
        rows=[
            list(zip(row.tolist(), of_row.round(2).tolist(), strict=True))
            for row, of_row in zip(counts, shares, strict=True)
        ],
        accuracy=float(np.trace(counts) / max(counts.sum(), 1)),
    )


def _recalls(counts: np.ndarray, base: np.ndarray | None) -> list[Recall]:
    after = _recall_of(counts)
    before = [None] * len(after) if base is None else _recall_of(base)
    return [
        Recall(value, None if value is None or old is None else value - old)
        for value, old in zip(after, before, strict=True)
    ]


def _recall_of(counts: np.ndarray) -> list[float | None]:
    images = counts.sum(axis=1)
    return [float(hits / n) if n else None for hits, n in zip(np.diag(counts), images, strict=True)]
