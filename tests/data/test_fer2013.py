"""fercore.data.fer2013: the csv files and the two folder variants."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data.test_pixel_csv import row, write
from tests.data.trees import read, read_in_every_form, real, write_images

FACES = (
    *("train/angry/Training_10.jpg", "train/angry/Training_9.jpg", "train/neutral/Training_3.jpg"),
    *("test/angry/PublicTest_7.jpg", "test/happy/PrivateTest_8.jpg", "test/happy/PublicTest_5.jpg"),
)


def test_the_prefix_is_the_split_and_the_folder_the_label(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "up" / "fer2013", *FACES)
    dataset = read_in_every_form("fer2013", folder)
    found = dict(zip(dataset.files, zip(dataset.splits, dataset.labels, strict=True), strict=True))
    assert found == {
        "train/angry/Training_9.jpg": ("train", 0),
        "train/angry/Training_10.jpg": ("train", 0),
        "train/neutral/Training_3.jpg": ("train", 6),
        "test/angry/PublicTest_7.jpg": ("validation", 0),
        "test/happy/PublicTest_5.jpg": ("validation", 3),
        "test/happy/PrivateTest_8.jpg": ("test", 3),
    }
    assert [file for file in dataset.files if "train/angry" in file] == [
        "train/angry/Training_9.jpg",
        "train/angry/Training_10.jpg",
    ]
    assert "6 of FER2013's 35,887 images are here." in dataset.notes


def test_without_prefixes_the_folder_is_the_split(tmp_path: Path) -> None:
    names = ("train/angry/0.jpg", "train/sad/2.jpg", "validation/happy/1.jpg")
    folder = write_images(tmp_path / "up" / "images", *names)
    dataset = read_in_every_form("fer2013", folder)
    assert dataset.files == names
    assert dataset.splits == ("train", "train", "validation")
    assert any("do not compare with published ones" in note for note in dataset.notes)
    assert "No image in test." in dataset.notes


def test_a_second_copy_in_the_tree_is_left_out(tmp_path: Path) -> None:
    names = ("train/angry/0.jpg", "validation/happy/1.jpg")
    write_images(tmp_path / "images", *names)
    write_images(tmp_path / "images" / "images", *names)
    dataset = read("fer2013", tmp_path)
    assert dataset.files == names
    assert "2 images left out: second copies, by their names." in dataset.notes


def test_strange_files_and_classes_are_told(tmp_path: Path) -> None:
    write_images(tmp_path, *FACES, "train/contempt/Training_1.jpg", "logo.png")
    dataset = read("fer2013", tmp_path)
    assert len(dataset) == len(FACES)
    assert [entry.file for entry in dataset.skipped] == ["logo.png"]
    assert "1 image of 'contempt' left out: not one of the 7 classes." in dataset.notes


def test_contempt_on_request(tmp_path: Path) -> None:
    write_images(tmp_path, *FACES, "train/contempt/Training_1.jpg")
    dataset = read("fer2013", tmp_path, contempt=True)
    assert dataset.labels[dataset.files.index("train/contempt/Training_1.jpg")] == 7
    assert len(dataset) == len(FACES) + 1


def test_no_row_of_the_csv_is_contempt(tmp_path: Path) -> None:
    rows = [*map(row, range(70)), row(0).replace("0,", "7,", 1)]
    dataset = read("fer2013", write(tmp_path / "fer2013.csv", *rows), contempt=True)
    assert [entry.reason for entry in dataset.skipped] == ["label '7' is not one of 0 to 6"]
    assert dataset.classes == 8
    assert "No image of contempt." in dataset.notes


def test_a_csv_is_read_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "up" / "fer2013").mkdir(parents=True)
    write(tmp_path / "up" / "fer2013" / "fer2013.csv", *map(row, range(14)))
    dataset = read_in_every_form("fer2013", tmp_path / "up" / "fer2013")
    assert len(dataset) == 14


def test_the_best_csv_of_several_is_read(tmp_path: Path) -> None:
    rows = list(map(row, range(7)))
    write(tmp_path / "example_submission.csv", "1,2", header="a,b")
    write(tmp_path / "fer2013new.csv", "Training,x,1", header="Usage,Image name,neutral")
    write(tmp_path / "icml_face_data.csv", *rows)
    write(tmp_path / "test.csv", *[line.split(",")[1] for line in rows], header="pixels")
    write(tmp_path / "a-train.csv", *[line[:-9] for line in rows], header="emotion,pixels")
    dataset = read("fer2013", tmp_path)
    assert dataset.files[0] == "icml_face_data.csv:2"
    assert dataset.notes[:2] == (
        "a-train.csv left out: icml_face_data.csv is read.",
        "test.csv left out: icml_face_data.csv is read.",
    )


def test_the_real_csv_head() -> None:
    dataset = read("fer2013", real("fer2013-csv-head.zip"))
    assert len(dataset) == 1167
    assert dataset.skipped == ()
    assert set(dataset.splits) == {"train"}
    assert dataset.images[0, 0, :10].tolist() == [70, 80, 82, 72, 58, 58, 60, 63, 54, 58]
    assert dataset.images[-1, -1, -1] == 159


def test_the_real_images() -> None:
    dataset = read("fer2013", real("fer2013-dev.zip"))
    assert dataset.skipped == ()
    assert Counter(dataset.splits) == {"train": 28_709, "validation": 3_589}
    train = np.array(dataset.splits) == "train"
    assert np.bincount(dataset.labels[train]).tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert np.bincount(dataset.labels[~train]).tolist() == [467, 56, 496, 895, 653, 415, 607]
    assert len(set(dataset.files)) == len(dataset)
    assert len(set(dataset.sha256)) == pytest.approx(30_766, abs=5)
