"""What the networks of a study answered to every image that they were tested on.

``answers.safetensors`` in the folder of a run holds logits, float32 ``[N, classes]``, under
``<dataset>/test`` and ``<dataset>/validation``: of the source and of every target that the run was
tested on. Row ``i`` belongs to the part's ``i``-th line in ``splits/<dataset>.csv``, which names
the image; pixels are in neither. The metadata hold each dataset's digest, as in ``datasets.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from fercore import metrics, tensor_file
from fercore.data import manifest
from fercore.data.dataset import CLASSES, SPLITS
from fercore.errors import FercoreError
from fercore.files import read_json
from fercore.run_directory import DatasetFacts, RunDirectory

FILE = "answers.safetensors"

TESTED: tuple[Literal["test", "validation"], ...] = ("test", "validation")
"""The parts that a network is tested on."""

Key = tuple[str, str]
"""Dataset and part."""


@dataclass(frozen=True, eq=False)
class Images:
    """What is known of ``N`` images without their pixels; entry ``i`` of everything is one image.

    Attributes:
        labels: int64 ``[N]``, indices into CLASSES.
        files: the path inside the dataset, or ``fer2013.csv:17`` for a line.
        subjects: who is shown; "" where the set does not say.
        groups: sequence or take, whose frames are near-copies; "" where there is none.
        sha256: of the decoded pixels; exact twins share it.
    """

    labels: np.ndarray
    files: tuple[str, ...]
    subjects: tuple[str, ...]
    groups: tuple[str, ...]
    sha256: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: np.ndarray) -> Images:
        """The given rows, in the given order."""
        return Images(
            self.labels[rows],
            *(
                tuple(values[row] for row in rows)
                for values in (self.files, self.subjects, self.groups, self.sha256)
            ),
        )


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of one network to some images: ``logits``, float32 ``[N, classes]``."""

    images: Images
    logits: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether the largest logit (first of equals) is the label's, bool ``[N]``."""
        return np.asarray(metrics.predict(self.logits) == self.images.labels)


class _Part(msgspec.Struct, frozen=True):
    dataset: str
    part: str
    percent: int


class _Run(msgspec.Struct, frozen=True):
    starts_from: str | None
    trains_on: tuple[_Part, ...]


class _RunFile(msgspec.Struct, frozen=True):
    """What is read of ``run.json``: the whole of it is the engine's."""

    run: _Run


@dataclass(frozen=True)
class StudyAnswers:
    """The answers of every network of a run directory; each manifest is read once."""

    directory: RunDirectory
    _images: dict[tuple[str, str, int], Images] = field(default_factory=dict, repr=False)

    def images(self, dataset: str, part: str, percent: int = 100) -> Images:
        """The images of ``train``, ``validation`` or ``test``, or of a share of ``train``.

        Those that are in no part are ``""``. Raises FercoreError when the manifest cannot be read.
        """
        if (dataset, part, percent) not in self._images:
            folder = (
                self.directory.splits if percent == 100 else self.directory.splits / f"{percent}"
            )
            for name, images in _read_images(folder / f"{dataset}.csv").items():
                self._images[dataset, name, percent] = images
        return self._images[dataset, part, percent]

    def of(self, run: str) -> dict[Key, Answers]:
        """The answers of one run, by dataset and part.

        Raises FercoreError when they are missing, damaged, or belong to other images than the
        manifests.
        """
        path = self.directory.run(run) / FILE
        remake = f"continue with fercore-train protocol --out {self.directory.path} --resume"
        if not path.exists():
            raise FercoreError(f"{path}: is missing; to test the network again, {remake}")
        file = tensor_file.read(path, remake)
        facts = read_json(self.directory.datasets, dict[str, DatasetFacts])
        answers: dict[Key, Answers] = {}
        for dataset, digest in file.metadata.get("datasets", {}).items():
            for part in TESTED:
                images, logits = self.images(dataset, part), file.tensors[f"{dataset}/{part}"]
                if dataset not in facts or facts[dataset].digest != digest:
                    raise FercoreError(f"{path}: was made from other images; {remake}")
                if len(images) != len(logits):
                    raise FercoreError(
                        f"{path}: has {len(logits):,} answers, but {self.directory.splits} has "
                        f"{len(images):,} {part} images of {dataset}; {remake}"
                    )
                answers[dataset, part] = Answers(images, logits)
        return answers

    def classes(self, dataset: str) -> frozenset[int]:
        """The classes that a dataset has images of, in whatever part."""
        parts = [self.images(dataset, part).labels for part in (*SPLITS, "")]
        return frozenset(np.concatenate(parts).tolist())

    def lineage(self, run: str) -> tuple[str, ...]:
        """The runs whose training made a run's network, the first one first and itself last."""
        parent = self._run(run).starts_from
        return (*(self.lineage(parent) if parent else ()), run)

    def trained_on(self, run: str) -> frozenset[str]:
        """The digests of all images that a run's network has learned from, its parents' included.

        Exact twins share a digest.
        """
        return frozenset(
            digest
            for ancestor in self.lineage(run)
            for part in self._run(ancestor).trains_on
            for digest in self.images(part.dataset, part.part, part.percent).sha256
        )

    def held_out(self, dataset: str) -> frozenset[str]:
        """The digests of the images of a dataset that the study chose by, or tested on."""
        return frozenset(digest for part in TESTED for digest in self.images(dataset, part).sha256)

    def learned_from(self, run: str) -> frozenset[str]:
        """The datasets whose training images a run's network has seen, its parents' included."""
        return frozenset(
            part.dataset for ancestor in self.lineage(run) for part in self._run(ancestor).trains_on
        )

    def _run(self, run: str) -> _Run:
        return read_json(self.directory.run(run) / "run.json", _RunFile).run


def write(folder: Path, logits: Mapping[Key, np.ndarray], digests: Mapping[str, str]) -> str:
    """Write the answers of the run in ``folder``; the digest of what was written.

    Args:
        folder: of the run.
        logits: ``[N, classes]`` by dataset and part, rows in the order of the part.
        digests: of every dataset in ``logits``.
    """
    tensors = {
        f"{dataset}/{part}": np.ascontiguousarray(array, np.float32)
        for (dataset, part), array in logits.items()
    }
    return tensor_file.write(folder / FILE, tensors, {"datasets": dict(digests)})


def _read_images(path: Path) -> dict[str, Images]:
    """The images of a manifest, by part."""
    rows: dict[str, list[dict[str, str]]] = {part: [] for part in (*SPLITS, "")}
    for line, entry in manifest.entries(path):
        if entry["label"] not in CLASSES:
            raise FercoreError(f"{path}: line {line}: unknown label {entry['label']!r}")
        if entry["split"] not in rows:
            raise FercoreError(f"{path}: line {line}: unknown split {entry['split']!r}")
        rows[entry["split"]].append(entry)
    return {part: _images(some) for part, some in rows.items()}


def _images(rows: list[dict[str, str]]) -> Images:
    def column(name: str) -> tuple[str, ...]:
        return tuple(row.get(name, "") for row in rows)

    return Images(
        labels=np.array([CLASSES.index(row["label"]) for row in rows], np.int64),
        files=column("file"),
        subjects=column("subject"),
        groups=column("group"),
        sha256=column("sha256"),
    )
