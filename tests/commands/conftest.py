"""A small network, small data and an empty folder to work in."""

from pathlib import Path

import pytest

from fercore import backends, checkpoint, models
from fercore.errors import FercoreError
from tests.faces import shrink_tiny, write_folder


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """A small network, a cache of our own, and an empty working folder."""
    shrink_tiny(monkeypatch)
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def cpu():
    try:
        return backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))


@pytest.fixture
def faces(tmp_path):
    write_folder(tmp_path / "source", 8, seed=1)
    write_folder(tmp_path / "target", 8, seed=2)
    return [
        *("--source", f"src=folder:{tmp_path / 'source'}"),
        *("--target", f"tgt=folder:{tmp_path / 'target'}"),
    ]


@pytest.fixture
def tiny():
    """The file of an untrained network."""
    backend = backends.get("reference", dtype="float32")
    checkpoint.save_model(Path("tiny.safetensors"), models.build("tiny", backend=backend))
    return "tiny.safetensors"
