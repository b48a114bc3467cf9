"""FER+: FER2013's images with the votes of ten people each, by Barsoum et al. (ICMI 2016).

``fer2013new.csv`` has one row for each row of ``fer2013.csv``, in the same order, and they are
joined by row: the image name in it is empty where no face is shown, and its number drifts. A vote
is one of eight expressions (contempt is left out), "unknown", or "NF", not a face.

An image gets one label, by the majority rule of the authors' own code: votes that stand alone are
dropped as outliers; the label is what more than half of the others say. Where that is unknown or
not a face, or nothing reaches half (a tie never does), the image is left out. The paper's other
rules (probability, multi-target, cross-entropy over votes) give an image several labels, which
training here cannot use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fercore.data.classes import class_name, label_of
from fercore.data.dataset import Dataset, Skipped
from fercore.data.images import WHOLE, Crop, Row, assemble
from fercore.data.pixel_csv import read_pixels
from fercore.data.tables import is_csv, place, read_header, read_rows
from fercore.data.tree import Tree
from fercore.errors import FercoreError

EXPECTS = "fer2013new.csv and fer2013.csv side by side"
CROP = WHOLE

_WORDS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "nf"),
)
_USAGES = {"training": "train", "publictest": "validation", "privatetest": "test"}
_SAID = {"nf": "not a face"}


def recognise(tree: Tree) -> int:
    """How many csv files hold FER+'s votes."""
    return len(_with_columns(tree, "usage", *_WORDS))


def load(tree: Tree, crop: Crop, agreement: float = 0.5) -> Dataset:
    """Read FER+; a label needs more than this share of the votes that do not stand alone.

    A higher ``agreement`` gives fewer, surer labels; below 0.5 the most frequent one wins, and ties
    are still left out. Raises FercoreError when the two files do not belong together.
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
        word = winner(_counts(cells, where), agreement)
        label = label_of(word)
        if label is None:
            left_out[class_name(word) or _SAID.get(word, word)] += 1
        else:
            rows.append(Row(entry.item._replace(label=label), entry.pixels, entry.sha256))
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    reasons = ", ".join(f"{count:,} {word}" for word, count in sorted(left_out.items()))
    notes = [
        f"A label is what more than {agreement:.0%} of the votes say, single votes aside.",
        f"Left out of {len(entries):,} images: {reasons or 'none'}.",
    ]
    return assemble(tree, "ferplus", crop, rows, skipped, notes)


def winner(votes: Sequence[int], agreement: float = 0.5) -> str:
    """The word that a ballot elects: one of FER+'s columns, or "without a majority".

    ``votes`` are counts in the order of the columns. Those of 1 are outliers and do not count.
    """
    counted = [count if count > 1 else 0 for count in votes]
    most = max(counted)
    if counted.count(most) > 1 or not most > agreement * sum(counted):
        return "without a majority"
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
