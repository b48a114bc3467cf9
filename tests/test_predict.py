"""Probabilities for files, and accuracy on a dataset."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from fercore import evaluation, models, predict
from fercore.data.dataset import BASIC, CLASSES
from fercore.data.images import Crop
from fercore.errors import FercoreError
from fercore.faces import Box
from tests.faces import shrink_tiny, write_folder
from tests.small_data import striped


@pytest.fixture
def model(compiled_backend, monkeypatch):
    shrink_tiny(monkeypatch)
    return models.build("tiny", seed=3, backend=compiled_backend)


def predict_files(model, paths, **options):
    return predict.predict_files(model, paths, backend=model_backend(model), **options)


def model_backend(model):
    return next(iter(model.parameters().values())).backend


def test_files_folders_and_zip_files(model, tmp_path):
    faces = write_folder(tmp_path / "faces", 1, seed=0, classes=("angry", "happy"))
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(faces / "happy" / "000.png", "inside/happy.png")
    alone = faces / "angry" / "000.png"
    predictions, skipped = predict_files(model, [alone, faces, archive])
    assert [p.file for p in predictions] == [
        str(alone),
        f"{faces}/angry/000.png",
        f"{faces}/happy/000.png",
        f"{archive}/inside/happy.png",
    ]
    assert skipped == []
    assert predictions[0].probabilities == predictions[1].probabilities
    assert predictions[2].probabilities == predictions[3].probabilities
    assert predictions[0].probabilities != predictions[2].probabilities


def test_probabilities_are_the_softmax_of_the_logits(model, tmp_path):
    faces = write_folder(tmp_path / "faces", 1, seed=0)
    (prediction,), _ = predict_files(model, [faces / "sad" / "000.png"])
    pixels = np.asarray(Image.open(faces / "sad" / "000.png"))
    logits = evaluation.predict_logits(model, pixels[None], backend=model_backend(model))[0]
    expected = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
    np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-6)
    assert prediction.label == CLASSES[int(np.argmax(expected))]


def test_the_crop_is_taken(model, tmp_path):
    path = tmp_path / "wide.png"
    image = np.zeros((96, 96), dtype=np.uint8)
    image[24:72, 24:72] = np.random.default_rng(0).integers(0, 256, (48, 48))
    Image.fromarray(image).save(path)
    inner = tmp_path / "inner.png"
    Image.fromarray(image[24:72, 24:72]).save(inner)
    (cropped,), _ = predict_files(model, [path], crop=Crop(0.25, 0.25, 0.75, 0.75))
    (expected,), _ = predict_files(model, [inner])
    assert cropped.probabilities == expected.probabilities


def test_unreadable_files_are_listed_beside_the_others(model, tmp_path):
    faces = write_folder(tmp_path / "faces", 1, seed=0, classes=("angry",))
    (tmp_path / "bad.png").write_bytes(b"no image")
    predictions, skipped = predict_files(model, [tmp_path / "bad.png", faces])
    assert len(predictions) == 1
    assert skipped[0].file == str(tmp_path / "bad.png")
    objects = json.loads(predict.predictions_as_json(predictions, skipped))
    assert set(objects[0]["probabilities"]) == set(CLASSES[:BASIC])
    assert sum(objects[0]["probabilities"].values()) == pytest.approx(1)
    assert objects[1]["file"] == str(tmp_path / "bad.png")
    assert objects[1]["error"]


def test_no_readable_file_at_all_is_an_error(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(FercoreError, match=r"bad\.png: no image that can be read"):
        predict_files(model, [tmp_path / "bad.png"])
    with pytest.raises(FercoreError, match=r"absent\.png"):
        predict_files(model, [tmp_path / "absent.png"])


def test_a_table_has_a_line_an_image():
    shares = (0.1, 0.0, 0.0, 0.7, 0.2, 0.0, 0.0)
    whole = predict.Prediction("a.png", shares, Box(0, 0, 48, 48), False)
    found = predict.Prediction("long.png", shares, Box(-3, 20, 93, 116), True)
    header, first, second = predict.predictions_as_text([whole, found]).splitlines()
    assert header.split() == ["file", "face", "class", *CLASSES[:BASIC]]
    assert first.split()[:4] == ["a.png", "-", "happy", "10.0"]
    assert second.split()[:4] == ["long.png", "96x96-3+20", "happy", "10.0"]


def two_squares(gray):
    """A detector of the bright squares that ``write_squares`` draws: their boxes, left to right."""
    bright = np.flatnonzero((gray > 200).any(axis=0))
    boxes = []
    for columns in np.split(bright, np.flatnonzero(np.diff(bright) > 1) + 1):
        if len(columns):
            rows = np.flatnonzero((gray[:, columns] > 200).any(axis=1))
            boxes.append(Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return boxes


def write_squares(path, *corners, **options):
    picture = np.full((200, 300), 40, dtype=np.uint8)
    for left, top in corners:
        picture[top : top + 50, left : left + 50] = 255
    Image.fromarray(picture).save(path, **options)
    return path


def test_every_face_that_is_found_is_looked_at(model, tmp_path):
    path = write_squares(tmp_path / "two.png", (20, 30), (180, 100))
    write_squares(tmp_path / "none.png")
    paths = [path, tmp_path / "none.png"]
    predictions, _ = predict_files(model, paths, detector=two_squares)
    assert [(p.file, p.box, p.found) for p in predictions] == [
        (str(path), (19, 29, 71, 81), True),
        (str(path), (179, 99, 231, 151), True),
        (str(tmp_path / "none.png"), (0, 0, 300, 200), False),
    ]
    # What the network was shown: the square with 1 pixel of gray around it.
    (cut,), _ = predict_files(model, [path], crop=Crop(19 / 300, 29 / 200, 71 / 300, 81 / 200))
    np.testing.assert_allclose(cut.probabilities, predictions[0].probabilities, atol=1e-5)
    objects = json.loads(predict.predictions_as_json(predictions, []))
    assert objects[1]["box"] == [179, 99, 231, 151]
    assert [entry["found"] for entry in objects] == [True, True, False]


def test_faces_are_looked_for_in_the_upright_picture(model, tmp_path):
    upright = write_squares(tmp_path / "upright.png", (20, 30))
    turned = Image.open(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # turn right to see it upright
    turned.save(tmp_path / "turned.png", exif=exif)
    first, second = predict_files(model, [upright, tmp_path / "turned.png"], detector=two_squares)[
        0
    ]
    assert first.box == second.box == (19, 29, 71, 81)
    assert first.probabilities == second.probabilities


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_pictures_of_every_kind_are_searched(model, tmp_path, mode):
    gray = Image.open(write_squares(tmp_path / "gray.png", (20, 30)))
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    gray.convert(mode).save(path)
    (prediction,), _ = predict_files(model, [path], detector=two_squares)
    assert prediction.box == (19, 29, 71, 81)


def test_animations_show_their_first_frame_and_16_bits_are_listed(model, tmp_path):
    frames = [Image.open(write_squares(tmp_path / f"{left}.png", (left, 30))) for left in (20, 180)]
    animation = tmp_path / "animation.gif"
    frames[0].save(animation, save_all=True, append_images=frames[1:], duration=100)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((60, 60), np.uint16)).save(deep)
    predictions, skipped = predict_files(model, [animation, deep], detector=two_squares)
    assert [prediction.box for prediction in predictions] == [(19, 29, 71, 81)]
    assert [(s.file, s.reason) for s in skipped] == [
        (str(deep), "more than 8 bits a pixel; save it with 8")
    ]


def test_evaluation_counts_what_the_network_says(model):
    dataset = striped(40, seed=1)
    backend = model_backend(model)
    predicted = evaluation.predict_logits(model, dataset.images, backend=backend).argmax(axis=1)
    score = predict.evaluate(model, dataset, np.arange(40), backend=backend)
    assert score.n == 40
    assert score.accuracy == np.mean(predicted == dataset.labels)
    text = predict.score_as_text(score, "stripes")
    assert text.startswith("stripes: 40 images")
    assert "balanced accuracy" in text


def test_evaluation_of_a_set_without_some_classes(model):
    dataset = striped(40, seed=1)
    dataset = dataset.select(np.flatnonzero(dataset.labels < 5))
    rows = np.flatnonzero(dataset.labels < 3)
    backend = model_backend(model)
    score = predict.evaluate(model, dataset, rows, backend=backend)
    assert score.n_shared == score.n == len(rows)
    logits = evaluation.predict_logits(model, dataset.images[rows], backend=backend)
    for accuracy, classes in ((score.accuracy_shared, 5), (score.accuracy_present, 3)):
        assert accuracy == np.mean(logits[:, :classes].argmax(axis=1) == dataset.labels[rows])
    text = predict.score_as_text(score, "some")
    assert f"among the 5 classes of the dataset  {100 * score.accuracy_shared:.2f} %" in text
    assert f"among the 3 classes of the tested images  {100 * score.accuracy_present:.2f} %" in text
    whole = predict.evaluate(model, dataset, np.arange(len(dataset)), backend=backend)
    assert "tested images" not in predict.score_as_text(whole, "all")
