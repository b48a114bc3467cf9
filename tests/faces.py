"""For tests of whole studies: striped images in class folders, and a very small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fercore import models
from fercore.data.dataset import CLASSES
from fercore.models import Architecture, Block


def shrink_tiny(patch) -> None:
    """Make ``tiny`` so small that a study takes a second; names of its layers stay."""
    blocks = tuple(Block(2, block.convolutions) for block in models.ARCHITECTURES["tiny"].blocks)
    patch.setitem(models.ARCHITECTURES, "tiny", Architecture(blocks, hidden=(8, 8)))


def write_folder(path: Path, each: int, seed: int, classes=CLASSES) -> Path:
    """``each`` images of every class below ``path``; the class is the place of a bright stripe."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        if name not in classes:
            continue
        (path / name).mkdir(parents=True)
        for number in range(each):
            image = generator.integers(0, 60, (48, 48)).astype(np.uint8)
            image[:, 6 * label : 6 * label + 6] += 120
            Image.fromarray(image).save(path / name / f"{number:03d}.png")
    return path
