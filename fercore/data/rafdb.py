"""RAF-DB, the real-world affective faces database: its basic, single-label part.

* The original: ``EmoLabel/list_patition_label.txt`` (spelt so) with lines ``train_00001.jpg 5``,
  and the images at ``Image/aligned/train_00001_aligned.jpg``.
* Copies without that list, in folders named by the number: ``train/5/train_00001_aligned.jpg``.

The name's beginning is the split: train or test. The aligned images show faces alone, so they are
not cropped. Who is shown is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fercore.data.dataset import CLASSES, Dataset, Skipped
from fercore.data.images import START, SUFFIX, WHOLE, Crop, Item, is_image, load_images
from fercore.data.tables import place
from fercore.data.tree import READ_FAULTS, Tree
from fercore.errors import FercoreError

EXPECTS = "EmoLabel/list_patition_label.txt with Image/aligned/train_00001_aligned.jpg"
CROP = WHOLE

_EXPRESSIONS = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")  # from 1
_COMPOUND = 11  # numbers of the other part, whose 1 to 7 mean something else

_LIST = re.compile(rf"{START}(?:EmoLabel/)?list_par?tition_label\.txt$", re.IGNORECASE)
_LINE = re.compile(r"(?P<stem>(?:train|test)_\d+)\S*\s+(?P<number>\d+)")
_ALIGNED = re.compile(
    rf"{START}(?:(?P<number>[1-7])/)?(?P<stem>(?P<split>train|test)_\d+)_aligned{SUFFIX}$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _List:
    """A list of labels."""

    name: str
    numbers: dict[str, int]  # by the image's stem
    places: dict[str, str]  # where that stands: FILE:LINE
    faults: list[Skipped]

    @property
    def compound(self) -> bool:
        return max(self.numbers.values(), default=0) > len(_EXPRESSIONS)


def recognise(tree: Tree) -> int:
    """How many images and lists have RAF-DB's names."""
    return sum(bool(_ALIGNED.search(name) or _LIST.search(name)) for name in tree.names)


def load(tree: Tree, crop: Crop, classes: int) -> Dataset:
    """Read RAF-DB; where the compound expressions are there too, the basic ones alone."""
    lists = [_read_list(tree, name) for name in tree.names if _LIST.search(name)]
    basic = [entry for entry in lists if not entry.compound]
    if lists and not basic:
        raise FercoreError(
            f"{place(tree, lists[0].name)}: its expressions are compound, with numbers up to "
            f"{_COMPOUND}; give the folder of the basic ones"
        )
    notes = [f"{entry.name} left out: compound expressions." for entry in lists if entry.compound]
    items, skipped = _from_list(tree, basic[0], alone=len(lists) == 1) if basic else _numbered(tree)
    if others := sum(map(is_image, tree.names)) - len(_aligned(tree)):
        notes.append(f"Images not named ..._aligned, left out: {others:,}.")
    return load_images(tree, "rafdb", crop, classes, items, skipped, notes)


def _from_list(tree: Tree, labels: _List, *, alone: bool) -> tuple[list[Item], list[Skipped]]:
    """The images of a list; of several lists, each has those in its own folder."""
    match = _LIST.search(labels.name)
    root = "" if alone or not match else labels.name[: match.start()]
    items: list[Item] = []
    skipped = list(labels.faults)
    missing = dict(labels.places)
    for path, match in _aligned(tree).items():
        if not path.startswith(root):
            continue
        stem = match["stem"].lower()
        missing.pop(stem, None)
        if stem in labels.numbers:
            items.append(_item(path, match, labels.numbers[stem]))
        else:
            skipped.append(Skipped(path, "the list has no label for it"))
    if not items and not skipped:
        raise FercoreError(
            f"{place(tree, labels.name)}: lists images that are not here; unpack Image/aligned.zip"
        )
    return items, skipped + [Skipped(at, "its image is not here") for at in missing.values()]


def _numbered(tree: Tree) -> tuple[list[Item], list[Skipped]]:
    """The images in folders named by a number."""
    aligned = _aligned(tree)
    items = [
        _item(path, match, int(match["number"]))
        for path, match in aligned.items()
        if match["number"]
    ]
    skipped = [
        Skipped(path, "neither a list nor a folder from 1 to 7 gives its label")
        for path, match in aligned.items()
        if not match["number"]
    ]
    return items, skipped


def _aligned(tree: Tree) -> dict[str, re.Match[str]]:
    return {path: match for path in tree.names if (match := _ALIGNED.search(path))}


def _item(path: str, match: re.Match[str], number: int) -> Item:
    label = CLASSES.index(_EXPRESSIONS[number - 1])
    return Item(path, path[match.start("stem") :], label, split=match["split"].lower())


def _read_list(tree: Tree, name: str) -> _List:
    try:
        lines = tree.read(name).decode(errors="replace").splitlines()
    except READ_FAULTS as error:
        raise FercoreError(f"{place(tree, name)}: cannot be read ({error})") from error
    labels = _List(name, {}, {}, [])
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        at = f"{name.rsplit('/', 1)[-1]}:{number}"
        match = _LINE.fullmatch(line.strip())
        if not match or not 1 <= int(match["number"]) <= _COMPOUND:
            labels.faults.append(Skipped(at, "not an image's name and a number from 1 to 7"))
        else:
            labels.numbers[match["stem"]] = int(match["number"])
            labels.places[match["stem"]] = at
    return labels
