"""The parts of a split, and what in them could flatter or spoil figures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from fercore.data.dataset import CLASSES, SPLITS, Dataset
from fercore.data.tree import natural_key


@dataclass(frozen=True, eq=False)
class Parts:
    """A split: int64 row indices, ascending, no row in two parts, and what a reader should know."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...] = ()

    def rows(self) -> dict[str, np.ndarray]:
        """The rows of each part, by the names in SPLITS."""
        return {name: getattr(self, name) for name in SPLITS}

    def names(self, images: int) -> list[str]:
        """The part of each of a dataset's ``images`` rows; "" for a row in none."""
        names = [""] * images
        for name, rows in self.rows().items():
            for row in rows:
                names[row] = name
        return names


def leaked_twins(dataset: Dataset, parts: Parts) -> np.ndarray:
    """The test rows that have an exact twin in train, int64, ascending."""
    return _twins(dataset, parts.test, parts.train)


def audit(dataset: Dataset, parts: Parts) -> tuple[str, ...]:
    """What in a split could flatter or spoil its figures, a sentence each.

    People, sequences and identical images in two parts; classes missing from a part; rows in none.
    """
    notes: list[str] = []
    for (a, first), (b, second) in itertools.combinations(parts.rows().items(), 2):
        for values, noun in ((dataset.subjects, "Subjects"), (dataset.groups, "Sequences")):
            if shared := {values[i] for i in first} & {values[i] for i in second} - {""}:
                notes.append(f"{noun} in both {a} and {b}: {len(shared):,} ({_some(shared)}).")
        if twins := len(_twins(dataset, second, first)):
            notes.append(f"Exact twins in {a}: {twins:,} of {len(second):,} {b} images.")
    everywhere = set(dataset.labels)
    for name, rows in parts.rows().items():
        if absent := sorted(everywhere - set(dataset.labels[rows])):
            notes.append(f"No image of {', '.join(CLASSES[c] for c in absent)} in {name}.")
    if left_out := len(dataset) - sum(map(len, parts.rows().values())):
        notes.append(f"Images in no part: {left_out:,}.")
    return tuple(notes)


def _twins(dataset: Dataset, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    images = {dataset.sha256[row] for row in others}
    return np.array([row for row in rows if dataset.sha256[row] in images], np.int64)


def _some(names: set[str]) -> str:
    shown = sorted(names, key=natural_key)
    return ", ".join(shown) if len(shown) <= 10 else ", ".join(shown[:10]) + ", ..."
