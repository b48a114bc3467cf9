"""Pictures on which is drawn what a network sees in them: each face's box and likeliest classes."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fercore.data.images import read_image
from fercore.data.tree import open_tree
from fercore.files import write_atomically
from fercore.predict import Prediction, pictures

LINES = 2
"""How many classes are named."""


def write(folder: Path, paths: Sequence[Path], predictions: Sequence[Prediction]) -> list[Path]:
    """Write every picture with its predictions as a PNG file; nothing that is there is replaced.

    Args:
        folder: where to; pictures of a folder or zip file keep their place below it.
        paths: what ``predict_files`` was given.
        predictions: what it returned.

    Returns:
        The files, ``face.png`` for ``face.jpg``, or ``face-2.png`` if there is one already.

    Raises:
        FercoreError: a file cannot be written.
    """
    of_file: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        of_file[prediction.file].append(prediction)
    written = []
    for path in paths:
        with open_tree(path) as tree:
            for item in pictures(path, tree):
                faces = of_file.pop(item.file, None)
                picture = read_image(tree, item, "RGB") if faces else None
                if faces and isinstance(picture, Image.Image):
                    for face in faces:
                        _draw(picture, face)
                    target = _free(folder, item.name)
                    data = io.BytesIO()
                    picture.save(data, "PNG")
                    write_atomically(target, data.getvalue())
                    written.append(target)
    return written


def _draw(picture: Image.Image, face: Prediction) -> None:
    """A box, and the likeliest classes below it; at the picture's lower edge, in it."""
    draw = ImageDraw.Draw(picture)
    size = max((face.box.bottom - face.box.top) / 9, 10.0)
    draw.rectangle(face.box, outline="white", width=max(round(size / 8), 1))
    likeliest = np.argsort(face.probabilities)[::-1][:LINES]
    text = "\n".join(f"{face.classes[c]} {100 * face.probabilities[c]:.0f} %" for c in likeliest)
    font = ImageFont.load_default(size)
    _, _, width, height = draw.multiline_textbbox((0, 0), text, font)
    corner = (
        max(min(face.box.left, picture.width - width), 0),
        max(min(face.box.bottom, picture.height - height), 0),
    )
    draw.rectangle(draw.multiline_textbbox(corner, text, font), fill="black")
    draw.multiline_text(corner, text, "white", font)


def _free(folder: Path, name: str) -> Path:
    """A file of ``folder`` that is not there yet, called like ``name`` in a tree."""
    # A zip file may claim to hold "/x".
    wanted = (folder / name.lstrip("/")).with_suffix(".png")
    numbered = (wanted.with_stem(f"{wanted.stem}-{number}") for number in count(2))
    return wanted if not wanted.exists() else next(p for p in numbered if not p.exists())
