"""Cross-validation as folders of manifests, each of which a study takes as its split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fercore.data import manifest
from fercore.data.dataset import Dataset
from fercore.data.parts import Parts
from fercore.data.splits import k_fold, leave_one_subject_out
from fercore.errors import FercoreError

SUBJECTS = "subjects"
"""Instead of a number of folds: one for each person."""


def folds(dataset: Dataset, number: int | str, seed: int = 0) -> list[Parts]:
    """``number`` splits (or SUBJECTS) in which every image is tested once, nobody in two parts.

    Raises FercoreError when the dataset has too few people, or does not say who is shown.
    """
    if number == SUBJECTS:
        return list(leave_one_subject_out(dataset, seed))
    return list(k_fold(dataset, int(number), seed))


def write(folder: Path, dataset: Dataset, splits: Sequence[Parts]) -> list[Path]:
    """The manifests ``folder/fold-1/<dataset>.csv`` and so on; all of them, or none.

    Raises FercoreError when a fold of the dataset is there already, or one cannot be written.
    """
    file = f"{dataset.name}.csv"
    if old := sorted(folder.glob(f"fold-*/{file}")):
        raise FercoreError(f"{old[0]}: is there already; delete it, or choose another folder")
    paths = [folder / f"fold-{number}" / file for number in range(1, len(splits) + 1)]
    done: list[Path] = []
    try:
        for path, parts in zip(paths, splits, strict=True):
            manifest.write(path, dataset, parts)
            done.append(path)
    except BaseException:
        for path in done:
            path.unlink()
        raise
    return paths


def describe(dataset: Dataset, splits: Sequence[Parts]) -> str:
    """A line a fold: how many images each part has, and what a reader should know."""
    lines = [f"{dataset.name}: {len(splits)} folds of {len(dataset):,} images"]
    for number, parts in enumerate(splits, start=1):
        counts = ", ".join(f"{name} {len(rows):,}" for name, rows in parts.rows().items())
        lines.append(f"fold-{number}: {counts}. {' '.join(parts.notes)}")
    return "\n".join(lines) + "\n"
