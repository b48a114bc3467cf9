"""Csv files whose rows hold an image's pixels as text, the way FER2013 came out.

The header names the columns ``emotion``, ``pixels`` and, where there is one, ``Usage``, in any
order, with or without spaces around them. A row is strict: a label that is a class's number, 2,304
whole numbers from 0 to 255 with spaces between, a known Usage. Rows that are not are skipped, each
with its line and reason; more than 1 % of them (and more than ten) mean another kind of file, and
are an error.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import IO, cast

from PIL import Image

from fercore.data.classes import CONTEMPT, left_out_notes
from fercore.data.dataset import SIZE, Dataset, Skipped, class_count
from fercore.data.images import Crop, Item, Row, assemble, fingerprint, frame
from fercore.data.tables import place, read_header
from fercore.data.tree import READ_FAULTS, Tree
from fercore.errors import FercoreError

_SPLITS = {b"Training": "train", b"PublicTest": "validation", b"PrivateTest": "test"}
# A table of the 256 texts is faster than int(), and refuses what int() would take: "1_0", "+5".
_VALUES = {str(value).encode(): value for value in range(256)}

_LONGEST = 50_000
"""Bytes a line may have, many times those of a row: a file without line ends is no csv file."""


class _RowError(Exception):
    """Why a row cannot be used."""


def load_csv(
    tree: Tree,
    csv: str,
    format: str,
    crop: Crop,
    classes: int,
    notes: tuple[str, ...] = (),
    *,
    contempt: bool = False,
) -> Dataset:
    """Read the csv file of that name in the tree; its rows are named ``fer2013.csv:LINE``.

    Without a Usage column every row is in ``train``. With ``contempt`` label 7 stands for contempt,
    which is left out unless it is one of the ``classes``; without, it is a bad row. Raises
    FercoreError when the header lacks a column, the file breaks off, or too many rows are bad.
    """
    entries = read_pixels(tree, csv, crop, contempt=contempt)
    rows = [entry for entry in entries if isinstance(entry, Row)]
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    if "usage" not in read_header(tree, csv):
        notes = (*notes, f"{csv} has no Usage column: every row is in train.")
    faces = [row for row in rows if row.item.label < classes]
    left_out = {CONTEMPT: len(rows) - len(faces)} if len(faces) < len(rows) else {}
    notes = (*notes, *left_out_notes(left_out, classes))
    return assemble(tree, format, crop, classes, faces, skipped, notes)


def read_pixels(tree: Tree, csv: str, crop: Crop, *, contempt: bool = False) -> list[Row | Skipped]:
    """Every row of the csv file that is not blank, in order, or why it cannot be used.

    Raises FercoreError when the header lacks a column, the file breaks off, or too many rows are
    bad.
    """
    header = read_header(tree, csv)
    if "pixels" not in header:
        raise FercoreError(f"{place(tree, csv)}: no column 'pixels'; expected emotion,pixels,Usage")
    if "emotion" not in header:
        raise FercoreError(
            f"{place(tree, csv)}: no column 'emotion', so its images have no labels (as in the "
            "competition's test.csv); give fer2013.csv, icml_face_data.csv or train.csv"
        )
    labels = {str(label).encode(): label for label in range(class_count(contempt))}
    entries = _read_rows(tree, csv, header, labels, crop)
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    if len(skipped) > max(10, len(entries) // 100):
        raise FercoreError(
            f"{place(tree, csv)}: {len(skipped):,} of the {len(entries):,} rows are bad, the first "
            f"{skipped[0].file}: {skipped[0].reason}; give the original file"
        )
    return entries


def _read_rows(
    tree: Tree, csv: str, columns: Mapping[str, int], labels: Mapping[bytes, int], crop: Crop
) -> list[Row | Skipped]:
    entries: list[Row | Skipped] = []
    shown = csv.rsplit("/", 1)[-1]
    try:
        with tree.open(csv) as file:
            for number, line in enumerate(_lines(file), start=1):
                if len(line) == _LONGEST:
                    raise FercoreError(
                        f"{place(tree, csv)}: line {number} is longer than any row of pixels; "
                        "give the original file"
                    )
                if number == 1 or not line.strip():
                    continue
                at = f"{shown}:{number}"
                try:
                    label, split, pixels = _parse(line, columns, labels)
                except _RowError as fault:
                    entries.append(Skipped(at, str(fault)))
                    continue
                gray = Image.frombytes("L", (SIZE, SIZE), pixels)
                item = Item(csv, at, label, split=split)
                entries.append(Row(item, frame(gray, crop), fingerprint(gray)))
    except READ_FAULTS as error:
        raise FercoreError(
            f"{place(tree, csv)}: breaks off ({error}); copy or download it again"
        ) from error
    return entries


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; one that is too long comes in pieces."""
    # The readline of a zip file's own stream would be slow with a limit.
    buffered = io.BufferedReader(cast(io.RawIOBase, file), 2**16)
    while line := buffered.readline(_LONGEST):
        yield line


def _parse(
    line: bytes, columns: Mapping[str, int], labels: Mapping[bytes, int]
) -> tuple[int, str, bytes]:
    """Label, split and pixels of a row; raises _RowError."""
    cells = [cell.strip(b' "\r\n\t') for cell in line.split(b",")]
    if len(cells) != max(columns.values()) + 1:
        raise _RowError(f"{len(cells)} columns where the header has {max(columns.values()) + 1}")
    label = labels.get(cells[columns["emotion"]])
    if label is None:
        raise _RowError(
            f"label {_quote(cells[columns['emotion']])} is not one of 0 to {len(labels) - 1}"
        )
    split = "train"
    if "usage" in columns:
        usage = cells[columns["usage"]]
        if usage not in _SPLITS:
            raise _RowError(f"Usage {_quote(usage)} is none of {b', '.join(_SPLITS).decode()}")
        split = _SPLITS[usage]
    try:
        pixels = bytes(map(_VALUES.__getitem__, cells[columns["pixels"]].split()))
    except KeyError as error:
        raise _RowError(
            f"pixel {_quote(error.args[0])} is not a whole number from 0 to 255"
        ) from None
    if len(pixels) != SIZE * SIZE:
        raise _RowError(f"{len(pixels):,} pixels where {SIZE * SIZE:,} are needed")
    return label, split, pixels


def _quote(text: bytes) -> str:
    return repr(text[:40].decode(errors="replace"))
