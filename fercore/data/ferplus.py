"""FER+: FER2013's images with the votes of ten people each, by Barsoum et al. (ICMI 2016).

``fer2013new.csv`` has one row for each row of ``fer2013.csv``, in the same order, and they are
joined by row: the image name in it is empty where no face is shown, and its number drifts. A vote
is one of eight expressions, "unknown", or "NF", not a face. Unless contempt is asked for, images of
which it is the first are left out, and so is its share in others.

What an image is taught as is one of ``Labels``, after the authors' paper (arXiv:1608.01041) and its
code. Votes that stand alone are outliers and do not count.

* ``majority``: one label, that more than half of the votes name. Where that is unknown or not a
  face, or nothing reaches half (a tie never does), the image is left out.
* ``probability``: the shares of the most frequent words, taken until they have three quarters of
  the votes, equal counts together; cross-entropy is against this distribution. (In the paper that
  is the cross-entropy loss; its probabilistic label drawing draws one label an epoch from the same
  shares, and has this loss in the mean.) Left out: more than three words, or half of the votes or
  fewer, or unknown or not a face first. Once an expression leads, either ends the list.
* ``multi-target``: every expression with at least 30 % of the votes is a right answer, and the loss
  is that of the likeliest of them; they must have more than half of the votes together.

Training alone learns so. The images of the official validation and test parts are those of
``majority`` and have its labels in each case, so that accuracies compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from fercore.data.classes import class_name, label_of
from fercore.data.dataset import Dataset, Skipped
from fercore.data.images import WHOLE, Crop, Row, assemble
from fercore.data.pixel_csv import read_pixels
from fercore.data.tables import is_csv, place, read_header, read_rows
from fercore.data.tree import Tree
from fercore.errors import FercoreError

EXPECTS = "fer2013new.csv and fer2013.csv side by side"
CROP = WHOLE

Labels = Literal["majority", "probability", "multi-target"]

_WORDS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "nf"),
)
_USAGES = {"training": "train", "publictest": "validation", "privatetest": "test"}
_SAID = {"nf": "not a face"}
WITHOUT_MAJORITY = "without a majority"
_NO_EXPRESSION = ("unknown", "nf")
_NOTES: dict[Labels, str] = {
    "majority": "A label is what more than {agreement:.0%} of the votes say, single votes aside.",
    "probability": "Training labels are probabilities: the shares of the most frequent votes, "
    "which need more than {agreement:.0%} of all, single votes aside.",
    "multi-target": "Training labels are multi-target: every class with 30% of the votes is right, "
    "and together they need more than {agreement:.0%}, single votes aside.",
}


def recognise(tree: Tree) -> int:
    """How many csv files hold FER+'s votes."""
    return len(_with_columns(tree, "usage", *_WORDS))


def load(
    tree: Tree, crop: Crop, classes: int, agreement: float = 0.5, labels: Labels = "majority"
) -> Dataset:
    """Read FER+; a label needs more than this share of the votes that do not stand alone.

    With other ``labels`` than those of the majority the dataset has targets, too. A higher
    ``agreement`` gives fewer, surer labels; below 0.5 the most frequent one wins, and ties are
    still left out. Raises FercoreError when the two files do not belong together.
    """
    if not 0 <= agreement < 1:
        raise FercoreError(f"ferplus: agreement {agreement} must be at least 0 and below 1")
    votes_csv = _with_columns(tree, "usage", *_WORDS)[0]
    pixels = _with_columns(tree, "emotion", "pixels", "usage")
    if not pixels:
        raise FercoreError(
            f"{place(tree, votes_csv)}: holds labels alone; put fer2013.csv, which has the images, "
            "beside it, and give their folder"
        )
    images_csv = max(pixels, key=lambda name: "fer2013" in name.lower())
    entries = read_pixels(tree, images_csv, crop)
    ballots = list(read_rows(tree, votes_csv, ("usage", *_WORDS)))
    if len(entries) != len(ballots):
        raise FercoreError(
            f"{place(tree, votes_csv)}: {len(ballots):,} rows, but {images_csv} has "
            f"{len(entries):,}; they are joined by row, so give both original files"
        )
    rows: list[Row] = []
    targets: list[np.ndarray] = []
    left_out: Counter[str] = Counter()
    for entry, (line, (usage, *cells)) in zip(entries, ballots, strict=True):
        if isinstance(entry, Skipped):
            continue
        where = f"{place(tree, votes_csv)}: line {line}"
        if _USAGES.get(usage.lower()) != entry.item.split:
            raise FercoreError(
                f"{where}: Usage {usage!r} is not that of {entry.item.file}; they are joined by "
                "row, so give both original files"
            )
        votes = _counts(cells, where)
        taught = labels if entry.item.split == "train" else "majority"
        kept = elected(votes, taught, agreement)
        word = max(kept, key=kept.__getitem__, default=_none(taught))  # of equals the first
        if label_of(word, classes) is None:
            left_out[class_name(word) or _SAID.get(word, word)] += 1
            continue
        target = _shares(kept, classes)
        label = int(target.argmax())
        targets.append(target)
        rows.append(Row(entry.item._replace(label=label), entry.pixels, entry.sha256))
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    reasons = ", ".join(f"{count:,} {word}" for word, count in sorted(left_out.items()))
    notes = [
        _NOTES[labels].format(agreement=agreement),
        f"Left out of {len(entries):,} images: {reasons or 'none'}.",
    ]
    if labels != "majority":
        notes.append("Validation and test labels are the majority's, and so are their images.")
    dataset = assemble(tree, "ferplus", crop, classes, rows, skipped, notes)
    if labels == "majority":
        return dataset
    return replace(dataset, targets=np.stack(targets), multi_target=labels == "multi-target")


