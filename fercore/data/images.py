"""From image files to rows of a Dataset: gray, cropped, 48x48, with a fingerprint of the pixels."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fercore.data.dataset import CLASSES, SIZE, Dataset, Skipped
from fercore.data.tree import Tree
from fercore.errors import FercoreError

PIXEL_LIMIT = 50_000_000
"""Images with more pixels are skipped: a small file can unpack to more than the memory."""

FILE_LIMIT = 256 * 2**20
"""Image files of more bytes than this are skipped unread."""

SUFFIX = r"(?:\.(?:bmp|gif|jpe?g|pgm|png|ppm|tiff?|webp))+"
"""Pattern of an image file's suffix, doubled ones such as ``.tiff.png`` included."""

START = r"(?:^|(?<=/))"
"""Pattern of the start of a folder's or file's name within a path."""

_IMAGE = re.compile(SUFFIX + "$", re.IGNORECASE)
_BATCH = 64  # images a task of the thread pool: fewer, larger tasks cost less to hand out

Result = TypeVar("Result")


@dataclass(frozen=True)
class Crop:
    """A box in fractions of an image's width and height: 0, 0, 1, 1 is the whole image."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise FercoreError(
                f"crop {self.left}, {self.top}, {self.right}, {self.bottom}: give left < right and "
                "top < bottom as fractions of the image between 0 and 1"
            )


WHOLE = Crop(0.0, 0.0, 1.0, 1.0)


class Item(NamedTuple):
    """One image that a loader has found, before it is decoded."""

    name: str  # in the tree
    file: str  # as shown to people, and the same wherever the set's root lies in the tree
    label: int
    subject: str = ""
    group: str = ""
    split: str = ""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom of the face in pixels, which the crop is a part of; None: the
    whole image."""


class Row(NamedTuple):
    """One decoded image."""

    item: Item
    pixels: np.ndarray  # uint8 [SIZE, SIZE]
    sha256: str


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return _IMAGE.search(name) is not None


def unmatched(tree: Tree, known: Iterable[str], reason: str) -> list[Skipped]:
    """The image files of a tree that are not among the ``known`` names."""
    seen = set(known)
    return [Skipped(name, reason) for name in tree.names if is_image(name) and name not in seen]


def load_images(
    tree: Tree,
    format: str,
    crop: Crop,
    classes: int,
    items: Sequence[Item],
    skipped: Sequence[Skipped],
    notes: Sequence[str],
) -> Dataset:
    """Decode what a loader found; ``skipped`` and ``notes`` are what it has to say already.

    Items are of the first so many ``classes``. For sets in which a name stands for one image: an
    item whose ``file`` repeats an earlier one, its suffix aside, is a second copy in the same tree
    and is left out. Raises FercoreError when no usable image remains.
    """
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(_IMAGE.sub("", item.file), item)
    notes = list(notes)
    if copies := len(items) - len(first):
        notes.append(
            f"{copies:,} image{'s' * (copies > 1)} left out: second copies, by their names."
        )
    rows, faults = decode(tree, list(first.values()), crop)
    return assemble(tree, format, crop, classes, rows, [*skipped, *faults], notes)


def assemble(
    tree: Tree,
    format: str,
    crop: Crop,
    classes: int,
    rows: Sequence[Row],
    skipped: Sequence[Skipped],
    notes: Sequence[str],
) -> Dataset:
    """The Dataset of these rows, in their order, which are of the first so many ``classes``.

    Raises FercoreError when there is no row, or only one class.
    """
    if not rows:
        first = f"; first fault: {skipped[0].file}: {skipped[0].reason}" if skipped else ""
        left_out = f"; {' '.join(notes)}" if notes and not skipped else ""
        raise FercoreError(f"{tree.path}: no usable {format} image{first}{left_out}")
    labels = np.array([row.item.label for row in rows], dtype=np.int32)
    missing = [CLASSES[c] for c in range(classes) if not np.any(labels == c)]
    if len(missing) == classes - 1:
        raise FercoreError(
            f"{tree.path}: every image is '{CLASSES[labels[0]]}'; "
            "training needs images of at least two classes"
        )
    notes = list(notes)
    if missing:
        notes.append(f"No image of {', '.join(missing)}.")
    if crop != WHOLE:
        notes.append(
            f"Images cropped to x {crop.left:g} to {crop.right:g}, y {crop.top:g} to "
            f"{crop.bottom:g} of their size."
        )
    return Dataset(
        name=format,
        format=format,
        images=np.stack([row.pixels for row in rows]),
        labels=labels,
        files=tuple(row.item.file for row in rows),
        subjects=tuple(row.item.subject for row in rows),
        groups=tuple(row.item.group for row in rows),
        splits=tuple(row.item.split for row in rows),
        sha256=tuple(row.sha256 for row in rows),
        skipped=tuple(skipped),
        notes=tuple(notes),
        classes=classes,
    )


