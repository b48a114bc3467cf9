"""AffectNet's manually annotated faces, in both of their layouts.

* Lists: ``training.csv`` and ``validation.csv`` with the columns ``subDirectory_filePath``,
  ``face_x`` to ``face_height`` (the face's box in pixels), ..., ``expression``, and the images
  below ``Manually_Annotated_Images/``. A list without a header has the original's columns.
* Numbers: ``train_set/`` and ``val_set/``, each with ``images/<n>.jpg`` (faces alone, 224x224) and
  ``annotations/<n>_exp.npy``, which holds one number.

AffectNet's own test set is not public: as in publications, the validation set is the test part
here. Left out are 8 none, 9 uncertain and 10 no face, and contempt unless it is asked for. Who is
shown is not known.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fercore.data.classes import CONTEMPT, left_out_notes
from fercore.data.dataset import CLASSES, Dataset, Skipped
from fercore.data.images import SUFFIX, WHOLE, Crop, Item, is_image, load_images
from fercore.data.tables import is_csv, read_header, read_rows
from fercore.data.tree import READ_FAULTS, Tree

EXPECTS = (
    "training.csv and validation.csv with the columns subDirectory_filePath and expression, or "
    "train_set/annotations/0_exp.npy with train_set/images/0.jpg"
)
CROP = WHOLE

_EXPRESSIONS = (
    *("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", CONTEMPT),
    *("none", "uncertain", "no face"),
)
_PATH, _EXPRESSION = "subdirectory_filepath", "expression"
_BOX = ("face_x", "face_y", "face_width", "face_height")
_HEADER = (_PATH, *_BOX, "facial_landmarks", _EXPRESSION, "valence", "arousal")

_NO_NUMBER = f"no whole number from 0 to {len(_EXPRESSIONS) - 1} as its expression"

_FIRST_CELL = re.compile(r"\d+/[0-9a-f]+\.\w+")  # of a list without a header
_ANNOTATION = re.compile(r"(?P<root>(?:.*/)?)annotations/(?P<number>[^/]+)_exp\.npy", re.IGNORECASE)
_IMAGE = re.compile(rf"(?P<root>(?:.*/)?)images/(?P<number>[^/]+?){SUFFIX}", re.IGNORECASE)


class _Label(NamedTuple):
    """What the set says about one of its images."""

    image: str  # its name in the tree
    file: str  # as shown to people
    number: int
    split: str
    box: tuple[float, float, float, float] | None = None


def recognise(tree: Tree) -> int:
    """How many lists and annotations have AffectNet's columns and names."""
    return len(_lists(tree)) + sum(map(bool, map(_ANNOTATION.fullmatch, tree.names)))


def load(tree: Tree, crop: Crop, classes: int, boxes: bool = True) -> Dataset:
    """Read AffectNet; with ``boxes`` the crop is a part of the face's box where a list gives it."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    left_out: Counter[str] = Counter()
    labelled: set[str] = set()
    for entry in _listed(tree) if _lists(tree) else _annotated(tree):
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        labelled.add(entry.image)
        name = _EXPRESSIONS[entry.number]
        if name in CLASSES[:classes]:
            box = entry.box if boxes else None
            label = CLASSES.index(name)
            items.append(Item(entry.image, entry.file, label, split=entry.split, box=box))
        else:
            left_out[name] += 1
    notes = left_out_notes(left_out, classes)
    notes += [
        f"{name} left out: a program chose its labels."
        for name in filter(_is_automatic, filter(is_csv, tree.names))
    ]
    if others := sum(is_image(name) and name not in labelled for name in tree.names):
        notes.append(f"Images without a label, left out: {others:,}.")
    if any(item.box for item in items):
        notes.append("Faces are cut out by the boxes of the lists.")
    if {"train", "test"} <= {item.split for item in items}:
        notes.append(
            "Test is AffectNet's validation set, as in publications: its test set is not public."
        )
    return load_images(tree, "affectnet", crop, classes, items, skipped, notes)


# -- lists ------------------------------------------------------------------------------------


def _lists(tree: Tree) -> dict[str, Sequence[str] | None]:
    """The lists of manual labels, each with its columns if it has no header that names them."""
    lists: dict[str, Sequence[str] | None] = {}
    for name in filter(is_csv, tree.names):
        if _is_automatic(name):
            continue
        first = read_header(tree, name)
        if {_PATH, _EXPRESSION} <= first.keys():
            lists[name] = None
        elif _FIRST_CELL.fullmatch(next(iter(first))):
            lists[name] = _HEADER
    return lists


def _is_automatic(name: str) -> bool:
    """Whether a list's labels are a program's, by its name."""
    return "automatic" in name.lower()


def _listed(tree: Tree) -> Iterator[_Label | Skipped]:
    images = {_ending(name): name for name in tree.names if is_image(name)}
    for name, header in _lists(tree).items():
        columns = header or read_header(tree, name)
        boxed = set(_BOX) <= set(columns)
        shown, split = name.rsplit("/", 1)[-1], _split(name)
        wanted = (_PATH, _EXPRESSION, *(_BOX if boxed else ()))
        for line, (file, number, *box) in read_rows(tree, name, wanted, header):
            at = f"{shown}:{line}"
            image = images.get(_ending(file))
            expression, face = _number(number), _face(box)
            if expression is None:
                yield Skipped(at, _NO_NUMBER)
            elif boxed and face is None:
                yield Skipped(at, "its face's box is not four numbers")
            elif image is None:
                yield Skipped(at, "its image is not here")
            else:
                yield _Label(image, file, expression, split, face)


def _ending(path: str) -> str:
    """The last folder and the file's name, by which the lists call an image."""
    return "/".join(path.split("/")[-2:])


def _face(cells: Sequence[str]) -> tuple[float, float, float, float] | None:
    try:
        x, y, width, height = map(float, cells)
    except ValueError:
        return None
    return x, y, x + width, y + height


# -- numbers ----------------------------------------------------------------------------------


def _annotated(tree: Tree) -> Iterator[_Label | Skipped]:
    images = {
        (match["root"], match["number"]): name
        for name in tree.names
        if (match := _IMAGE.fullmatch(name))
    }
    for name in tree.names:
        if not (match := _ANNOTATION.fullmatch(name)):
            continue
        image = images.get((match["root"], match["number"]))
        number = _number(_content(tree, name))
        if number is None:
            yield Skipped(name, _NO_NUMBER)
        elif image is None:
            yield Skipped(name, "its image is not here")
        else:
            shown = "/".join(image.split("/")[-3:])  # from the set's folder on
            yield _Label(image, shown, number, _split(match["root"]))


def _content(tree: Tree, name: str) -> str:
    """The one value in a file of NumPy's; "" where there is none."""
    try:
        return str(np.load(io.BytesIO(tree.read(name)), allow_pickle=False).item())
    except READ_FAULTS:
        return ""


# -- both -------------------------------------------------------------------------------------


def _number(text: str) -> int | None:
    """The number of an expression; None for what is none. Some copies write 3 as 3.0."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number in range(len(_EXPRESSIONS)) else None


def _split(name: str) -> str:
    """The part of ours that a list or folder of this name holds; "" where it does not say."""
    word = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return "train" if "train" in word else "test" if "val" in word or "test" in word else ""
