"""fercore.data.ckplus: CK+48, the full set, and the csv file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fercore.errors import FercoreError
from tests.data.test_pixel_csv import row, write
from tests.data.trees import read, read_in_every_form, real, write_images

CK48 = {
    "anger/S010_004_00000017.png": 0,
    "anger/S010_004_00000018.png": 0,
    "disgust/S005_001_00000011.png": 1,
    "fear/S011_003_00000014.png": 2,
    "happy/S010_006_00000015.png": 3,
    "sadness/S011_002_00000022.png": 4,
    "surprise/S010_002_00000014.png": 5,
}


def test_ck48(tmp_path: Path) -> None:
    folder = tmp_path / "up" / "CK+48"
    write_images(folder, *CK48, "contempt/S138_008_00000007.png")
    dataset = read_in_every_form("ckplus", folder)
    assert dict(zip(dataset.files, dataset.labels, strict=True)) == CK48
    assert dataset.subjects[0] == "S010"
    assert dataset.groups[:3] == ("S010_004", "S010_004", "S005_001")
    assert dataset.notes == (
        "1 image of 'contempt' left out: not one of the 7 classes.",
        "No image of neutral.",
    )


def test_contempt_of_ck48_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "up" / "CK+48"
    write_images(folder, *CK48, "contempt/S138_008_00000007.png")
    dataset = read_in_every_form("ckplus", folder, contempt=True)
    found = dict(zip(dataset.files, dataset.labels, strict=True))
    assert found == {**CK48, "contempt/S138_008_00000007.png": 7}
    assert dataset.groups[dataset.labels.tolist().index(7)] == "S138_008"
    assert dataset.classes == 8
    assert dataset.notes == ("No image of neutral.",)


def test_strange_images_are_listed(tmp_path: Path) -> None:
    write_images(tmp_path, *CK48, "anger/cover.png")
    assert [entry.file for entry in read("ckplus", tmp_path).skipped] == ["anger/cover.png"]


def write_sequence(root: Path, key: str, frames: int, emotion: str | None) -> None:
    subject, sequence = key.split("_")
    names = [
        f"cohn-kanade-images/{subject}/{sequence}/{key}_{frame:08d}.png"
        for frame in range(1, frames + 1)
    ]
    write_images(root, *names)
    if emotion is not None:
        path = root / "Emotion" / subject / sequence / f"{key}_{frames:08d}_emotion.txt"
        path.parent.mkdir(parents=True)
        path.write_text(emotion)


def test_the_full_set(tmp_path: Path) -> None:
    folder = tmp_path / "up" / "ck"
    write_sequence(folder, "S005_001", 11, "   3.0000000e+00\n")
    write_sequence(folder, "S010_002", 2, "   7.0000000e+00\n")  # fewer than three frames
    write_sequence(folder, "S010_003", 5, None)
    write_sequence(folder, "S011_001", 5, "   2.0000000e+00\n")
    write_sequence(folder, "S011_002", 5, "   1.5\n")
    write_sequence(folder, "S011_003", 5, "")
    write_sequence(folder, "S011_004", 5, "nan")
    dataset = read_in_every_form("ckplus", folder)
    assert dataset.files == (
        *(f"S005/001/S005_001_{frame:08d}.png" for frame in (9, 10, 11)),
        *(f"S010/002/S010_002_{frame:08d}.png" for frame in (1, 2)),
    )
    assert dataset.labels.tolist() == [1, 1, 1, 5, 5]
    assert dataset.subjects == ("S005",) * 3 + ("S010",) * 2
    assert dataset.groups == ("S005_001",) * 3 + ("S010_002",) * 2
    assert [entry.file for entry in dataset.skipped] == [
        f"Emotion/S011/00{n}/S011_00{n}_00000005_emotion.txt" for n in (2, 3, 4)
    ]
    assert dataset.notes[0] == "3 images of 'contempt' left out: not one of the 7 classes."
    assert "4 of 7 sequences have no label and are left out." in dataset.notes


def test_contempt_of_the_full_set_on_request(tmp_path: Path) -> None:
    write_sequence(tmp_path, "S005_001", 3, "3.0")
    write_sequence(tmp_path, "S011_001", 5, "2.0")
    dataset = read("ckplus", tmp_path, contempt=True)
    assert dataset.labels.tolist() == [1, 1, 1, 7, 7, 7]
    assert dataset.files[3] == "S011/001/S011_001_00000003.png"
    assert not any("contempt" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("number", "label"), [(0, 6), (1, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 5)]
)
def test_emotion_numbers(number: int, label: int, tmp_path: Path) -> None:
    write_sequence(tmp_path, "S001_001", 3, f"{number}.0")
    write_sequence(tmp_path, "S001_002", 3, "5.0" if number != 5 else "6.0")
    assert read("ckplus", tmp_path).labels[0] == label


def test_without_label_files(tmp_path: Path) -> None:
    write_sequence(tmp_path, "S005_001", 3, None)
    with pytest.raises(FercoreError, match=r"unpack Emotion_labels\.zip"):
        read("ckplus", tmp_path)


def test_the_csv(tmp_path: Path) -> None:
    rows = [*map(row, range(7)), row(0).replace("0,", "7,", 1)]
    dataset = read("ckplus", write(tmp_path / "ckextended.csv", *rows))
    assert dataset.labels.tolist() == list(range(7))
    assert dataset.skipped == ()
    assert "1 image of 'contempt' left out: not one of the 7 classes." in dataset.notes
    dataset = read("ckplus", tmp_path, contempt=True)
    assert dataset.labels.tolist() == list(range(8))
    assert not any("contempt" in note for note in dataset.notes)


def test_the_real_ck48() -> None:
    dataset = read("ckplus", real("ck48.zip"))
    assert np.bincount(dataset.labels, minlength=7).tolist() == [135, 177, 75, 207, 84, 249, 0]
    assert "54 images of 'contempt' left out: not one of the 7 classes." in dataset.notes
    assert dataset.skipped == ()
    whole = read("ckplus", real("ck48.zip"), contempt=True)
    assert np.bincount(whole.labels).tolist() == [135, 177, 75, 207, 84, 249, 0, 54]
    basic = whole.select(np.flatnonzero(whole.labels < 7))
    assert basic.files == dataset.files
    np.testing.assert_array_equal(basic.images, dataset.images)
    sequences = dict(zip(dataset.groups, dataset.subjects, strict=True))
    assert len(sequences) == 309
    assert all(group.startswith(subject + "_") for group, subject in sequences.items())