def decode(tree: Tree, items: Sequence[Item], crop: Crop) -> tuple[list[Row], list[Skipped]]:
    """Read images on all CPU cores; both results are in the order of ``items``."""

    def decode_item(item: Item) -> Row | Skipped:
        gray = read_image(tree, item)
        if isinstance(gray, Skipped):
            return gray
        if item.box and not _holds(gray.size, item.box):
            return Skipped(item.file, "its face's box does not lie within the image")
        return Row(item, frame(gray, crop, item.box), fingerprint(gray))

    results = on_all_cores(decode_item, items)
    return (
        [result for result in results if isinstance(result, Row)],
        [result for result in results if isinstance(result, Skipped)],
    )


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function``, which decodes an image, of every item; in their order."""

    def batch_of(batch: Sequence[Item]) -> list[Result]:
        return [function(item) for item in batch]

    batches = [items[i : i + _BATCH] for i in range(0, len(items), _BATCH)]
    with warnings.catch_warnings(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        # Oversized images become entries in `skipped`; a printed warning would say it twice.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return [result for batch in pool.map(batch_of, batches) for result in batch]


def fingerprint(gray: Image.Image) -> str:
    """SHA-256 of an 8-bit gray image: width and height (little-endian uint32), then its bytes."""
    return hashlib.sha256(struct.pack("<II", *gray.size) + gray.tobytes()).hexdigest()


def frame(
    gray: Image.Image, crop: Crop, face: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """The cropped part of an 8-bit gray image at uint8 [SIZE, SIZE], each pixel an area's mean.

    ``crop`` is a part of ``face`` (left, top, right, bottom in pixels), or of the whole image.
    """
    left, top, right, bottom = face or (0, 0, *gray.size)
    width, height = right - left, bottom - top
    box = (
        left + crop.left * width,
        top + crop.top * height,
        left + crop.right * width,
        top + crop.bottom * height,
    )
    # Enlarging, the mean over an area would be blocks of equal pixels; interpolate instead.
    shrinks = box[2] - box[0] >= SIZE and box[3] - box[1] >= SIZE
    resampling = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(gray.resize((SIZE, SIZE), resampling, box=box))


def read_image(tree: Tree, item: Item, mode: Literal["L", "RGB"] = "L") -> Image.Image | Skipped:
    """An image of 8 bits, upright, gray (ITU-R 601 luma) or in colour; or why it cannot be read."""
    if tree.sizes[item.name] > FILE_LIMIT:
        return Skipped(item.file, f"file larger than {FILE_LIMIT // 2**20} MB")
    try:
        return _decoded(tree.read(item.name), mode)
    except UnidentifiedImageError:
        return Skipped(item.file, "not an image that Pillow can read")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's and zipfile's readers raise a dozen kinds on bad bytes
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Skipped(item.file, reason)


def _holds(size: tuple[int, int], box: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = box
    return 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def _decoded(data: bytes, mode: str) -> Image.Image:
    """An upright image in ``mode``; ValueError says why it is refused."""
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise ValueError(
                f"{image.width}x{image.height} pixels are more than {PIXEL_LIMIT // 10**6} million"
            )
        if image.mode[0] in "IF":
            raise ValueError("more than 8 bits a pixel; save it with 8")
        ImageOps.exif_transpose(image, in_place=True)
        return image.convert(mode)
