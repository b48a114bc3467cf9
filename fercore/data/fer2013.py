"""FER2013, in each of the forms in which it goes round.

* ``fer2013.csv`` (``emotion,pixels,Usage``), ``icml_face_data.csv`` (the same columns in another
  order) and the competition's ``train.csv`` (no Usage).
* ``train|test/<class>/Training_<n>.jpg``: the file name's prefix is the split, since ``test/``
  mixes both test sets. Class folders sort alphabetically, which is not the csv's numbering: the
  folder's name decides.
* ``train|validation|test/<class>/<n>.jpg``: without that prefix the folder is the split.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from fercore.data.classes import class_name, label_of, left_out_notes
from fercore.data.dataset import Dataset
from fercore.data.images import START, SUFFIX, WHOLE, Crop, Item, load_images, unmatched
from fercore.data.pixel_csv import load_csv
from fercore.data.tables import is_csv, read_header
from fercore.data.tree import Tree

EXPECTS = (
    "fer2013.csv with the columns emotion,pixels,Usage, or images such as "
    "train/angry/Training_1021836.jpg"
)
CROP = WHOLE

IMAGES = 35_887

_PREFIXED = re.compile(
    rf"{START}(?:(?:train|val|validation|test)/)?(?P<word>[^/]+)/"
    rf"(?P<split>Training|PublicTest|PrivateTest)_\d+{SUFFIX}$",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    rf"{START}(?P<split>train|val|validation|test)/(?P<word>[^/]+)/(?:im)?\d+{SUFFIX}$",
    re.IGNORECASE,
)
_SPLITS = {
    "training": "train",
    "publictest": "validation",
    "privatetest": "test",
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


def recognise(tree: Tree) -> int:
    """How many csv files with pixels, or images with FER2013's names, the tree holds."""
    images = sum(
        class_name(match["word"]) is not None
        for pattern in (_PREFIXED, _NUMBERED)
        for match in map(pattern.search, tree.names)
        if match
    )
    return images + len(_csv_files(tree))


def load(tree: Tree, crop: Crop, classes: int) -> Dataset:
    """Read FER2013; where several csv files have pixels, the first with labels and Usage."""
    if csvs := _csv_files(tree):
        csv = csvs[0]
        others = tuple(f"{other} left out: {csv} is read." for other in csvs[1:])
        dataset = load_csv(tree, csv, "fer2013", crop, classes, others)
    else:
        dataset = _load_folders(tree, crop, classes)
    if (found := len(dataset) + len(dataset.skipped)) < IMAGES:
        note = f"{found:,} of FER2013's {IMAGES:,} images are here."
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return dataset


def _csv_files(tree: Tree) -> list[str]:
    """The csv files with pixels, best first: with labels and Usage, with labels, the rest."""
    ranks: dict[str, int] = {}
    for csv in filter(is_csv, tree.names):
        header = read_header(tree, csv)
        # A csv file given alone is meant, even when its header is wrong: then load says so.
        if "pixels" in header or len(tree.names) == 1:
            ranks[csv] = 2 * ("emotion" not in header) + ("usage" not in header)
    return sorted(ranks, key=lambda csv: ranks[csv])


def _load_folders(tree: Tree, crop: Crop, classes: int) -> Dataset:
    prefixed = any(map(_PREFIXED.search, tree.names))
    pattern = _PREFIXED if prefixed else _NUMBERED
    items: list[Item] = []
    matched: list[str] = []
    left_out: Counter[str] = Counter()
    for path in tree.names:
        if not (match := pattern.search(path)):
            continue
        matched.append(path)
        label = label_of(match["word"], classes)
        if label is None:
            left_out[class_name(match["word"]) or match["word"]] += 1
        else:
            split = _SPLITS[match["split"].lower()]
            items.append(Item(path, path[match.start() :], label, split=split))
    notes = left_out_notes(left_out, classes)
    if prefixed:
        notes.append(
            "Splits are the file names' prefixes: Training is train, PublicTest validation, "
            "PrivateTest test."
        )
    else:
        notes.append(
            "Splits are the folders, which are not FER2013's Training, PublicTest and PrivateTest: "
            "accuracies do not compare with published ones."
        )
    if absent := {"train", "validation", "test"} - {item.split for item in items}:
        notes.append(f"No image in {', '.join(sorted(absent))}.")
    skipped = unmatched(tree, matched, "not named like a FER2013 image")
    return load_images(tree, "fer2013", crop, classes, items, skipped, notes)
