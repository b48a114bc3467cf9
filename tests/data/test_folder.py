"""fercore.data.folder: class folders of any name and depth."""

from __future__ import annotations

from pathlib import Path

import pytest

from fercore.errors import FercoreError
from tests.data.trees import read, read_in_every_form, write_images


def test_any_word_for_a_class(tmp_path: Path) -> None:
    words = ("0_Anger", "Disgusted", "fearful", "JOY", "sadness", "surprised", "normal")
    folder = write_images(tmp_path / "up" / "faces", *(f"{word}/1.png" for word in words))
    dataset = read_in_every_form("folder", folder)
    found = zip(dataset.files, dataset.labels, strict=True)
    assert dict(found) == {f"{word}/1.png": label for label, word in enumerate(words)}
    assert set(dataset.splits) == set(dataset.subjects) == {""}
    assert any("the option 'subject' names them" in note for note in dataset.notes)


def test_splits_before_and_after_the_class(tmp_path: Path) -> None:
    before = write_images(
        tmp_path / "up" / "faces",
        *("train/happy/1.png", "train/sad/1.png", "Valid/sad/2.png", "testing/sad/3.png"),
    )
    dataset = read_in_every_form("folder", before)
    assert dict(zip(dataset.files, dataset.splits, strict=True)) == {
        "train/happy/1.png": "train",
        "train/sad/1.png": "train",
        "Valid/sad/2.png": "validation",
        "testing/sad/3.png": "test",
    }
    after = write_images(tmp_path / "after", "happy/train/1.png", "sad/train/a/1.png", "sad/2.png")
    assert sorted(read("folder", after).splits) == ["", "train", "train"]


def test_the_deepest_class_decides(tmp_path: Path) -> None:
    write_images(tmp_path / "happy", "sad/1.png", "angry/2.png")
    assert read("folder", tmp_path).labels.tolist() == [0, 4]


def test_a_pattern_names_the_subject(tmp_path: Path) -> None:
    folder = write_images(
        tmp_path / "faces",
        *("anna/happy/1.png", "anna/sad/1.png", "bert/sad/1.png", "bert/sad/x_1.png"),
    )
    for pattern in (r"^(\w+)/", r"^(?P<subject>\w+)/(?P<class>\w+)", r"anna|bert"):
        dataset = read("folder", folder, subject=pattern)
        assert dataset.subjects == ("anna", "anna", "bert", "bert")
    dataset = read("folder", folder, subject=r"(\w+)/\w+/\d")
    assert dataset.subjects == ("anna", "anna", "bert")
    assert [entry.file for entry in dataset.skipped] == ["bert/sad/x_1.png"]
    assert not any("every image" in note for note in dataset.notes)
    dataset = read("folder", folder, subject=r".*/.*\d")  # a group was forgotten
    assert "The pattern of 'subject' names a different person for every image." in dataset.notes
    with pytest.raises(FercoreError, match="is not a regular expression"):
        read("folder", folder, subject="(")
    with pytest.raises(FercoreError, match="the subject's pattern does not match"):
        read("folder", folder, subject="carl")


def test_other_folders_and_files_are_told(tmp_path: Path) -> None:
    write_images(tmp_path, "happy/1.png", "sad/2.png", "misc/1.png", "logo.png", "contempt/1.png")
    (tmp_path / "sad" / "notes.txt").touch()
    (tmp_path / "sad" / "Thumbs.db").touch()
    (tmp_path / "readme.txt").touch()
    dataset = read("folder", tmp_path)
    assert dataset.files == ("happy/1.png", "sad/2.png")
    assert [(e.file, e.reason) for e in dataset.skipped] == [
        ("sad/notes.txt", "not an image file, by its suffix")
    ]
    assert dataset.notes[:3] == (
        "1 image of '.' left out: not one of the 7 classes.",
        "1 image of 'contempt' left out: not one of the 7 classes.",
        "1 image of 'misc' left out: not one of the 7 classes.",
    )


def test_contempt_on_request(tmp_path: Path) -> None:
    write_images(tmp_path, "happy/1.png", "misc/1.png", "test/7_Contempt/1.png")
    dataset = read("folder", tmp_path, contempt=True)
    assert dataset.files == ("happy/1.png", "test/7_Contempt/1.png")
    assert dataset.labels.tolist() == [3, 7]
    assert dataset.splits == ("", "test")
    assert dataset.notes[0] == "1 image of 'misc' left out: not one of the 8 classes."
    assert dataset.notes[-1] == "No image of angry, disgust, fear, sad, surprise, neutral."
    with pytest.raises(FercoreError, match="every image is 'happy'"):
        read("folder", tmp_path)


def test_equal_names_in_different_folders_are_different_images(tmp_path: Path) -> None:
    write_images(tmp_path, "happy/a/1.png", "happy/b/1.png", "sad/a/1.png", "sad/a/1.jpg")
    assert len(read("folder", tmp_path)) == 4
