"""RaFD, the Radboud faces database: 67 people, eight expressions, five cameras, three gazes.

``Rafd090_28_Caucasian_male_angry_frontal.jpg`` = the camera's angle (90 is in front), number of the
person, group, sex, expression, direction of gaze. Contempt is left out unless it is asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from fercore.data.classes import class_name, label_of, left_out_notes
from fercore.data.dataset import Dataset, Skipped
from fercore.data.images import START, SUFFIX, Crop, Item, load_images, unmatched
from fercore.data.tree import Tree
from fercore.errors import FercoreError

EXPECTS = "images named like Rafd090_28_Caucasian_male_angry_frontal.jpg"

CROP = Crop(0.176, 0.225, 0.824, 0.656)
"""RaFD shows head and shoulders in 681x1024 pixels. This square of 441 pixels is an estimate of
ours of where the face lies, not measured on the images."""

Gaze = Literal["frontal", "left", "right"]

_NAME = re.compile(
    rf"{START}Rafd(?P<camera>\d{{2,3}})_(?P<subject>\d+)_[a-z]+_[a-z]+_(?P<word>[a-z]+)_"
    rf"(?P<gaze>frontal|left|right){SUFFIX}$",
    re.IGNORECASE,
)


def recognise(tree: Tree) -> int:
    """How many images have RaFD's names."""
    return sum(_NAME.search(name) is not None for name in tree.names)


def load(
    tree: Tree,
    crop: Crop,
    classes: int,
    cameras: tuple[int, ...] = (90,),
    gazes: tuple[Gaze, ...] = ("frontal", "left", "right"),
) -> Dataset:
    """Read RaFD, flat or in folders; only images of these ``cameras`` (degrees) and ``gazes``.

    A person's images of one expression are near-copies, hence a group.
    """
    if not (cameras and gazes):
        raise FercoreError("rafd: cameras and gazes must each name one at least")
    faces = {path: match for path in tree.names if (match := _NAME.search(path))}
    items: list[Item] = []
    skipped: list[Skipped] = []
    left_out: Counter[str] = Counter()
    taken = 0
    for path, match in faces.items():
        if int(match["camera"]) not in cameras or match["gaze"].lower() not in gazes:
            continue
        taken += 1
        file, name = path[match.start() :], class_name(match["word"])
        label = label_of(match["word"], classes)
        if name is None:
            skipped.append(Skipped(file, f"unknown expression '{match['word']}'"))
        elif label is None:
            left_out[name] += 1
        else:
            subject = match["subject"]
            items.append(Item(path, file, label, subject, group=f"{subject}_{name}"))
    degrees, looks = ", ".join(map(str, cameras)), ", ".join(gazes)
    notes = [
        f"{taken:,} of {len(faces):,} images taken: those of camera {degrees}, gaze {looks}.",
        *left_out_notes(left_out, classes),
    ]
    if crop == CROP:
        notes.append("RaFD's crop is an estimate of ours: see the faces with inspect --sheet.")
    skipped += unmatched(tree, faces, "not named like Rafd090_28_Caucasian_male_angry_frontal.jpg")
    return load_images(tree, "rafd", crop, classes, items, skipped, notes)
