"""A face dataset in memory: what every loader returns and every later stage reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Class order everywhere in fercore; a label is an index into it."""

BASIC = 7
"""So many of CLASSES are always known; contempt, which few sets have, where it is asked for."""

SIZE = 48
"""Side of every image after cropping and resizing, in pixels."""

SPLITS = ("train", "validation", "test")


def class_count(contempt: bool) -> int:
    """How many of CLASSES are known, from the first one on: with contempt, or without."""
    return len(CLASSES) if contempt else BASIC


@dataclass(frozen=True)
class Skipped:
    """An entry that was not loaded: where it stands and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """``N`` images, their labels and where they came from; row ``i`` of everything is one image.

    Attributes:
        name: how the study calls it.
        format: how its files look: a key of ``fercore.data.FORMATS``.
        images: uint8 ``[N, SIZE, SIZE]``.
        labels: int32 ``[N]``, indices into CLASSES; they split, balance, choose and test.
        targets: what training learns instead of labels, where a set knows more: float32
            ``[N, classes]``, the share of each class; the label is the first largest.
        multi_target: whether any class with a share is right, rather than all by their shares.
        files: as shown to people: the path inside the dataset, or ``fer2013.csv:17`` for a line.
        subjects: who is shown; "" where the set does not say.
        groups: sequence or take, whose frames are near-copies; "" where there is none.
        splits: one of SPLITS where the set has an official split, else "".
        sha256: of the decoded pixels, before cropping and resizing.
        skipped: entries that could not be used.
        notes: a sentence for each choice the loader made that a reader should know.
        synthetic: whether a program drew the images.
        classes: how many of CLASSES are known, from the first one on; of others it has no image.
    """

    name: str
    format: str
    images: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]
    subjects: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    sha256: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    targets: np.ndarray | None = None
    multi_target: bool = False
    classes: int = BASIC

    @property
    def lessons(self) -> np.ndarray:
        """What training learns: targets, or labels where there are none."""
        return self.labels.astype(np.int32) if self.targets is None else self.targets

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """The given rows, in the given order; what was skipped stays with the whole."""
        rows = np.asarray(rows, dtype=np.int64)

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in rows)

        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            targets=None if self.targets is None else self.targets[rows],
            files=pick(self.files),
            subjects=pick(self.subjects),
            groups=pick(self.groups),
            splits=pick(self.splits),
            sha256=pick(self.sha256),
            skipped=(),
        )
