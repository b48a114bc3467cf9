"""CK+, the extended Cohn-Kanade set, in its three forms.

* CK+48: ``<class>/S010_004_00000017.png``, 48x48, the last three frames of 327 sequences.
* The full set: ``cohn-kanade-images/S010/004/S010_004_00000017.png`` with one number a labelled
  sequence in ``Emotion/S010/004/..._emotion.txt``. The last frame is the apex; the last three are
  taken, as CK+48 does.
* ``ckextended.csv``: laid out like fer2013.csv, label 7 is contempt; it does not say who is shown.

Frames of one sequence are near-copies, so an image's group is its sequence.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from fercore.data.classes import CONTEMPT, class_name, label_of, left_out_notes
from fercore.data.dataset import CLASSES, Dataset, Skipped
from fercore.data.images import START, SUFFIX, WHOLE, Crop, Item, load_images, unmatched
from fercore.data.pixel_csv import load_csv
from fercore.data.tables import is_csv, read_header
from fercore.data.tree import READ_FAULTS, Tree
from fercore.errors import FercoreError

EXPECTS = (
    "CK+48/<class>/S010_004_00000017.png, or cohn-kanade-images/S010/004/S010_004_00000017.png "
    "with Emotion/S010/004/S010_004_00000017_emotion.txt"
)
CROP = WHOLE

APEX_FRAMES = 3

# A class's folder has a letter in its name; the full set's sequence folders have digits alone.
_CK48 = re.compile(
    rf"{START}(?P<word>[^/]*[A-Za-z][^/]*)/(?P<subject>S\d+)_(?P<sequence>\d+)_\d+{SUFFIX}$"
)
_FULL = re.compile(
    rf"{START}(?P<subject>S\d+)/(?P<sequence>\d+)/(?P=subject)_(?P=sequence)_\d+{SUFFIX}$"
)
_EMOTION = re.compile(rf"{START}(?P<sequence>S\d+_\d+)_\d+_emotion\.txt$")
_EMOTIONS = ("neutral", "angry", CONTEMPT, "disgust", "fear", "happy", "sad", "surprise")


def recognise(tree: Tree) -> int:
    """How many images have CK+'s names, or csv files are named after it and hold pixels."""
    images = sum(1 for name in tree.names if _CK48.search(name) or _FULL.search(name))
    return images + len(_csv_files(tree))


def load(tree: Tree, crop: Crop, classes: int) -> Dataset:
    """Read CK+; where a tree holds several of its forms, CK+48 before the full set."""
    if any(map(_CK48.search, tree.names)):
        return _load_ck48(tree, crop, classes)
    if any(map(_FULL.search, tree.names)):
        return _load_full(tree, crop, classes)
    note = "The csv file does not name subjects or sequences: parts may share people."
    csv = _csv_files(tree)[0]
    return load_csv(tree, csv, "ckplus", crop, classes, (note,), contempt=True)


def _csv_files(tree: Tree) -> list[str]:
    return [
        name
        for name in tree.names
        if is_csv(name)
        and name.rsplit("/", 1)[-1].lower().startswith("ck")
        and "pixels" in read_header(tree, name)
    ]


def _load_ck48(tree: Tree, crop: Crop, classes: int) -> Dataset:
    items: list[Item] = []
    matched: list[str] = []
    left_out: Counter[str] = Counter()
    for path in tree.names:
        if not (match := _CK48.search(path)):
            continue
        matched.append(path)
        label = label_of(match["word"], classes)
        if label is None:
            left_out[class_name(match["word"]) or match["word"]] += 1
            continue
        subject, sequence = match["subject"], f"{match['subject']}_{match['sequence']}"
        items.append(Item(path, path[match.start() :], label, subject, sequence))
    skipped = unmatched(tree, matched, "not at CLASS/SUBJECT_SEQUENCE_FRAME.png")
    notes = left_out_notes(left_out, classes)
    return load_images(tree, "ckplus", crop, classes, items, skipped, notes)


def _load_full(tree: Tree, crop: Crop, classes: int) -> Dataset:
    sequences: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)  # name, name shown
    for path in tree.names:  # in natural order, hence frames in order of time
        if match := _FULL.search(path):
            key = f"{match['subject']}_{match['sequence']}"
            sequences[key].append((path, path[match.start() :]))
    emotions, skipped = _read_emotions(tree)
    if not emotions:
        raise FercoreError(
            f"{tree.path}: no readable *_emotion.txt beside CK+'s images; unpack "
            "Emotion_labels.zip into the same folder"
        )
    items: list[Item] = []
    left_out: Counter[str] = Counter()
    for key, frames in sequences.items():
        apex = frames[-APEX_FRAMES:]
        if (emotion := emotions.get(key)) is None:
            continue
        if emotion not in CLASSES[:classes]:
            left_out[emotion] += len(apex)
            continue
        subject = key.split("_", maxsplit=1)[0]
        items += [Item(path, shown, CLASSES.index(emotion), subject, key) for path, shown in apex]
    unlabelled = sum(key not in emotions for key in sequences)
    notes = [
        *left_out_notes(left_out, classes),
        f"The last {APEX_FRAMES} frames of a sequence are taken, as in CK+48; its neutral first "
        "frame is not.",
        f"{unlabelled} of {len(sequences)} sequences have no label and are left out.",
    ]
    if crop == WHOLE:
        notes.append("Full CK+ images show head and shoulders: a crop to the face helps.")
    return load_images(tree, "ckplus", crop, classes, items, skipped, notes)


def _read_emotions(tree: Tree) -> tuple[dict[str, str], list[Skipped]]:
    """The emotion of every labelled sequence, and the label files that hold none."""
    emotions: dict[str, str] = {}
    skipped: list[Skipped] = []
    for path in tree.names:
        if not (match := _EMOTION.search(path)):
            continue
        try:
            emotions[match["sequence"]] = _EMOTIONS[_whole(tree.read(path).decode())]
        except READ_FAULTS:  # ValueError among them
            skipped.append(Skipped(path, "does not hold a whole number from 0 to 7"))
    return emotions, skipped


def _whole(text: str) -> int:
    number = float(text)
    if number not in range(len(_EMOTIONS)):
        raise ValueError(text)
    return int(number)
