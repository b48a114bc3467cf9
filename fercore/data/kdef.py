"""KDEF, the Karolinska directed emotional faces: 70 people, seven expressions, five angles.

``AF01ANS.JPG`` = session (A or B, photographed twice), sex, number, expression, angle: S straight,
HL and HR half profiles, FL and FR full profiles.
"""

from __future__ import annotations

import re
from typing import Literal

from fercore.data.dataset import CLASSES, Dataset
from fercore.data.images import START, SUFFIX, Crop, Item, load_images, unmatched
from fercore.data.tree import Tree
from fercore.errors import FercoreError

EXPECTS = "images named like AF01ANS.JPG"

CROP = Crop(0.144, 0.249, 0.856, 0.774)
"""KDEF shows head and shoulders in 562x762 pixels. This square of 400 pixels is an estimate of ours
of where the face lies, not measured on the images."""

Angle = Literal["S", "HL", "HR", "FL", "FR"]

_CODES = {
    "AF": "fear",
    "AN": "angry",
    "DI": "disgust",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
_NAME = re.compile(
    rf"{START}(?P<shot>(?P<session>[AB])(?P<subject>[FM]\d\d)(?P<code>{'|'.join(_CODES)}))"
    rf"(?P<angle>S|HL|HR|FL|FR){SUFFIX}$",
    re.IGNORECASE,
)


def recognise(tree: Tree) -> int:
    """How many images have KDEF's names."""
    return sum(_NAME.search(name) is not None for name in tree.names)


def load(tree: Tree, crop: Crop, classes: int, angles: tuple[Angle, ...] = ("S",)) -> Dataset:
    """Read KDEF, flat or in folders; only images from ``angles`` are taken.

    A subject is sex and number. The two sessions are different photographs; the angles of one
    expression in one session are one pose, hence a group.
    """
    if not angles:
        raise FercoreError("kdef: angles is empty; name at least one of S, HL, HR, FL, FR")
    faces = {path: match for path in tree.names if (match := _NAME.search(path))}
    items = [
        Item(
            path,
            path[match.start() :],
            CLASSES.index(_CODES[match["code"].upper()]),
            subject=match["subject"].upper(),
            group=match["shot"].upper(),
        )
        for path, match in faces.items()
        if match["angle"].upper() in angles
    ]
    notes = [f"{len(items):,} of {len(faces):,} images taken: those of angle {', '.join(angles)}."]
    if crop == CROP:
        notes.append("KDEF's crop is an estimate of ours: see the faces with inspect --sheet.")
    reason = "not named SESSION+SEX+NUMBER+EXPRESSION+ANGLE, like AF01ANS.JPG"
    skipped = unmatched(tree, faces, reason)
    return load_images(tree, "kdef", crop, classes, items, skipped, notes)
