"""fercore.data.rafdb: the list and its spelling, splits, compound labels, numbered folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fercore.data.splits import split
from fercore.errors import FercoreError
from tests.data.trees import read, read_in_every_form, write_images

LIST = "EmoLabel/list_patition_label.txt"
NUMBERS = {1: 5, 2: 2, 3: 1, 4: 3, 5: 4, 6: 0, 7: 6}  # RAF-DB's number -> label


def write(root: Path, lines: list[str], *, images: bool = True, list_name: str = LIST) -> Path:
    path = root / list_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    if images:
        stems = [line.split(".")[0] for line in lines]
        write_images(root, *(f"Image/aligned/{stem}_aligned.jpg" for stem in stems))
    return root


def lines() -> list[str]:
    train = [f"train_{n:05}.jpg {n}" for n in NUMBERS]
    return train + [f"test_{n:04}.jpg {n}" for n in NUMBERS]


def test_the_list_gives_labels_and_names_give_splits(tmp_path: Path) -> None:
    dataset = read_in_every_form("rafdb", write(tmp_path / "up" / "basic", lines()))
    found = dict(zip(dataset.files, zip(dataset.labels, dataset.splits, strict=True), strict=True))
    assert found == {
        f"{part}_{n:0{digits}}_aligned.jpg": (label, part)
        for part, digits in (("train", 5), ("test", 4))
        for n, label in NUMBERS.items()
    }
    assert dataset.skipped == dataset.notes == ()


def test_validation_is_drawn_from_train(tmp_path: Path) -> None:
    many = [f"train_{n:05}.jpg {1 + n % 2}" for n in range(30)]
    many += [f"test_{n:04}.jpg {1 + n % 2}" for n in range(10)]
    dataset = read("rafdb", write(tmp_path, many))
    parts = split(dataset)
    assert {dataset.splits[row] for row in parts.test} == {"test"}
    assert {dataset.splits[row] for row in parts.validation} == {"train"}
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (26, 4, 10)
    assert "The official split has no validation part" in parts.notes[0]


def test_bad_lines_missing_images_and_unlisted_ones(tmp_path: Path) -> None:
    write(tmp_path, lines())
    text = (tmp_path / LIST).read_text()
    (tmp_path / LIST).write_text(
        text + "\ntrain_00099.jpg 3\ntrain_1.jpg 0\ntrain_2.jpg\nhello 3\ntrain_3.jpg 12\n"
    )
    write_images(
        tmp_path, "Image/aligned/train_00077_aligned.jpg", "Image/original/train_00001.jpg"
    )
    dataset = read("rafdb", tmp_path)
    assert len(dataset) == 14
    reason = "not an image's name and a number from 1 to 7"
    assert {entry.file: entry.reason for entry in dataset.skipped} == {
        "list_patition_label.txt:16": "its image is not here",
        **{f"list_patition_label.txt:{line}": reason for line in (17, 18, 19, 20)},
        "Image/aligned/train_00077_aligned.jpg": "the list has no label for it",
    }
    assert dataset.notes == ("Images not named ..._aligned, left out: 1.",)


def test_the_list_may_be_spelt_right_and_lie_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, lines(), list_name="labels/list_partition_label.txt")
    assert len(read("rafdb", tmp_path)) == 14


def test_compound_expressions_are_left_out_beside_the_basic_ones(tmp_path: Path) -> None:
    write(tmp_path / "basic", lines())
    compound = ["train_00001.jpg 1", "train_00002.jpg 8", "test_0001.jpg 11"]
    write(tmp_path / "compound", compound)
    dataset = read("rafdb", tmp_path)
    assert len(dataset) == 14
    assert dataset.skipped == ()
    alone = read("rafdb", tmp_path / "basic")
    np.testing.assert_array_equal(dataset.images, alone.images)
    assert dataset.notes[0] == f"compound/{LIST} left out: compound expressions."
    with pytest.raises(FercoreError, match=r"label\.txt: its expressions are compound, .*; give"):
        read("rafdb", tmp_path / "compound")


def test_images_that_are_still_packed(tmp_path: Path) -> None:
    write(tmp_path, lines(), images=False)
    (tmp_path / "Image").mkdir()
    (tmp_path / "Image" / "aligned.zip").write_bytes(b"PK")
    with pytest.raises(FercoreError, match=r"label\.txt: .*not here; unpack Image/aligned\.zip"):
        read("rafdb", tmp_path)


def test_copies_in_numbered_folders(tmp_path: Path) -> None:
    names = [f"{part}/{n}/{part}_{n:05}_aligned.jpg" for part in ("train", "test") for n in NUMBERS]
    folder = write_images(tmp_path / "up" / "DATASET", *names)
    (folder / "train_labels.csv").write_text("image,label\ntrain_00001_aligned.jpg,1\n")
    dataset = read_in_every_form("rafdb", folder)
    assert dict(zip(dataset.files, dataset.labels, strict=True)) == {
        f"{part}_{n:05}_aligned.jpg": label
        for part in ("train", "test")
        for n, label in NUMBERS.items()
    }
    assert dataset.splits.count("train") == dataset.splits.count("test") == 7


def test_images_without_any_label(tmp_path: Path) -> None:
    write_images(tmp_path, "train_00001_aligned.jpg", "9/train_00002_aligned.jpg")
    with pytest.raises(FercoreError, match="neither a list nor a folder from 1 to 7"):
        read("rafdb", tmp_path)
