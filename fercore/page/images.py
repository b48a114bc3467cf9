"""Test images by name: those that stay hard, and those that adapting changed most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fercore import metrics
from fercore.answers import Answers, Images, Key, StudyAnswers
from fercore.data.dataset import CLASSES
from fercore.errors import FercoreError
from fercore.page.study import RunFiles, StudyFiles
from fercore.words import fixed, percent

SHOWN = 8
"""Images in each list."""


@dataclass(frozen=True)
class Line:
    """An image and what became of it."""

    dataset: str
    file: str
    sha256: str
    label: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """Some images under a heading; ``columns`` name the texts of its lines."""

    title: str
    about: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class ImageLists:
    """All lists of a study, and why there are none where that is so."""

    lists: list[Listing]
    missing: str


def lists(study: StudyFiles, answers: StudyAnswers) -> ImageLists:
    """The hardest test images of every dataset, and for each target the most changed."""
    tested = [run for run in study.runs if run.records]
    try:
        known = {run.id: answers.of(run.id) for run in tested}
    except FercoreError as error:
        return ImageLists([], str(error))
    return ImageLists([*_hardest(study, tested, known), *_changed(study, tested, known)], "")


Known = Mapping[str, Mapping[Key, Answers]]
"""Run -> dataset and part -> its answers."""


def _hardest(study: StudyFiles, runs: Sequence[RunFiles], known: Known) -> Iterator[Listing]:
    for name in study.datasets:
        of = [known[run.id][name, "test"] for run in runs if name in run.facts.learned_from]
        if not of:
            continue
        images = of[0].images
        wrong = np.sum([~answer.correct for answer in of], axis=0)
        doubt = np.mean([_losses(answer) for answer in of], axis=0)
        order = np.lexsort((-doubt, -wrong))[:SHOWN]
        said = [Counter(metrics.predict(a.logits)[row] for a in of).most_common(1) for row in order]
        lines = (
            _line(name, images, row, f"{wrong[row]} of {len(of)}", CLASSES[most[0][0]])
            for row, most in zip(order, said, strict=True)
            if wrong[row]
        )
        yield Listing(
            f"Hardest test images of {name}",
            f"Those that most of the networks trained on {name} mistake.",
            ("mistaken by", "most often taken for"),
            tuple(lines),
        )


def _changed(study: StudyFiles, runs: Sequence[RunFiles], known: Known) -> Iterator[Listing]:
    """What adapting changed: forgotten images of the source, learned ones of the target."""
    for target in list(study.datasets)[1:]:
        adapted = [
            run for run in runs if run.facts.target == target and run.facts.starts_from in known
        ]
        if not adapted:
            continue
        for name, verb, sign in ((study.source or "", "forgotten", -1), (target, "learned", 1)):
            yield _most_changed(name, verb, sign, target, adapted, known)


def _most_changed(
    name: str, verb: str, sign: int, target: str, adapted: Sequence[RunFiles], known: Known
) -> Listing:
    key = name, "test"
    after = [known[run.id][key] for run in adapted]
    before = [known[run.facts.starts_from or ""][key] for run in adapted]
    images = after[0].images
    old = np.mean([_confidence(answer) for answer in before], axis=0)
    new = np.mean([_confidence(answer) for answer in after], axis=0)
    turned = np.sum(
        [
            (a.correct != b.correct) & (a.correct == (sign > 0))
            for a, b in zip(after, before, strict=True)
        ],
        axis=0,
    )
    change = sign * (new - old)
    order = np.argsort(-change, kind="stable")[:SHOWN]
    lines = (
        _line(
            name,
            images,
            row,
            f"{fixed(100 * old[row])} → {percent(new[row], 0)}",
            f"{turned[row]} of {len(adapted)}",
        )
        for row in order
        if change[row] > 0
    )
    return Listing(
        f"Test images of {name} most {verb} in adapting to {target}",
        "By the probability of the right class before and after, in the mean over the networks "
        "that were adapted.",
        ("right class", "right before, wrong after" if sign < 0 else "wrong before, right after"),
        tuple(lines),
    )


def _confidence(answer: Answers) -> np.ndarray:
    """Probability of each image's own class."""
    labels = answer.images.labels
    return np.asarray(metrics.softmax(answer.logits)[np.arange(len(labels)), labels])


def _losses(answer: Answers) -> np.ndarray:
    """Cross-entropy of each image, nats."""
    return np.asarray(-np.log(np.maximum(_confidence(answer), 1e-300)))


def _line(dataset: str, images: Images, row: int, *texts: str) -> Line:
    return Line(dataset, images.files[row], images.sha256[row], CLASSES[images.labels[row]], texts)
