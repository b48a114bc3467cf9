"""What the loaders' tests share: writing small trees and reading them in every form."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fercore.data import DatasetSpec, load
from fercore.data.dataset import Dataset
from fercore.data.images import Crop

REAL = Path(
    os.environ.get("FERCORE_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def real(name: str) -> Path:
    """The path of a real dataset; skips the test where it is absent."""
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"{path} is absent; FERCORE_REAL_DATA names the folder of real datasets")
    return path


def pixels(seed: int, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """Random gray pixels, uint8 [height, width]; ``size`` is (width, height)."""
    return np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (48, 48)) -> Path:
    """Write ``pixels(seed, size)`` in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path)
    return path


def write_images(root: Path, *names: str, size: tuple[int, int] = (48, 48)) -> Path:
    """Write an image of its own for every name below ``root``."""
    for seed, name in enumerate(names):
        write_image(root / name, seed, size)
    return root


def zip_folder(folder: Path, zipped: Path, prefix: str = "") -> Path:
    """Zip a folder's content under ``prefix``."""
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(folder).as_posix())
    return zipped


def read(
    format: str,
    path: Path,
    crop: Crop | None = None,
    name: str = "x",
    *,
    contempt: bool = False,
    **options: Any,
) -> Dataset:
    """Load without the cache."""
    return load(DatasetSpec(name, format, path), crop, options, contempt=contempt, cache=False)


def read_in_every_form(format: str, folder: Path, **options: Any) -> Dataset:
    """Load ``folder`` itself, one level too high, zipped, and zipped below a leading folder.

    All four must give the same; returns it.
    """
    out = folder.parent.parent / f"zipped-{folder.name}"
    out.mkdir()
    first = read(format, folder, **options)
    high = folder.parent
    assert [path.name for path in high.iterdir()] == [folder.name]
    flat = zip_folder(folder, out / "flat.zip")
    nested = zip_folder(folder, out / "nested.zip", f"{folder.name}/")
    for path in (high, flat, nested):
        other = read(format, path, **options)
        assert other.files == first.files
        assert other.sha256 == first.sha256
        assert other.subjects == first.subjects
        assert other.groups == first.groups
        assert other.splits == first.splits
        assert other.notes == first.notes
        assert len(other.skipped) == len(first.skipped)
        np.testing.assert_array_equal(other.labels, first.labels)
        np.testing.assert_array_equal(other.images, first.images)
    return first
