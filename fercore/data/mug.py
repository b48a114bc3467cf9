"""MUG: takes of 50 to 160 frames that go from neutral to an expression's apex and back.

``<subject>/<emotion>/<take>/img_0000.jpg``; some subjects are nested twice. Entries whose name ends
in ``end`` only mark a take's end. Whole takes are too many near-copies, half of them neutral, so
frames are drawn evenly from each take's middle.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from fercore.data.classes import class_name, label_of, left_out_notes
from fercore.data.dataset import Dataset
from fercore.data.images import START, SUFFIX, WHOLE, Crop, Item, load_images, unmatched
from fercore.data.tree import Tree
from fercore.errors import FercoreError

EXPECTS = "frames such as 001/anger/take000/img_0000.jpg"
CROP = WHOLE

TOTAL = 7352
"""Images in the paper's MUG."""

_NAME = re.compile(
    rf"{START}(?P<take>(?P<subject>\d+)/(?P<word>[a-z]+)/take\d+)/img_\d+{SUFFIX}$", re.IGNORECASE
)
_END = re.compile(r"end(?:/|\.|$)", re.IGNORECASE)


def recognise(tree: Tree) -> int:
    """How many frames lie where MUG has them."""
    return sum(_NAME.search(name) is not None for name in tree.names)


def load(
    tree: Tree,
    crop: Crop,
    classes: int,
    total: int = TOTAL,
    middle: tuple[float, float] = (0.25, 0.75),
) -> Dataset:
    """Read MUG: about ``total`` images, the same number from the ``middle`` of every take.

    ``middle`` is where in a take frames may be drawn from, as fractions of its length. A take with
    fewer frames there gives all of them, so a part of MUG gives fewer than ``total``. An image's
    group is its take.
    """
    if not (total > 0 and 0 <= middle[0] < middle[1] <= 1):
        raise FercoreError(
            f"mug: total {total} must be above 0 and middle {tuple(middle)} within 0 to 1, rising"
        )
    takes: defaultdict[str, list[tuple[str, re.Match[str]]]] = defaultdict(list)
    matched: list[str] = []
    left_out: Counter[str] = Counter()
    for path in tree.names:  # in natural order, hence frames in order of time
        if not (match := _NAME.search(path)):
            continue
        matched.append(path)
        if label_of(match["word"], classes) is None:
            left_out[class_name(match["word"]) or match["word"]] += 1
        else:
            takes[match["take"]].append((path, match))
    a_take = max(1, round(total / max(1, len(takes))))
    items: list[Item] = []
    for take, frames in takes.items():
        for position in evenly(len(frames), a_take, middle):
            path, match = frames[position]
            label = label_of(match["word"], classes)
            assert label is not None
            items.append(Item(path, path[match.start() :], label, match["subject"], group=take))
    notes = [
        *left_out_notes(left_out, classes),
        f"{len(items):,} of {len(matched):,} frames taken: {a_take} a take at most, evenly from "
        f"{middle[0]:.0%} to {middle[1]:.0%} of each of {len(takes):,} takes.",
    ]
    reason = "not at SUBJECT/EMOTION/TAKE/img_NNNN.jpg"
    skipped = [entry for entry in unmatched(tree, matched, reason) if not _END.search(entry.file)]
    return load_images(tree, "mug", crop, classes, items, skipped, notes)


def evenly(frames: int, wanted: int, middle: tuple[float, float]) -> list[int]:
    """Positions of at most ``wanted`` frames, at equal distances in the middle part of a take.

    The part is cut into ``wanted`` equal pieces, and the frame at the centre of each is taken.
    """
    start, length = middle[0] * frames, (middle[1] - middle[0]) * frames
    centres = (start + length * (piece + 0.5) / wanted for piece in range(wanted))
    return sorted({int(centre) for centre in centres})
