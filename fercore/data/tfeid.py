"""TFEID, the Taiwanese facial expression image database.

Folders ``dfh_anger_x`` (high intensity) and ``dfs_anger_x`` (slight), at any depth. A file's name
is tokens between ``_``: the first is the subject (``f01``, ``m20``), the last begins with the
expression's two letters. Where those are unknown, the folder decides.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from fercore.data.classes import CONTEMPT, class_name, left_out_notes
from fercore.data.dataset import CLASSES, Dataset, Skipped
from fercore.data.images import START, SUFFIX, WHOLE, Crop, Item, load_images, unmatched
from fercore.data.tree import Tree

EXPECTS = "images such as dfh_anger_x/f01_..._ag.jpg"
CROP = WHOLE

_CODES = {
    "ag": "angry",
    "dg": "disgust",
    "fg": "fear",
    "hg": "happy",
    "sg": "sad",
    "pg": "surprise",
    "ng": "neutral",
    "cg": CONTEMPT,
}
_INTENSITIES = {"dfh": "high", "dfs": "slight"}
_NAME = re.compile(
    rf"{START}(?:(?P<set>df[a-z])_(?P<word>[a-z]+)[^/]*/)?"
    rf"(?P<subject>[fm]\d+)_(?:[^/]*_)?(?P<code>[a-z]{{2}})[^/_]*{SUFFIX}$",
    re.IGNORECASE,
)


class _Face(NamedTuple):
    file: str
    subject: str
    by_name: str | None  # class by the file's name
    by_folder: str | None  # class by the folder's name
    intensity: str


def _parse(path: str) -> _Face | None:
    match = _NAME.search(path)
    if not match:
        return None
    by_name = _CODES.get(match["code"].lower())
    by_folder = class_name(match["word"]) if match["word"] else None
    if by_name is None and by_folder is None:
        return None
    intensity = _INTENSITIES.get((match["set"] or "").lower(), "unknown")
    return _Face(path[match.start() :], match["subject"].lower(), by_name, by_folder, intensity)


def recognise(tree: Tree) -> int:
    """How many images have TFEID's names."""
    return sum(_parse(name) is not None for name in tree.names)


def load(tree: Tree, crop: Crop, classes: int) -> Dataset:
    """Read TFEID; an image whose name and folder disagree is skipped."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    faces = {path: face for path in tree.names if (face := _parse(path))}
    left_out: Counter[str] = Counter()
    intensities: Counter[str] = Counter()
    for path, face in faces.items():
        if face.by_name and face.by_folder and face.by_name != face.by_folder:
            reason = f"its name says {face.by_name}, its folder {face.by_folder}"
            skipped.append(Skipped(path, reason))
            continue
        label = face.by_name or face.by_folder
        if label not in CLASSES[:classes]:
            left_out[str(label)] += 1
            continue
        intensities[face.intensity] += 1
        items.append(Item(path, face.file, CLASSES.index(label), subject=face.subject))
    notes = left_out_notes(left_out, classes)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(intensities.items()))
    notes.append(f"Images by intensity: {counts or 'none'}.")
    skipped += unmatched(tree, faces, "not named SUBJECT_..._EXPRESSION, like f01_dfh_ag.jpg")
    return load_images(tree, "tfeid", crop, classes, items, skipped, notes)
