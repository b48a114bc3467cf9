"""The images of a study: how many, of whom, in which parts, and what stands in two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fercore.answers import Images, StudyAnswers
from fercore.data.dataset import SPLITS
from fercore.errors import FercoreError
from fercore.page.study import StudyFiles
from fercore.run_directory import DatasetFacts

SKIPPED = 50
"""At most so many skipped files are listed."""


@dataclass(frozen=True)
class Part:
    """Images of one part, or of a share of the training part.

    Attributes:
        name: ``train``, ``50 % of train``, ``validation`` or ``test``.
        counts: images by class, in the order of the study's classes.
        total: images.
        subjects: people; None where the set does not say.
    """

    name: str
    counts: list[int]
    total: int
    subjects: int | None


@dataclass(frozen=True)
class DatasetView:
    """One dataset as the page shows it.

    Attributes:
        name, role: as in the study.
        facts: from ``datasets.json``.
        parts: counts; empty where the manifests cannot be read, and ``missing`` says why.
        twins: sentences about identical images, in the set and, of a target, in the source too.
    """

    name: str
    role: str
    facts: DatasetFacts
    parts: list[Part]
    twins: tuple[str, ...]
    missing: str

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.facts.notes, *self.twins)

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        return self.facts.skipped[:SKIPPED]


def views(study: StudyFiles, answers: StudyAnswers) -> list[DatasetView]:
    """Every dataset, the source first."""
    return [
        _view(name, "source" if name == study.source else "target", facts, answers, study)
        for name, facts in study.datasets.items()
    ]


def _view(
    name: str, role: str, facts: DatasetFacts, answers: StudyAnswers, study: StudyFiles
) -> DatasetView:
    try:
        images = {part: answers.images(name, part) for part in SPLITS}
        parts = [_part(part, images[part], study.classes) for part in SPLITS]
        for percent in sorted(facts.shares, key=int):
            share = answers.images(name, "train", int(percent))
            parts.insert(1, _part(f"{percent} % of train", share, study.classes))
    except FercoreError as error:
        return DatasetView(name, role, facts, [], (), str(error))
    twins = [_twins(images)]
    if study.source is not None and study.source != name:
        twins += _foreign_twins(images["test"], study.source, answers)
    return DatasetView(name, role, facts, parts, tuple(twins), "")


def _part(name: str, images: Images, classes: Sequence[str]) -> Part:
    counts = Counter(images.labels.tolist())
    subjects = set(images.subjects) - {""}
    return Part(
        name,
        [counts[label] for label in range(len(classes))],
        len(images),
        len(subjects) if subjects else None,
    )


def _twins(images: dict[str, Images]) -> str:
    """How many images are identical within the set, under which label, and what is tested."""
    pairs = Counter(
        pair
        for part in images.values()
        for pair in zip(part.sha256, part.labels.tolist(), strict=True)
    )
    times, labels = Counter[str](), Counter(digest for digest, _ in pairs)
    for (digest, _), number in pairs.items():
        times[digest] += number
    repeated = sum(number for number in times.values() if number > 1)
    if not repeated:
        return "No two images of the three parts are identical."
    torn = sum(number for digest, number in times.items() if labels[digest] > 1)
    doubt = f", {torn:,} of them one with another label" if torn else ""
    train = set(images["train"].sha256)
    leaked = sum(digest in train for digest in images["test"].sha256)
    return (
        f"{repeated:,} images have an identical twin in the set{doubt}; {leaked:,} of "
        f"{len(images['test']):,} test images have one in train."
    )


def _foreign_twins(test: Images, source: str, answers: StudyAnswers) -> list[str]:
    """How many test images of a target the networks have seen already, in the source."""
    try:
        train = set(answers.images(source, "train").sha256)
    except FercoreError:
        return []  # said of the source itself
    leaked = sum(digest in train for digest in test.sha256)
    return [f"{leaked:,} of {len(test):,} test images have an identical twin in {source}'s train."]
