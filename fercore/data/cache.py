"""Decoded datasets kept on disk, so that the second run starts at once.

An entry is one ``.npz`` file without pickled objects: the images, the labels, and everything else
as JSON text. It is named by what was asked for and holds a digest of what it was made from, so a
dataset that changed replaces its old entry. An entry that cannot be read is rebuilt. Entries may
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL

from fercore.data.dataset import Dataset, Skipped
from fercore.data.images import Crop
from fercore.data.tree import Tree
from fercore.errors import FercoreError
from fercore.files import replacing


def folder() -> Path:
    """Where entries lie: below ``FERCORE_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("FERCORE_CACHE"):
        return Path(chosen) / "datasets"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "fercore" / "datasets"


def cached(
    tree: Tree,
    format: str,
    crop: Crop,
    classes: int,
    options: Mapping[str, object],
    build: Callable[[], Dataset],
) -> Dataset:
    """The stored result of ``build`` for the same files and choices, else ``build()``, stored."""
    asked = (
        format,
        str(tree.path.absolute()),
        repr((crop, classes)),
        repr(sorted(options.items())),
    )
    path = folder() / f"{format}-{_digest(asked)[:16]}.npz"
    made_from = _digest((PIL.__version__, _code(), *tree.stamps))
    if (stored := _read(path, made_from)) is not None:
        return stored
    dataset = build()
    # A cache that cannot be written (read-only home, full disk) must not stop the work.
    with contextlib.suppress(FercoreError), replacing(path) as file:
        _write(file, dataset, made_from)
    return dataset


@functools.cache
def _code() -> str:
    """A digest of this package's source: a changed loader must not meet its old results."""
    return _digest(tuple(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))


def _digest(value: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _write(file: BinaryIO, dataset: Dataset, made_from: str) -> None:
    text = {
        "made_from": made_from,
        "name": dataset.name,
        "format": dataset.format,
        "skipped": [[entry.file, entry.reason] for entry in dataset.skipped],
        "notes": dataset.notes,
        "files": dataset.files,
        "subjects": dataset.subjects,
        "groups": dataset.groups,
        "splits": dataset.splits,
        "sha256": dataset.sha256,
        "multi_target": dataset.multi_target,
        "classes": dataset.classes,
    }
    targets = dataset.targets
    np.savez(
        file,
        images=dataset.images,
        labels=dataset.labels,
        targets=np.empty(0, np.float32) if targets is None else targets,
        text=np.frombuffer(json.dumps(text).encode(), dtype=np.uint8),
    )


def _read(path: Path, made_from: str) -> Dataset | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            text = json.loads(arrays["text"].tobytes())
            if text["made_from"] != made_from:
                return None
            return Dataset(
                name=text["name"],
                format=text["format"],
                images=arrays["images"],
                labels=arrays["labels"],
                files=tuple(text["files"]),
                subjects=tuple(text["subjects"]),
                groups=tuple(text["groups"]),
                splits=tuple(text["splits"]),
                sha256=tuple(text["sha256"]),
                skipped=tuple(Skipped(*entry) for entry in text["skipped"]),
                notes=tuple(text["notes"]),
                targets=arrays["targets"] if arrays["targets"].size else None,
                multi_target=text["multi_target"],
                classes=text["classes"],
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
