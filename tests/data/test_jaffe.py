"""fercore.data.jaffe: names, folders, doubled suffixes, framing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fercore.data.images import WHOLE
from tests.data.trees import pixels, read, read_in_every_form, write_images

NAMES = {
    "KA.AN1.39.tiff": ("KA", 0),
    "KA.DI2.43.tiff": ("KA", 1),
    "KL.FE3.176.tiff": ("KL", 2),
    "KL.HA1.158.tiff": ("KL", 3),
    "NM.SA2.93.tiff": ("NM", 4),
    "NM.SU3.103.tiff": ("NM", 5),
    "YM.NE1.49.tiff": ("YM", 6),
}


def test_names_give_subject_and_label(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "up" / "jaffe", *NAMES, size=(256, 256))
    (folder / "README_FIRST.txt").write_text("# HAP SAD SUR ANG DIS FEA PIC")
    dataset = read_in_every_form("jaffe", folder)
    found = zip(dataset.files, dataset.subjects, dataset.labels, strict=True)
    assert {file: (subject, label) for file, subject, label in found} == NAMES
    assert dataset.skipped == ()
    assert set(dataset.groups) == set(dataset.splits) == {""}
    assert "7 of JAFFE's 213 images are here." in dataset.notes


def test_other_suffixes_cases_and_class_folders(tmp_path: Path) -> None:
    names = ("a/KA.AN1.39.tiff.png", "HAPPY/ka.ha1.29.jpg", "KR.NE1.71.bmp", "KR.SU1.80.TIFF")
    dataset = read("jaffe", write_images(tmp_path, *names, size=(256, 256)))
    assert dataset.files == tuple(
        name.rsplit("/", 1)[-1] for name in ("HAPPY/ka.ha1.29.jpg", *names[2:], names[0])
    )
    assert dataset.subjects == ("KA", "KR", "KR", "KA")


def test_the_same_image_in_two_formats_counts_once(tmp_path: Path) -> None:
    names = ("KA.AN1.39.tiff", "png/KA.AN1.39.tiff.png", "KA.HA1.29.tiff")
    dataset = read("jaffe", write_images(tmp_path, *names, size=(256, 256)))
    assert dataset.files == ("KA.AN1.39.tiff", "KA.HA1.29.tiff")
    assert "1 image left out: second copies, by their names." in dataset.notes


def test_other_images_are_listed(tmp_path: Path) -> None:
    names = ("KA.AN1.39.tiff", "KA.HA1.29.tiff", "KA.XX1.29.tiff", "poster.png")
    dataset = read("jaffe", write_images(tmp_path, *names, size=(256, 256)))
    assert [entry.file for entry in dataset.skipped] == ["KA.XX1.29.tiff", "poster.png"]


@pytest.mark.parametrize("scale", [1, 2])
def test_faces_are_framed_like_fer2013s(scale: int, tmp_path: Path) -> None:
    """A square around the part x 48..208, y 68..228 of 256 fills the result."""
    image = np.zeros((256, 256), np.uint8)
    image[68:228, 48:208] = 200
    image = image.repeat(scale, 0).repeat(scale, 1)
    for name in ("KA.AN1.39.tiff", "KA.HA1.29.tiff"):
        Image.fromarray(image).save(tmp_path / name)
    dataset = read("jaffe", tmp_path)
    assert (dataset.images == 200).all()
    assert any("0.1875 to 0.8125, y 0.265625 to 0.890625" in note for note in dataset.notes)
    assert (read("jaffe", tmp_path, WHOLE).images[:, 0] == 0).all()


def test_the_crop_can_be_taken_off(tmp_path: Path) -> None:
    write_images(tmp_path, "KA.AN1.39.png", "KA.HA1.29.png")
    dataset = read("jaffe", tmp_path, WHOLE)
    np.testing.assert_array_equal(dataset.images[0], pixels(0))
    assert not any("cropped" in note for note in dataset.notes)
