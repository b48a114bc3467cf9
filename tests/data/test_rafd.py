"""fercore.data.rafd: names, contempt, cameras, gazes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fercore.errors import FercoreError
from tests.data.trees import read, read_in_every_form, write_images

FACES = {
    "Rafd090_28_Caucasian_male_angry_frontal.jpg": ("28", 0),
    "Rafd090_28_Caucasian_male_angry_left.jpg": ("28", 0),
    "Rafd090_01_Caucasian_female_disgusted_right.jpg": ("01", 1),
    "Rafd090_01_Caucasian_female_fearful_frontal.jpg": ("01", 2),
    "Rafd090_40_Kid_female_happy_frontal.jpg": ("40", 3),
    "Rafd090_40_Kid_female_sad_frontal.jpg": ("40", 4),
    "Rafd090_73_Moroccan_male_surprised_frontal.jpg": ("73", 5),
    "Rafd090_73_Moroccan_male_neutral_frontal.jpg": ("73", 6),
}


def test_names_give_subject_label_and_pose(tmp_path: Path) -> None:
    contempt = "Rafd090_73_Moroccan_male_contemptuous_frontal.jpg"
    folder = write_images(tmp_path / "up" / "RaFD", *FACES, contempt)
    dataset = read_in_every_form("rafd", folder)
    found = zip(dataset.files, dataset.subjects, dataset.labels, strict=True)
    assert {file: (subject, label) for file, subject, label in found} == FACES
    groups = dict(zip(dataset.files, dataset.groups, strict=True))
    assert {groups[file] for file in FACES if "angry" in file} == {"28_angry"}
    assert dataset.skipped == ()
    assert dataset.notes[:2] == (
        "9 of 9 images taken: those of camera 90, gaze frontal, left, right.",
        "1 image of 'contempt' left out: not one of the 7 classes.",
    )


def test_contempt_on_request(tmp_path: Path) -> None:
    contempt = "Rafd090_73_Moroccan_male_contemptuous_frontal.jpg"
    write_images(tmp_path, *FACES, contempt, contempt.replace("090", "045"))
    dataset = read("rafd", tmp_path, contempt=True)
    found = zip(dataset.files, dataset.subjects, dataset.labels, strict=True)
    assert {file: (of, label) for file, of, label in found} == {**FACES, contempt: ("73", 7)}
    assert dataset.groups[dataset.files.index(contempt)] == "73_contempt"
    assert not any("left out" in note for note in dataset.notes)


def test_cameras_and_gazes(tmp_path: Path) -> None:
    names = [
        f"Rafd{camera}_01_Caucasian_female_{word}_{gaze}.jpg"
        for camera in ("000", "045", "090", "135", "180")
        for word in ("happy", "sad", "contemptuous")
        for gaze in ("frontal", "left")
    ]
    write_images(tmp_path, *names)
    assert len(read("rafd", tmp_path)) == 4
    turned = read("rafd", tmp_path, cameras=[0, 45], gazes=["frontal"])
    assert {file.partition("_")[0] for file in turned.files} == {"Rafd000", "Rafd045"}
    assert len(turned) == 4
    assert set(turned.groups) == {"01_happy", "01_sad"}
    assert turned.notes[0] == "6 of 30 images taken: those of camera 0, 45, gaze frontal."
    with pytest.raises(FercoreError, match=r"gazes cannot hold 'frontl'; did you mean 'frontal'"):
        read("rafd", tmp_path, gazes=["frontl"])
    with pytest.raises(FercoreError, match="cameras and gazes must each name one"):
        read("rafd", tmp_path, cameras=[])
    with pytest.raises(FercoreError, match=r"no usable rafd image.*camera 91"):
        read("rafd", tmp_path, cameras=[91])


def test_other_cases_and_suffixes(tmp_path: Path) -> None:
    names = (
        "rafd090_01_caucasian_female_HAPPY_frontal.JPG",
        "Rafd090_01_Caucasian_female_sad_frontal.png",
    )
    dataset = read("rafd", write_images(tmp_path, *names))
    assert sorted(dataset.labels.tolist()) == [3, 4]


def test_strange_names_are_listed(tmp_path: Path) -> None:
    names = ("Rafd090_28_Caucasian_male_bored_frontal.jpg", "Rafd090_28_angry.jpg", "cover.jpg")
    dataset = read("rafd", write_images(tmp_path, *FACES, *names))
    assert {entry.file: entry.reason for entry in dataset.skipped} == {
        names[0]: "unknown expression 'bored'",
        names[1]: "not named like Rafd090_28_Caucasian_male_angry_frontal.jpg",
        names[2]: "not named like Rafd090_28_Caucasian_male_angry_frontal.jpg",
    }
