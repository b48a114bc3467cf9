"""JAFFE: 213 images of ten women, named ``KA.AN1.39.tiff`` = subject.expression+take.number."""

from __future__ import annotations

import re

from fercore.data.dataset import CLASSES, Dataset
from fercore.data.images import START, SUFFIX, Crop, Item, load_images, unmatched
from fercore.data.tree import Tree

EXPECTS = "images named like KA.AN1.39.tiff"

CROP = Crop(48 / 256, 68 / 256, 208 / 256, 228 / 256)
"""JAFFE shows head and shoulders, FER2013 faces alone (distance of the eyes 0.234 and 0.375 of the
width, their height 0.50 and 0.37). This part of the 256x256 images brings the eyes to where
FER2013 has them."""

IMAGES = 213

_CODES = {
    "AN": "angry",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprise",
}
_NAME = re.compile(
    rf"{START}(?P<subject>[A-Z]{{2}})\.(?P<code>{'|'.join(_CODES)})\d\.\d+{SUFFIX}$", re.IGNORECASE
)


def recognise(tree: Tree) -> int:
    """How many images have JAFFE's names."""
    return sum(_NAME.search(name) is not None for name in tree.names)


def load(tree: Tree, crop: Crop, classes: int) -> Dataset:
    """Read JAFFE, flat or in folders; the posed expression in the name is the label."""
    items = [
        Item(
            path,
            path[match.start() :],
            CLASSES.index(_CODES[match["code"].upper()]),
            subject=match["subject"].upper(),
        )
        for path in tree.names
        if (match := _NAME.search(path))
    ]
    reason = "not named SUBJECT.EXPRESSION+TAKE.NUMBER, like KA.AN1.39.tiff"
    skipped = unmatched(tree, (item.name for item in items), reason)
    notes = ["Labels are the posed expressions, not the semantic ratings."]
    if (found := len({item.file for item in items})) < IMAGES:
        notes.append(f"{found} of JAFFE's {IMAGES} images are here.")
    return load_images(tree, "jaffe", crop, classes, items, skipped, notes)
