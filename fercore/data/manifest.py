"""A split as a csv file: written by every run, and read back to split in the same way.

Columns: ``file,subject,group,label,split,sha256``, one row an image. ``label`` is a class's name;
``split`` is train, validation, test, or empty for an image in no part. Subject and group are there
for readers; who stands in which part is decided by ``split`` alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fercore.data.dataset import CLASSES, SPLITS, Dataset
from fercore.data.parts import Parts, audit
from fercore.errors import FercoreError
from fercore.files import write_atomically

COLUMNS = ("file", "subject", "group", "label", "split", "sha256")
REQUIRED = ("file", "label", "split", "sha256")


def write(path: Path, dataset: Dataset, parts: Parts) -> None:
    """Write the split of a dataset, rows in its order. Raises FercoreError if it cannot."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        zip(
            dataset.files,
            dataset.subjects,
            dataset.groups,
            (CLASSES[label] for label in dataset.labels),
            parts.names(len(dataset)),
            dataset.sha256,
            strict=True,
        )
    )
    # File names need not be valid Unicode; this brings back the bytes they have on disk.
    write_atomically(path, text.getvalue().encode(errors="surrogateescape"))


def read(path: Path, dataset: Dataset) -> Parts:
    """The split that a manifest gives to a dataset; its rows may stand in any order.

    Raises:
        FercoreError: the file cannot be read or lacks a column; a row names a file that the dataset
            has not, a file a second time, an unknown class or split, or contradicts the dataset's
            label or fingerprint; an image has no row; a part is empty.
    """
    row_of = {file: row for row, file in enumerate(dataset.files)}
    split_of: dict[int, str] = {}
    line_of: dict[int, int] = {}
    for line, entry in entries(path):
        where, file = f"{path}: line {line}", entry["file"]
        if file not in row_of:
            mend = "give the folder that the manifest was written for"
            if entry["label"] in CLASSES[dataset.classes :]:
                mend = f"ask for {entry['label']}, as the manifest does (--contempt)"
            raise FercoreError(
                f"{where}: {dataset.name} has no image {file!r}; remove the line, or {mend}"
            )
        row = row_of[file]
        if row in split_of:
            raise FercoreError(
                f"{where}: {file} stands in line {line_of[row]} already; remove one of the lines"
            )
        _check(where, file, entry, dataset, row)
        split_of[row], line_of[row] = entry["split"], line
    if missing := [file for file, row in row_of.items() if row not in split_of]:
        raise FercoreError(
            f"{path}: {len(missing):,} images of {dataset.name} have no line, the first "
            f"{missing[0]}; add them (an empty split leaves an image out)"
        )
    rows = {
        name: np.array([row for row in range(len(dataset)) if split_of[row] == name], np.int64)
        for name in SPLITS
    }
    for name in SPLITS:
        if not len(rows[name]):
            raise FercoreError(f"{path}: no line has the split '{name}'; give it some images")
    parts = Parts(**rows, notes=(f"The split of {path}.",))
    return replace(parts, notes=(*parts.notes, *audit(dataset, parts)))


def entries(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and cells, by column, of the rows that are not blank.

    Raises FercoreError when the file cannot be read, lacks a column or has a row of another length.
    """
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the header.
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise FercoreError(
            f"{path}: is missing; write it, or take it from the splits folder of a run"
        ) from None
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        if absent := [name for name in REQUIRED if name not in header]:
            raise FercoreError(
                f"{path}: line 1: no column {', '.join(absent)}; the header must be "
                f"{','.join(COLUMNS)}, with commas"
            )
        reader.fieldnames = header
        for entry in reader:
            if None in entry or None in entry.values():
                raise FercoreError(
                    f"{path}: line {reader.line_num}: not {len(header)} cells, as the header has; "
                    "quote names that hold commas"
                )
            yield reader.line_num, entry
    except csv.Error as error:
        raise FercoreError(
            f"{path}: line {reader.reader.line_num}: is not valid csv ({error}); mend its quotes"
        ) from error


def _check(where: str, file: str, entry: dict[str, str], dataset: Dataset, row: int) -> None:
    """Hold a manifest's row against the dataset's."""
    known = CLASSES[: dataset.classes]
    label = known[dataset.labels[row]]
    if entry["split"] not in (*SPLITS, ""):
        raise FercoreError(
            f"{where}: {file} has the unknown split {entry['split']!r}; write {', '.join(SPLITS)}, "
            "or nothing to leave it out"
        )
    if entry["label"] not in known:
        raise FercoreError(
            f"{where}: {file} has the unknown label {entry['label']!r}; write one of "
            f"{', '.join(known)}"
        )
    if entry["label"] != label:
        raise FercoreError(
            f"{where}: {file} is labelled '{entry['label']}' here but '{label}' in the dataset; "
            "correct the one that is wrong"
        )
    if entry["sha256"].lower() != dataset.sha256[row]:
        raise FercoreError(
            f"{where}: {file} has other pixels than the manifest's (sha256 differs); restore the "
            "original image, or write the manifest anew"
        )
