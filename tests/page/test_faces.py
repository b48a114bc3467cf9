"""Faces in the page: only on request, and only the very images that were tested."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fercore import page
from fercore.data import DatasetSpec, load
from fercore.errors import FercoreError
from tests.faces import write_folder
from tests.page.folder import STUDY, StudyFolder
from tests.page.markup import elements, parse


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study whose source is at hand; its test images are the dataset's."""
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "faces", 3, seed=1)
    folder = StudyFolder(tmp_path / "run", targets=())
    config = folder.path / "config.toml"
    config.write_text(config.read_text().replace("/faces/src", str(tmp_path / "faces")))
    dataset = load(DatasetSpec("src", "folder", tmp_path / "faces"))
    digests = dict(zip(dataset.files, dataset.sha256, strict=True))
    names = {
        f"{label}/test-{n}.png": digests[f"{label}/{n:03d}.png"]
        for label in ("angry", "neutral")
        for n in range(3)
    }
    folder.write_manifest("src", **names)
    folder.write_study(STUDY[:1])
    folder.pixels = dict(zip(dataset.files, dataset.images, strict=True))
    return folder


def test_none_unless_they_are_asked_for(folder):
    assert not elements(parse(page.render(folder.directory)), "img")


def test_the_pixels_that_the_networks_saw(folder):
    pictures = elements(parse(page.render(folder.directory, faces=True)), "img")
    # BL mistakes the last three source images.
    assert [p.get("alt") for p in pictures] == [
        f"face labelled neutral, neutral/test-{n}.png" for n in range(3)
    ]
    data = pictures[0].get("src").removeprefix("data:image/png;base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert (shown == folder.pixels["neutral/000.png"]).all()


def test_another_image_of_the_same_name_is_not_shown(folder):
    folder.write_manifest("src")
    assert not elements(parse(page.render(folder.directory, faces=True)), "img")


def test_a_dataset_that_has_gone_is_named(folder, tmp_path):
    (tmp_path / "faces").rename(tmp_path / "elsewhere")
    with pytest.raises(FercoreError, match="faces"):
        page.render(folder.directory, faces=True)
