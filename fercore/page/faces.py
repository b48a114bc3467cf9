"""Test faces for the page, as small pictures within it: only where somebody asks for them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fercore.data import DatasetSpec, load
from fercore.data.images import Crop
from fercore.page.images import ImageLists
from fercore.page.study import StudyFiles

Faces = dict[str, str]
"""SHA-256 of an image -> a ``data:`` address that holds the picture."""


def collect(study: StudyFiles, shown: ImageLists) -> Faces:
    """The faces of all listed images, 48 x 48 gray levels, as the networks saw them.

    Raises FercoreError when a dataset is not where the study found it.
    """
    wanted: dict[str, set[str]] = {}
    for listing in shown.lists:
        for line in listing.lines:
            wanted.setdefault(line.dataset, set()).add(line.sha256)
    faces: Faces = {}
    for name, digests in wanted.items():
        dataset = _load(study, name)
        for row, digest in enumerate(dataset.sha256):
            if digest in digests:
                faces[digest] = _address(dataset.images[row])
    return faces


def _load(study: StudyFiles, name: str) -> Any:
    """A dataset, from the settings that the study read it with."""
    chosen = [study.settings.get("source"), *study.settings.get("targets", ())]
    entry = next((one for one in chosen if one and one["name"] == name), None)
    if entry is None:  # drawn by the study itself
        return load(DatasetSpec(name, name, study.directory.faces / name))
    crop = Crop(*entry["crop"]) if "crop" in entry else None
    return load(
        DatasetSpec(name, entry["format"], Path(entry["path"])), crop, entry.get("options", {})
    )


def _address(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(np.squeeze(pixels)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
