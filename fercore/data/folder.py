"""Any set of class folders: ``[<split>/]<class>/.../<image>``.

A class folder's name is any common word for its class (anger, happiness, Surprised, 6_neutral). A
folder called train, validation or test (or the like) on the way to an image is its split.
"""

from __future__ import annotations

import os.path
import re
from collections import Counter
from typing import NamedTuple

from fercore.data.classes import class_name, label_of, left_out_notes
from fercore.data.dataset import Dataset, Skipped
from fercore.data.images import WHOLE, Crop, Item, assemble, decode, is_image
from fercore.data.tree import Tree
from fercore.errors import FercoreError

EXPECTS = "folders named after classes (angry, disgust, fear, happy, sad, surprise, neutral)"
CROP = WHOLE

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class _Place(NamedTuple):
    word: str  # the class folder, or the folder the file lies in when there is none
    split: str
    root: str  # folders above both


def recognise(tree: Tree) -> int:
    """How many images lie in folders named after classes."""
    return sum(is_image(name) and class_name(_place(name).word) is not None for name in tree.names)


def load(tree: Tree, crop: Crop, classes: int, subject: str | None = None) -> Dataset:
    """Read class folders.

    ``subject`` is a regular expression looked for in an image's path below the folder or zip file
    that was given; its group ``subject``, else its first group, else all that it matches, names who
    is shown. An image that it does not match is skipped. Without it subjects are unknown.
    """
    who = _compile(subject)
    places = {path: _place(path) for path in tree.names}
    known = {path: place for path, place in places.items() if class_name(place.word)}
    root = os.path.commonpath([place.root for place in known.values()])
    items: list[Item] = []
    skipped: list[Skipped] = []
    left_out: Counter[str] = Counter()
    for path, place in places.items():
        label = label_of(place.word, classes)
        shown = path.removeprefix(root).lstrip("/") if path in known else path
        if label is None:
            if is_image(path):
                left_out[class_name(place.word) or place.word or "."] += 1
            continue
        match = who.search(path) if who else None
        if not is_image(path):
            skipped.append(Skipped(shown, "not an image file, by its suffix"))
        elif who and not match:
            skipped.append(Skipped(shown, "the subject's pattern does not match"))
        else:
            person = _subject(match) if match else ""
            items.append(Item(path, shown, label, person, split=place.split))
    notes = left_out_notes(left_out, classes)
    if not who:
        notes.append(
            "Subjects are unknown: parts may share people; the option 'subject' names them."
        )
    elif len(items) > 1 and len({item.subject for item in items}) == len(items):
        notes.append("The pattern of 'subject' names a different person for every image.")
    rows, faults = decode(tree, items, crop)
    return assemble(tree, "folder", crop, classes, rows, [*skipped, *faults], notes)


def _place(path: str) -> _Place:
    """Where a file stands: the deepest folder that names a class, and the split nearest to it."""
    folders = path.split("/")[:-1]
    classes = [i for i, folder in enumerate(folders) if class_name(folder)]
    if not classes:
        return _Place(folders[-1] if folders else "", "", "")
    at = classes[-1]
    splits = [i for i, folder in enumerate(folders) if folder.lower() in _SPLITS]
    if not splits:
        return _Place(folders[at], "", "/".join(folders[:at]))
    nearest = min(splits, key=lambda i: abs(i - at))
    split = _SPLITS[folders[nearest].lower()]
    return _Place(folders[at], split, "/".join(folders[: min(at, nearest)]))


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern) if pattern is not None else None
    except re.error as error:
        raise FercoreError(
            f"subject pattern '{pattern}' is not a regular expression: {error}"
        ) from error


def _subject(match: re.Match[str]) -> str:
    if "subject" in match.re.groupindex:
        return match["subject"] or ""
    return (match[1] if match.re.groups else match[0]) or ""
