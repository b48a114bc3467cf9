"""Datasets made of plain values, for tests that need no image files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from hypothesis import settings

from fercore.data.dataset import BASIC, CLASSES, SIZE, Dataset

steady = settings(deadline=None, derandomize=True)
"""For properties: the same examples in every run, however busy the machine."""

JAFFE_SUBJECTS = {
    "KA": 23,
    "YM": 22,
    "KL": 22,
    "KM": 22,
    "NA": 21,
    "MK": 21,
    "TM": 21,
    "UY": 21,
    "KR": 20,
    "NM": 20,
}


def fingerprint(content: object) -> str:
    """A fingerprint for an image of which only this much matters."""
    return hashlib.sha256(repr(content).encode()).hexdigest()


def make_dataset(
    labels: Sequence[int],
    subjects: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    contents: Sequence[object] | None = None,
    *,
    name: str = "faces",
    format: str = "folder",
    classes: int = BASIC,
) -> Dataset:
    """A dataset with these columns; rows whose ``contents`` are equal are identical images."""
    count = len(labels)
    contents = contents if contents is not None else range(count)
    images = np.arange(count * SIZE * SIZE, dtype=np.int64).reshape(count, SIZE, SIZE) % 251
    return Dataset(
        name=name,
        format=format,
        images=images.astype(np.uint8),
        labels=np.array(labels, np.int32),
        files=tuple(f"{CLASSES[label]}/{row}.png" for row, label in enumerate(labels)),
        subjects=tuple(subjects or [""] * count),
        groups=tuple(groups or [""] * count),
        splits=tuple(splits or [""] * count),
        sha256=tuple(fingerprint(content) for content in contents),
        classes=classes,
    )


def make_jaffe(subjects: dict[str, int] = JAFFE_SUBJECTS, name: str = "jaffe") -> Dataset:
    """A dataset with JAFFE's people, each with that many images, classes in turn."""
    people = [subject for subject, count in subjects.items() for _ in range(count)]
    labels = [i % BASIC for count in subjects.values() for i in range(count)]
    return make_dataset(labels, people, name=name, format="jaffe")


def make_tfeid(seed: int) -> Dataset:
    """Forty people, most with thirteen images: six expressions in two intensities, and neutral."""
    random = np.random.default_rng(seed)
    cells = [
        (f"{sex}{number:02d}", label)
        for sex in "fm"
        for number in range(1, 21)
        for label in range(BASIC)
        for _ in range(1 if CLASSES[label] == "neutral" else 2)
        if random.random() < 0.98
    ]
    people, labels = zip(*cells, strict=True)
    return make_dataset(labels, people, name="tfeid", format="tfeid")


def make_mug(seed: int) -> Dataset:
    """52 people with one to four takes an expression, and as many frames from each take."""
    random = np.random.default_rng(seed)
    takes = [
        (f"{number:03d}", label, f"{number:03d}/{CLASSES[label]}/take{take:03d}")
        for number in range(1, 53)
        for label in range(BASIC)
        for take in range(random.integers(1, 5))
    ]
    frames = round(7352 / len(takes))
    people, labels, groups = zip(*(take for take in takes for _ in range(frames)), strict=True)
    return make_dataset(labels, people, groups, name="mug", format="mug")
