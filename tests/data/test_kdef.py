"""fercore.data.kdef: names, sessions, angles, framing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fercore.data.images import WHOLE
from fercore.errors import FercoreError
from tests.data.trees import read, read_in_every_form, write_images

STRAIGHT = {
    "AF01AFS.JPG": ("F01", "AF01AF", 2),
    "AF01ANS.JPG": ("F01", "AF01AN", 0),
    "AM35DIS.JPG": ("M35", "AM35DI", 1),
    "AM35HAS.JPG": ("M35", "AM35HA", 3),
    "BF01NES.JPG": ("F01", "BF01NE", 6),
    "BF02SAS.JPG": ("F02", "BF02SA", 4),
    "BM02SUS.JPG": ("M02", "BM02SU", 5),
}


def test_names_give_subject_label_and_pose(tmp_path: Path) -> None:
    names = [f"{name[:4]}/{name}" for name in STRAIGHT]
    folder = write_images(tmp_path / "up" / "KDEF", *names)
    dataset = read_in_every_form("kdef", folder)
    columns = (dataset.files, dataset.subjects, dataset.groups, dataset.labels)
    assert {file: rest for file, *rest in zip(*columns, strict=True)} == {
        file: list(rest) for file, rest in STRAIGHT.items()
    }
    assert dataset.skipped == ()
    assert set(dataset.splits) == {""}


def test_other_angles_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    names = [f"AF01{code}{angle}.JPG" for code in ("AN", "HA") for angle in ("S", "HL", "FR")]
    write_images(tmp_path, *names)
    straight = read("kdef", tmp_path)
    assert straight.files == ("AF01ANS.JPG", "AF01HAS.JPG")
    assert straight.notes[0] == "2 of 6 images taken: those of angle S."
    assert straight.skipped == ()
    turned = read("kdef", tmp_path, angles=["S", "HL"])
    assert set(turned.files) == {
        f"AF01{code}{angle}.JPG" for code in ("AN", "HA") for angle in ("S", "HL")
    }
    assert set(turned.groups) == {"AF01AN", "AF01HA"}  # the angles of a pose stay together


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        (["HLL"], r"angles cannot hold 'HLL'; did you mean 'HL'"),
        (["front"], r"angles cannot hold 'front'; choose from S, HL, HR, FL, FR"),
        ([], "angles is empty; name at least one"),
    ],
)
def test_wrong_angles(angles: list[str], message: str, tmp_path: Path) -> None:
    write_images(tmp_path, "AF01ANS.JPG", "AF01HAS.JPG")
    with pytest.raises(FercoreError, match=message):
        read("kdef", tmp_path, angles=angles)


def test_other_suffixes_and_cases(tmp_path: Path) -> None:
    dataset = read("kdef", write_images(tmp_path, "af01ans.jpg", "AF01HAS.jpeg", "BM02SUS.png"))
    found = dict(zip(dataset.files, dataset.subjects, strict=True))
    assert found == {"af01ans.jpg": "F01", "AF01HAS.jpeg": "F01", "BM02SUS.png": "M02"}


def test_strange_names_are_listed(tmp_path: Path) -> None:
    names = ("AM31H.JPG", "AKDEF_AN.jpg", "CF01ANS.JPG", "XAF01ANS.JPG", "AF01ANS_copy.JPG")
    dataset = read("kdef", write_images(tmp_path, *STRAIGHT, *names))
    assert {entry.file for entry in dataset.skipped} == set(names)
    assert len(dataset) == len(STRAIGHT)


def test_the_crop_is_a_square_of_the_original(tmp_path: Path) -> None:
    """Pixels x 81..481, y 190..590 of 562x762, give or take one."""
    inside = np.zeros((762, 562), np.uint8)
    inside[189:591, 80:482] = 200
    outside = np.full((762, 562), 200, np.uint8)
    outside[191:589, 82:480] = 0
    Image.fromarray(inside).save(tmp_path / "AF01ANS.png")
    Image.fromarray(outside).save(tmp_path / "AF01HAS.png")
    dataset = read("kdef", tmp_path)
    within, without = dataset.images
    assert (within == 200).all()
    assert (without[1:-1, 1:-1] == 0).all()
    for edge in (without[0], without[-1], without[:, 0], without[:, -1]):
        assert edge.max() > 0
    assert any("estimate of ours" in note for note in dataset.notes)
    assert not any("estimate of ours" in note for note in read("kdef", tmp_path, WHOLE).notes)
