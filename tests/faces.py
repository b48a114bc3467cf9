"""For tests of whole studies: striped images in class folders, a very small network; and a face."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fercore import backends, models
from fercore.data.dataset import BASIC, CLASSES
from fercore.errors import FercoreError
from fercore.models import Architecture, Block


def shrink_tiny(patch) -> None:
    """Make ``tiny`` so small that a study takes a second; names of its layers stay."""
    blocks = tuple(Block(2, block.convolutions) for block in models.ARCHITECTURES["tiny"].blocks)
    patch.setitem(models.ARCHITECTURES, "tiny", Architecture(blocks, hidden=(8, 8)))


@contextmanager
def quick_studies(cache: Path) -> Iterator[None]:
    """Inside, ``tiny`` is small and ``cache`` the images' own; skips without a cpu backend."""
    try:
        backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        shrink_tiny(patch)
        patch.setenv("FERCORE_CACHE", str(cache))
        yield


def write_folder(path: Path, each: int, seed: int, classes=CLASSES[:BASIC]) -> Path:
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


def draw_face(side: int) -> Image.Image:
    """A shaded face in FER2013's framing: eyes at 0.37 of the height, 0.375 of the width apart."""
    face = Image.new("L", (480, 480), 150)
    draw = ImageDraw.Draw(face)
    draw.ellipse((50, -60, 430, 510), fill=200)
    for eye in (150, 330):
        draw.ellipse((eye - 52, 122, eye + 52, 148), fill=90)  # brow
        draw.ellipse((eye - 48, 152, eye + 48, 204), fill=130)  # socket
        draw.ellipse((eye - 34, 162, eye + 34, 196), fill=235)
        draw.ellipse((eye - 17, 161, eye + 17, 195), fill=30)
    draw.polygon(((240, 180), (205, 305), (275, 305)), fill=215)
    draw.ellipse((200, 292, 280, 318), fill=150)
    draw.ellipse((160, 355, 320, 405), fill=95)
    return face.resize((side, side), Image.Resampling.BOX)
