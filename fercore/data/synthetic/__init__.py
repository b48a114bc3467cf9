"""Synthetic face datasets: drawn people, written in the formats of the real sets.

They let the whole study run where no photographs are: the same loaders, splits and figures, on
faces that a program drew. Each set has its own people, framing, light and way of acting, so that a
network trained on one does worse on another, which is what the study is about. Figures measured on
them say nothing about human faces; every tree says so in its ``SYNTHETIC.txt``.

``layouts`` plans which images a set has; ``styles`` says how it looks; ``people`` casts and directs
its actors; ``camera`` takes a picture of a face that ``drawing`` drew.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fercore.data.dataset import CLASSES
from fercore.data.synthetic.camera import photograph
from fercore.data.synthetic.layouts import FER2013_CSV, Shot, plan
from fercore.data.synthetic.styles import STYLES
from fercore.data.tree import MARKER
from fercore.errors import FercoreError, did_you_mean
from fercore.files import unfinished

VERSION = 1
"""Raised whenever the same seed would give other images."""

STUDY = ("fer2013", "jaffe", "tfeid", "mug")
"""The source and the targets of the default study."""

Progress = Callable[[str, int, int], None]
"""Called with a dataset's name, how many of its images are drawn, and how many it has."""


def write_study(
    folder: Path, seed: int = 0, scale: float = 1.0, on_progress: Progress | None = None
) -> dict[str, str]:
    """Write a source and three targets below ``folder``; the path to load each from, by name.

    ``scale`` multiplies the number of images; above 1 only the source grows. Sets that are there
    already, drawn with the same parameters, are kept. Raises FercoreError like write_dataset.
    """
    if others := [path.name for path in folder.glob("[!.]*") if path.name not in STYLES]:
        raise FercoreError(
            f"{folder}: holds other files ({others[0]}); choose an empty folder for the synthetic "
            "faces"
        )
    paths = {}
    for name in STUDY:
        write_dataset(name, folder / name, seed, scaled(name, scale), on_progress)
        paths[name] = str(folder / name / FER2013_CSV if name == "fer2013" else folder / name)
    return paths


def scaled(format: str, scale: float) -> int:
    """``scale`` times the natural number of images of a set; FercoreError when that is none."""
    if not 0 < scale < math.inf:
        raise FercoreError(f"scale {scale:g}: give a number above 0; 1 is the default study")
    _check_format(format)
    return max(1, round(scale * len(plan(format))))


def write_dataset(
    format: str,
    folder: Path,
    seed: int = 0,
    count: int | None = None,
    on_progress: Progress | None = None,
) -> int:
    """Write a synthetic dataset as ``folder``; the number of images in it.

    ``count`` asks for about so many images in place of the set's natural number: every class keeps
    its share, at least one image, and sequences stay whole; only fer2013 can grow. The folder
    appears complete or not at all. One that is there already, drawn with the same parameters, is
    kept. Raises FercoreError when the format cannot be drawn, when the folder holds anything else,
    or when it cannot be written.
    """
    _check_format(format)
    if count is not None and count < 1:
        raise FercoreError(f"{count} synthetic images of {format}: give at least 1")
    shots = plan(format, count)
    statement = _statement(format, seed, len(shots))
    try:
        if _holds(folder, statement):
            return len(shots)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Drawn beside its place and moved there whole, so that a set is never seen half-written.
        tree = unfinished(folder)
        try:
            tree.mkdir()
            write = _write_csv if format == "fer2013" else _write_images
            write(tree, format, _reported(format, shots, on_progress), seed)
            (tree / MARKER).write_text(statement)
            # Another process may have been quicker: then its set, which is the same, stays.
            if not _holds(folder, statement):
                os.replace(tree, folder)
        finally:
            shutil.rmtree(tree, ignore_errors=True)
    except OSError as error:
        raise FercoreError(
            f"{folder}: cannot be written ({error.strerror}); free some space or choose another "
            "folder"
        ) from error
    return len(shots)


def _check_format(format: str) -> None:
    if format not in STYLES:
        raise FercoreError(f"no synthetic faces for '{format}'; {did_you_mean(format, STYLES)}")


def _statement(format: str, seed: int, images: int) -> str:
    """The content of SYNTHETIC.txt, which also tells whether a tree can be reused."""
    return f"""SYNTHETIC FACES: drawn by a program; nobody is shown.

layout: {format}
images: {images}
seed: {seed}
generator: fercore.data.synthetic, version {VERSION}

The files have the names and formats of the real dataset, so that the same software reads them. The
people, their expressions and the labels are made up: figures measured on these images say nothing
about human faces.
"""


def _holds(folder: Path, statement: str) -> bool:
    """Whether the folder holds the set so described; False when nothing is there yet.

    Raises FercoreError when something else is there.
    """
    if not os.path.lexists(folder):
        return False
    if not folder.is_dir():
        raise FercoreError(f"{folder}: is not a folder; choose another for the synthetic faces")
    marker = folder / MARKER
    if marker.is_file():
        if marker.read_text(encoding="utf-8", errors="replace") == statement:
            return True
        raise FercoreError(
            f"{folder}: holds synthetic faces drawn with other parameters (see {MARKER}); "
            "delete it or choose another folder"
        )
    if any(folder.iterdir()):
        raise FercoreError(
            f"{folder}: holds other files; choose an empty folder for the synthetic faces"
        )
    return False


def _reported(format: str, shots: Sequence[Shot], on_progress: Progress | None) -> Iterator[Shot]:
    """The shots, telling ``on_progress`` after each has been used."""
    for done, shot in enumerate(shots, start=1):
        yield shot
        if on_progress is not None:
            on_progress(format, done, len(shots))


def _write_csv(tree: Path, format: str, shots: Iterable[Shot], seed: int) -> None:
    texts = [str(value) for value in range(256)]
    rows = ["emotion,pixels,Usage\n"]
    for shot in shots:
        pixels = " ".join([texts[value] for value in photograph(format, shot, seed).tobytes()])
        rows.append(f"{CLASSES.index(shot.label)},{pixels},{shot.file}\n")
    (tree / FER2013_CSV).write_text("".join(rows))


def _write_images(tree: Path, format: str, shots: Iterable[Shot], seed: int) -> None:
    for shot in shots:
        file = tree / shot.file
        file.parent.mkdir(parents=True, exist_ok=True)
        photograph(format, shot, seed).save(file)