def elected(
    votes: Sequence[int], labels: Labels = "majority", agreement: float = 0.5
) -> dict[str, int]:
    """The words that a ballot elects by these labels, with their votes; empty: none.

    ``votes`` are counts in the order of FER+'s columns, as are the words.
    """
    counted = _counted(votes)
    total = sum(counted.values())
    if labels == "majority":
        word = winner(votes, agreement)
        kept = {word: counted[word]} if word in counted else {}
    elif labels == "multi-target":
        kept = {word: count for word, count in counted.items() if 10 * count >= 3 * total > 0}
    else:
        kept = _leading(counted)
    agreed = sum(kept.values()) > agreement * total and len(kept) <= 3
    return {word: counted[word] for word in _WORDS if word in kept} if agreed else {}


def _leading(counted: dict[str, int]) -> dict[str, int]:
    """The most frequent words until they have three quarters of the votes, or are three.

    Equal counts go in together. No expression is one only where it comes first.
    """
    total, kept = sum(counted.values()), dict[str, int]()
    while 4 * sum(kept.values()) < 3 * total and len(kept) < 3:
        rest = {word: count for word, count in counted.items() if word not in kept}
        most = max(rest.values())
        for word in (word for word, count in rest.items() if count == most):
            if word in _NO_EXPRESSION:
                return kept or {word: most}
            kept[word] = most
    return kept


def _counted(votes: Sequence[int]) -> dict[str, int]:
    """Votes by word; those of 1 are outliers and do not count."""
    return {word: n if n > 1 else 0 for word, n in zip(_WORDS, votes, strict=True)}


def _shares(kept: dict[str, int], classes: int) -> np.ndarray:
    """The share of each of the first CLASSES in the votes for them: float32 ``[classes]``."""
    shares = np.zeros(classes, dtype=np.float32)
    for word, count in kept.items():
        if (label := label_of(word, classes)) is not None:
            shares[label] = count
    shares /= shares.sum()
    return shares


def _none(labels: Labels) -> str:
    return WITHOUT_MAJORITY if labels == "majority" else "without agreement"


def winner(votes: Sequence[int], agreement: float = 0.5) -> str:
    """The word that a ballot elects: one of FER+'s columns, or "without a majority".

    ``votes`` are counts in the order of the columns. Those of 1 are outliers and do not count.
    """
    counted = list(_counted(votes).values())
    most = max(counted)
    if counted.count(most) > 1 or not most > agreement * sum(counted):
        return WITHOUT_MAJORITY
    return _WORDS[counted.index(most)]


def _counts(cells: Sequence[str], where: str) -> list[int]:
    try:
        votes = [int(cell) for cell in cells]
    except ValueError:
        votes = []
    if not votes or min(votes) < 0:
        raise FercoreError(f"{where}: votes must be whole numbers; give the original file")
    return votes


def _with_columns(tree: Tree, *columns: str) -> list[str]:
    """The csv files whose header has all of these columns."""
    csvs = filter(is_csv, tree.names)
    return [name for name in csvs if set(columns) <= read_header(tree, name).keys()]
