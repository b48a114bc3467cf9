"""Pictures with predictions drawn on: where they go, and what is on them."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from fercore import drawing
from fercore.data.tree import open_tree
from fercore.faces import Box
from fercore.predict import Prediction, pictures

SHARES = (0.0, 0.05, 0.0, 0.75, 0.0, 0.2, 0.0)


def gray_picture(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100), (90, 120, 150)).save(path, **options)
    return path


def seen(file, box=(20, 10, 60, 50)):
    return Prediction(str(file), SHARES, Box(*box), True)


def changed(path):
    """Where a drawn picture differs from what ``gray_picture`` wrote: [H, W]."""
    with Image.open(path) as picture:
        return (np.asarray(picture.convert("RGB")) != (90, 120, 150)).any(axis=2)


def test_a_box_is_drawn_around_the_face_and_words_below(tmp_path):
    path = gray_picture(tmp_path / "a.png")
    (target,) = drawing.write(tmp_path / "seen", [path], [seen(path)])
    assert target == tmp_path / "seen/a.png"
    different = changed(target)
    assert different[10, 20:61].all()
    assert different[50, 20:61].all()
    assert different[10:51, 20].all()
    assert different[10:51, 60].all()
    assert not different[11:50, 21:60].any(), "the face itself stays visible"
    assert different[51:].any(), "words"
    assert not different[:10].any()
    assert not changed(path).any(), "the picture itself stays as it was"


@pytest.mark.parametrize("box", [(0, 0, 200, 100), (-20, 50, 90, 160), (150, 80, 230, 160)])
def test_words_stay_inside_the_picture(tmp_path, box):
    path = gray_picture(tmp_path / "a.png")
    (target,) = drawing.write(tmp_path / "seen", [path], [seen(path, box)])
    with Image.open(target) as picture:
        pixels = np.asarray(picture).astype(int)
    # Words are white on black ground.
    black = np.argwhere((pixels == 0).all(axis=2))
    (top, left), (bottom, right) = black.min(axis=0), black.max(axis=0)
    assert bottom - top > 15
    assert right - left > 30


def test_each_face_of_a_picture_is_drawn(tmp_path):
    path = gray_picture(tmp_path / "a.png")
    both = [seen(path), seen(path, (120, 10, 160, 50))]
    (target,) = drawing.write(tmp_path / "seen", [path], both)
    assert changed(target)[10, [20, 60, 120, 160]].all()


def test_pictures_keep_their_place_and_replace_nothing(tmp_path):
    alone = gray_picture(tmp_path / "a.jpg")
    folder = tmp_path / "folder"
    inside = [gray_picture(folder / "b/a.png"), gray_picture(folder / "a.bmp")]
    predictions = [seen(alone), *map(seen, inside)]
    out = tmp_path / "seen"
    written = drawing.write(out, [alone, folder], predictions)
    assert written == [out / "a.png", out / "a-2.png", out / "b/a.png"]
    before = written[0].read_bytes()
    assert drawing.write(out, [alone], predictions[:1]) == [out / "a-3.png"]
    assert written[0].read_bytes() == before


def test_pictures_without_a_prediction_are_left_out(tmp_path):
    gray_picture(tmp_path / "folder/a.png")
    other = gray_picture(tmp_path / "folder/b.png")
    written = drawing.write(tmp_path / "seen", [tmp_path / "folder"], [seen(other)])
    assert written == [tmp_path / "seen/b.png"]


@pytest.mark.parametrize("name", ["/outside/a.png", "x/../../outside/a.png", "../outside/a.png"])
def test_no_zip_file_writes_outside_the_folder(tmp_path, name):
    path = gray_picture(tmp_path / "a.png")
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo(name), path.read_bytes())
        file.write(path, "inside.png")
    with open_tree(archive) as tree:
        predictions = [seen(item.file) for item in pictures(archive, tree)]
    for target in drawing.write(tmp_path / "deep/seen", [archive], predictions):
        assert (tmp_path / "deep/seen") in target.resolve().parents


def test_a_picture_that_was_turned_by_its_camera_is_drawn_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = gray_picture(tmp_path / "a.jpg", exif=exif)
    (target,) = drawing.write(tmp_path / "seen", [path], [seen(path)])
    with Image.open(target) as picture:
        assert picture.size == (100, 200)
        assert picture.getexif().get(274, 1) == 1
