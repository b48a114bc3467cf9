"""The images of a study: how many, of whom, in which parts, and what stands in two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fercore.answers import Images, StudyAnswers
from fercore.data.dataset import CLASSES, SPLITS
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
        counts: images by class, in the order of CLASSES.
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
        twins: sentences about identical images.
    """

    name: str
    role: str
    facts: DatasetFacts
    parts: list[Part]
    twins: list[str]
    missing: str

    @property
    def notes(self) -> tuple[str, ...]:
        return *self.facts.notes, *self.twins

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        return self.facts.skipped[:SKIPPED]


def views(study: StudyFiles, answers: StudyAnswers) -> list[DatasetView]:
    """Every dataset, the source first."""
    return [
        _view(name, "source" if name == study.source else "target", facts, study, answers)
        for name, facts in study.datasets.items()
    ]


def _view(
    name: str, role: str, facts: DatasetFacts, study: StudyFiles, answers: StudyAnswers
) -> DatasetView:
    try:
        images = {part: answers.images(name, part) for part in SPLITS}
        parts = [_part(part, images[part]) for part in SPLITS]
        for percent in sorted(facts.shares, key=int, reverse=True):
            share = answers.images(name, "train", int(percent))
            parts.insert(1, _part(f"{percent} % of train", share))
        twins = [*_own_twins(images), *_foreign_twins(name, images["test"], study, answers)]
    except FercoreError as error:
        return DatasetView(name, role, facts, [], [], str(error))
    return DatasetView(name, role, facts, parts, twins, "")


def _part(name: str, images: Images) -> Part:
    counts = Counter(images.labels.tolist())
    subjects = set(images.subjects) - {""}
    return Part(
        name,
        [counts[label] for label in range(len(CLASSES))],
        len(images),
        len(subjects) if subjects else None,
    )


def _own_twins(images: dict[str, Images]) -> list[str]:
    """Identical images within the set, and between its parts."""
    times = Counter(digest for part in images.values() for digest in part.sha256)
    repeated = sum(number for number in times.values() if number > 1)
    if not repeated:
        return ["No two images of the three parts are identical."]
    train = set(images["train"].sha256)
    leaked = sum(digest in train for digest in images["test"].sha256)
    return [
        f"{repeated:,} images have an identical twin in the set; {leaked:,} of "
        f"{len(images['test']):,} test images have one in train."
    ]


def _foreign_twins(
    name: str, test: Images, study: StudyFiles, answers: StudyAnswers
) -> Sequence[str]:
    """Test images that another set of the study trains on."""
    others = [other for other in study.datasets if other != name]
    if name != study.source:
        others = [other for other in others if other == study.source]
    found = []
    for other in others:
        seen = set(answers.images(other, "train").sha256)
        if twins := sum(digest in seen for digest in test.sha256):
            found.append(f"{twins:,} test images have an identical twin in {other}'s train.")
    return found
