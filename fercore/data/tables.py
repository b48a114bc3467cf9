"""Csv files whose rows tell about images that lie elsewhere: labels, boxes, votes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from fercore.data.tree import READ_FAULTS, Tree
from fercore.errors import FercoreError


def is_csv(name: str) -> bool:
    """Whether a file's name ends like a csv file's."""
    return name.lower().endswith(".csv")


def place(tree: Tree, name: str) -> str:
    """A file's path for messages; in a zip file, the path that it would have in a folder."""
    return str(tree.path) if tree.path.name == name else f"{tree.path}/{name}"


def read_header(tree: Tree, name: str) -> dict[str, int]:
    """The columns of a csv file: name, without spaces and quotes and in lower case, to position."""
    try:
        with tree.open(name) as file:
            line = file.readline(10_000).removeprefix(b"\xef\xbb\xbf")
    except READ_FAULTS as error:
        raise FercoreError(f"{place(tree, name)}: cannot be read ({error})") from error
    words = line.decode(errors="replace").split(",")
    return {word.strip(' "\r\n\t').lower(): position for position, word in enumerate(words)}


def read_rows(
    tree: Tree, name: str, columns: Sequence[str], header: Sequence[str] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Line number, and the cells of these columns in this order, of every row that is not blank.

    A cell that a short row lacks is "". Columns are named as ``read_header`` gives them; ``header``
    names those of a file whose first line is a row already.
    Raises FercoreError when a column is absent, or the file is no csv or breaks off.
    """
    known = read_header(tree, name) if header is None else {c: i for i, c in enumerate(header)}
    if absent := [column for column in columns if column not in known]:
        raise FercoreError(
            f"{place(tree, name)}: no column {', '.join(map(repr, absent))}; give the original file"
        )
    positions = [known[column] for column in columns]
    longest = max(positions) + 1
    line = 0
    try:
        with tree.open(name) as file:
            reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""))
            for row in reader:
                line = reader.line_num
                if any(row) and (line > 1 or header):
                    row += [""] * (longest - len(row))
                    yield line, [row[position].strip() for position in positions]
    except (*READ_FAULTS, csv.Error) as error:
        raise FercoreError(
            f"{place(tree, name)}: line {line + 1}: cannot be read ({error}); give the original "
            "file"
        ) from error
