"""Finding faces and cutting them out; the real detector on a face drawn here."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from fercore import faces
from fercore.errors import FercoreError
from fercore.faces import Box
from tests.faces import draw_face


@pytest.mark.parametrize(
    ("face", "frame"),
    [
        (Box(100, 200, 200, 300), Box(98, 198, 202, 302)),
        (Box(0, 0, 50, 50), Box(-1, -1, 51, 51)),
        (Box(0, 0, 100, 50), Box(-2, -27, 102, 77)),  # always a square
    ],
)
def test_the_frame_is_a_little_larger_around_the_same_centre(face, frame):
    assert faces.framed(face, 400, 300) == frame


@pytest.mark.parametrize(
    ("face", "size", "whole"),
    [
        (Box(2, 2, 44, 44), (48, 48), True),
        (Box(0, 3, 44, 47), (48, 48), True),
        (Box(8, 8, 40, 40), (48, 48), False),  # a small face in the middle
        (Box(2, 2, 44, 44), (48, 60), False),  # a picture that goes on below
        (Box(60, 60, 1040, 1040), (1100, 1100), True),
    ],
)
def test_a_picture_that_is_a_frame_already_is_taken_whole(face, size, whole):
    assert (faces.framed(face, *size) == (0, 0, *size)) == whole


def test_a_box_of_48_pixels_is_cut_out_as_it_is(random):
    pixels = random.integers(0, 256, (100, 120)).astype(np.uint8)
    cut = faces.cut(Image.fromarray(pixels), Box(30, 20, 78, 68))
    np.testing.assert_array_equal(cut, pixels[20:68, 30:78])


def test_larger_boxes_are_averaged(random):
    pixels = random.integers(0, 256, (200, 200)).astype(np.uint8)
    cut = faces.cut(Image.fromarray(pixels), Box(40, 50, 136, 146))
    means = pixels[50:146, 40:136].reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(cut - means).max() <= 1


def test_beyond_its_edges_a_picture_is_continued(random):
    pixels = random.integers(0, 256, (60, 60)).astype(np.uint8)
    cut = faces.cut(Image.fromarray(pixels), Box(-10, 30, 38, 78))
    np.testing.assert_array_equal(cut, np.pad(pixels, 18, mode="edge")[48:96, 8:56])


# -- OpenCV -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    return faces.open_detector()


def test_the_real_detector_finds_faces_where_they_are(detector):
    places = [(60, 80, 200), (420, 300, 130)]
    picture = Image.new("L", (700, 500), 150)
    for left, top, side in places:
        picture.paste(draw_face(side), (left, top))
    found = [faces.framed(face, *picture.size) for face in detector(np.asarray(picture))]
    assert len(found) == 2
    for box, (left, top, side) in zip(found, places, strict=True):
        assert np.abs(np.array(box) - (left, top, left + side, top + side)).max() < 0.2 * side


def test_large_pictures_are_searched_at_a_smaller_size(detector):
    picture = Image.new("L", (4000, 2600), 150)
    picture.paste(draw_face(1200), (1500, 700))
    (box,) = (faces.framed(face, *picture.size) for face in detector(np.asarray(picture)))
    assert np.abs(np.array(box) - (1500, 700, 2700, 1900)).max() < 0.2 * 1200


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (23, 23), (48, 48)])
def test_pictures_without_room_for_a_face_have_none(detector, shape):
    assert detector(np.zeros(shape, np.uint8)) == []


def test_no_face_in_noise(detector, random):
    assert detector(random.integers(0, 256, (300, 400)).astype(np.uint8)) == []


def test_without_opencv_there_is_no_detector(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert faces.open_detector() is None


def test_an_opencv_without_cascades_is_refused(monkeypatch, tmp_path):
    version_5 = types.SimpleNamespace(__version__="5.0.0")
    monkeypatch.setitem(sys.modules, "cv2", version_5)
    with pytest.raises(FercoreError, match=r"OpenCV 5\.0\.0 brings no face detector: pip install"):
        faces.open_detector()
    version_5.data = types.SimpleNamespace(haarcascades=f"{tmp_path}/")
    version_5.CascadeClassifier = object
    with pytest.raises(FercoreError, match="brings no face detector"):
        faces.open_detector()
