"""fercore.data.tables: columns by name, line numbers, broken files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fercore.data.tables import read_header, read_rows
from fercore.data.tree import open_tree
from fercore.errors import FercoreError


def rows(
    path: Path, *columns: str, header: tuple[str, ...] | None = None
) -> list[tuple[int, list[str]]]:
    with open_tree(path) as tree:
        return list(read_rows(tree, path.name, columns, header))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


def test_columns_come_in_the_order_asked_for(path: Path) -> None:
    path.write_bytes(b'\xef\xbb\xbf A ,"b",C\r\n1, 2 ,"3,4"\r\n\r\n5\r\n')
    with open_tree(path) as tree:
        assert read_header(tree, "t.csv") == {"a": 0, "b": 1, "c": 2}
    assert rows(path, "c", "a") == [(2, ["3,4", "1"]), (4, ["", "5"])]


def test_a_file_whose_first_line_is_a_row(path: Path) -> None:
    path.write_text("1,2\n3,4\n")
    assert rows(path, "y", header=("x", "y")) == [(1, ["2"]), (2, ["4"])]


def test_an_absent_column(path: Path) -> None:
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FercoreError, match=r"t\.csv: no column 'z'; give the original file"):
        rows(path, "a", "z")


def test_a_file_that_is_no_csv(path: Path) -> None:
    path.write_bytes(b"a,b\n1,2\n" + b"x" * 200_000 + b"\n")
    with pytest.raises(FercoreError, match=r"t\.csv: line 3: cannot be read \(field larger"):
        rows(path, "a")


def test_letters_of_another_encoding(path: Path) -> None:
    path.write_bytes(b"a\nM\xfcller\n")
    assert rows(path, "a") == [(2, ["M\N{REPLACEMENT CHARACTER}ller"])]
