"""fercore.data.folds: every image is tested once, and a fold is all there or not at all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fercore.data import folds, manifest
from fercore.data.splits import split
from fercore.errors import FercoreError
from tests.data.values import make_jaffe


@pytest.mark.parametrize(("number", "count"), [("5", 5), (folds.SUBJECTS, 10)])
def test_folds_are_written_and_read_back(number: str, count: int, tmp_path: Path) -> None:
    dataset = make_jaffe()
    splits = folds.folds(dataset, number)
    paths = folds.write(tmp_path, dataset, splits)
    assert [path.parent.name for path in paths] == [f"fold-{i}" for i in range(1, count + 1)]
    tested = Counter()
    for path, parts in zip(paths, splits, strict=True):
        again = manifest.read(path, dataset)
        assert {name: rows.tolist() for name, rows in again.rows().items()} == {
            name: rows.tolist() for name, rows in parts.rows().items()
        }
        assert split(dataset, path.parent).test.tolist() == parts.test.tolist()
        tested.update(parts.test.tolist())
    assert tested == Counter(range(len(dataset)))
    text = folds.describe(dataset, splits)
    assert text.startswith(f"jaffe: {count} folds of 213 images\nfold-1: train ")


def test_folds_of_the_same_set_are_not_mixed(tmp_path: Path) -> None:
    dataset = make_jaffe()
    folds.write(tmp_path, dataset, folds.folds(dataset, 5))
    with pytest.raises(FercoreError, match=r"fold-1/jaffe\.csv: is there already; delete it"):
        folds.write(tmp_path, dataset, folds.folds(dataset, 3))
    assert len(list(tmp_path.glob("fold-*/jaffe.csv"))) == 5


def test_all_folds_are_written_or_none(tmp_path: Path) -> None:
    dataset = make_jaffe()
    (tmp_path / "fold-3").touch()  # where a folder must be
    with pytest.raises(FercoreError, match=r"fold-3/jaffe\.csv: cannot be written"):
        folds.write(tmp_path, dataset, folds.folds(dataset, 5))
    assert not list(tmp_path.glob("fold-*/*"))


def test_more_folds_than_people(tmp_path: Path) -> None:
    with pytest.raises(FercoreError, match="11 folds; choose from 3 to 10, the number of its subj"):
        folds.folds(make_jaffe(), 11)
