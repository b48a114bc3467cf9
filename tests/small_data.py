"""Small datasets for tests of training: stripes that a network learns in a few steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fercore.data.dataset import Dataset


def striped(count: int, seed: int = 0, name: str = "stripes") -> Dataset:
    """``count`` noisy images whose class is the position of a bright vertical stripe."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 7, count).astype(np.int32)
    images = generator.integers(0, 60, (count, 48, 48)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 6 * label : 6 * label + 6] += 120
    empty = ("",) * count
    files = tuple(f"{row}.png" for row in range(count))
    return Dataset(name, "folder", images, labels, files, empty, empty, empty, files)


def shared(dataset: Dataset, *, multi_target: bool = False) -> Dataset:
    """The same images, of which every other one has the next class, too."""
    targets = np.eye(7, dtype=np.float32)[dataset.labels]
    targets[::2] = 0.75 * targets[::2] + 0.25 * np.roll(targets[::2], 1, axis=1)
    return replace(dataset, targets=targets, multi_target=multi_target)
