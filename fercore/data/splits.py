"""Which images train, choose the checkpoint and test: splits in which nothing leaks.

The official split where a dataset has one; else a seeded, stratified one in which a person, a
sequence and identical images are each in one part alone, with the paper's counts where it gives
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fercore.data import manifest
from fercore.data.allocation import Units, apportion, cluster, share_out, stratified_order
from fercore.data.dataset import SPLITS, Dataset
from fercore.data.parts import Parts, audit
from fercore.data.tree import natural_key
from fercore.errors import FercoreError, did_you_mean
from fercore.words import counted

RULES = ("paper", "strict")

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, validation and test, where neither the dataset nor the paper says."""

PAPER_COUNTS = {
    "fer2013": (28709, 3589, 3589),
    "jaffe": (131, 15, 67),
    "tfeid": (405, 47, 58),
    "mug": (5877, 741, 734),
}
"""The paper's train, validation and test images, by format."""

JAFFE_TEST_SUBJECTS = ("KA", "KL", "KM")
"""KA and two of KL, KM and YM are the only people of JAFFE with 67 images together."""


def split(
    dataset: Dataset,
    rule: str | Path = "paper",
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
) -> Parts:
    """Share a dataset out to train, validation and test.

    Args:
        rule: ``"paper"``; ``"strict"``, which also keeps JAFFE's validation images to people of
            their own; or a folder of manifests, of which ``<dataset name>.csv`` is read.
        seed: decides every draw, together with the images alone: not with their order or names.
        fractions: of train, validation and test, for sets without official parts or paper counts.

    Raises:
        FercoreError: too few people or images for three parts, an unknown rule, or a manifest that
            does not fit the dataset.
    """
    if str(rule) not in RULES:
        return _read_manifest(dataset, Path(rule))
    official = set(dataset.splits) - {""}
    if "train" in official and len(official) > 1:
        parts = _official(dataset, seed, fractions)
    elif dataset.format == "jaffe" and _has_paper_subjects(dataset):
        parts = _jaffe(dataset, str(rule), seed)
    else:
        parts = _disjoint(dataset, seed, PAPER_COUNTS.get(dataset.format, fractions))
    return replace(
        parts, notes=(*parts.notes, *_paper_note(dataset, parts), *audit(dataset, parts))
    )


def part_of_training(
    dataset: Dataset, train_rows: np.ndarray, amount: int, seed: int
) -> np.ndarray:
    """A seeded, stratified ``amount`` percent of the training rows, in their order.

    Sequences, takes and identical images are taken whole or not at all. A smaller amount is part of
    a larger one, and every class keeps at least one unit. ``amount`` 100 gives all rows.
    Raises FercoreError when ``amount`` is not from 1 to 100.
    """
    if not 1 <= amount <= 100:
        raise FercoreError(f"{dataset.name}: amount {amount} must be a percentage from 1 to 100")
    train_rows = np.asarray(train_rows, np.int64)
    if amount == 100 or not len(train_rows):
        return train_rows
    units = cluster(dataset, train_rows, by_subject=False)
    order = stratified_order(units, f"{seed}/amount")
    reached = np.cumsum(units.sizes[order])
    nearest = int(np.abs(reached - len(train_rows) * amount / 100).argmin()) + 1
    classes = len(np.unique(units.counts.argmax(axis=1)))
    chosen = units.all_rows(order[: max(nearest, classes)])
    return train_rows[np.isin(train_rows, chosen)]


def k_fold(dataset: Dataset, k: int, seed: int = 0) -> Iterator[Parts]:
    """``k`` splits whose test parts share nothing and make up the whole set, by people.

    A fold's validation part is people of the other folds, with a ninth of their images.
    Raises FercoreError when ``k`` is under 3 or above the number of people (of sequences or images,
    where the set names no people).
    """
    units = cluster(dataset, np.arange(len(dataset)), by_subject=True)
    if not 3 <= k <= len(units):
        raise FercoreError(
            f"{dataset.name}: {k} folds; choose from 3 to {len(units)}, the number of its "
            f"{_unit_name(dataset)}"
        )
    fold_of = share_out(units, apportion([1.0] * k, len(dataset)), seed)
    return (
        _with_validation(dataset, units, fold_of == fold, seed, f"Fold {fold + 1} of {k}.")
        for fold in range(k)
    )


def leave_one_subject_out(dataset: Dataset, seed: int = 0) -> Iterator[Parts]:
    """One split for each person, who is the test part; by name, in natural order.

    The validation part is other people, with a ninth of the remaining images. People who share
    identical images are left out together. Raises FercoreError when an image's person is not known
    or there are fewer than three people.
    """
    if unknown := dataset.subjects.count(""):
        first = dataset.files[dataset.subjects.index("")]
        raise FercoreError(
            f"{dataset.name}: leave-one-subject-out needs every image's subject, unknown "
            f"for {unknown:,} of {len(dataset):,} images, the first {first}; use --folds K"
        )
    units = cluster(dataset, np.arange(len(dataset)), by_subject=True)
    _require(dataset, units, len(SPLITS))
    people = [
        sorted({dataset.subjects[row] for row in rows}, key=natural_key) for rows in units.rows
    ]
    order = sorted(range(len(units)), key=lambda unit: natural_key(people[unit][0]))
    return (
        _with_validation(
            dataset, units, np.arange(len(units)) == unit, seed, f"Test: {', '.join(people[unit])}."
        )
        for unit in order
    )


# -- the rules --------------------------------------------------------------------------------


def _official(dataset: Dataset, seed: int, fractions: Sequence[float]) -> Parts:
    """The dataset's own parts; a missing one is drawn from train, away from the one held out.

    A missing test part gets the validation part's size, a missing validation part its fraction.
    """
    rows = {name: np.flatnonzero(np.array(dataset.splits) == name) for name in SPLITS}
    missing = next((name for name in ("validation", "test") if not len(rows[name])), None)
    if missing is None:
        return Parts(**rows, notes=("The official split.",))
    known = np.concatenate(list(rows.values()))
    size = len(rows["validation"]) if missing == "test" else apportion(fractions, len(known))[1]
    in_train = np.isin(np.arange(len(dataset)), rows["train"])
    for by_subject in (True, False):  # people may be in both official parts: then they stay so
        units = cluster(dataset, known, by_subject=by_subject)
        units = units.choose(np.array([in_train[unit].all() for unit in units.rows]))
        if units.sizes.sum() > size and len(units) > 1:
            break
    else:
        raise FercoreError(
            f"{dataset.name}: no {counted(size, 'image')} for a {missing} part can be taken from "
            f"its {len(rows['train']):,} training images; {_mend(dataset)}"
        )
    part = share_out(units, (int(units.sizes.sum()) - size, size), seed)
    rows[missing] = units.all_rows(part == 1)
    rows["train"] = np.setdiff1d(rows["train"], rows[missing])
    note = (
        f"The official split has no {missing} part: {counted(len(rows[missing]), 'image')} of "
        "train, without a twin elsewhere, drawn."
    )
    return Parts(**rows, notes=(note,))


def _has_paper_subjects(dataset: Dataset) -> bool:
    """Whether JAFFE's test subjects are here, and two others to train and validate."""
    people, tests = set(dataset.subjects), set(JAFFE_TEST_SUBJECTS)
    return tests <= people and len(people - tests) > 1


def _jaffe(dataset: Dataset, rule: str, seed: int) -> Parts:
    """The paper's JAFFE: three people test; 15 of the other images, or one person, validate."""
    people = cluster(dataset, np.arange(len(dataset)), by_subject=True)
    tests = np.array(
        [any(dataset.subjects[i] in JAFFE_TEST_SUBJECTS for i in unit) for unit in people.rows]
    )
    strict = rule == "strict"
    rest = people.choose(~tests)
    units = rest if strict else cluster(dataset, rest.all_rows(rest.sizes > 0), by_subject=False)
    _require(dataset, units, 2)
    sizes = apportion(PAPER_COUNTS["jaffe"][:2], int(units.sizes.sum()))
    part = share_out(units, sizes, seed)
    notes = [f"Test: {', '.join(JAFFE_TEST_SUBJECTS)}, as the paper's count demands."]
    if not strict:
        notes.append(
            "Validation images are drawn from the other people's, as the paper's count demands; "
            "--splits strict gives validation a person of its own."
        )
    return Parts(
        units.all_rows(part == 0), units.all_rows(part == 1), people.all_rows(tests), tuple(notes)
    )


def _disjoint(dataset: Dataset, seed: int, shares: Sequence[float]) -> Parts:
    """People (else sequences, else images) in one part each, near the shares as they allow."""
    units = cluster(dataset, np.arange(len(dataset)), by_subject=True)
    _require(dataset, units, len(SPLITS))
    part = share_out(units, apportion(shares, len(dataset)), seed)
    train, validation, test = (units.all_rows(part == p) for p in range(len(SPLITS)))
    counts = "/".join(f"{count:,}" for count in np.bincount(part))
    note = f"Disjoint by {_unit_name(dataset)}: {counts} in train/validation/test."
    return Parts(train, validation, test, (note,))


def _with_validation(
    dataset: Dataset, units: Units, tests: np.ndarray, seed: int, note: str
) -> Parts:
    """The split in which the units at ``tests`` test, and others validate."""
    rest = units.choose(~tests)
    part = share_out(rest, apportion(FRACTIONS[:2], int(rest.sizes.sum())), seed)
    parts = Parts(
        rest.all_rows(part == 0), rest.all_rows(part == 1), units.all_rows(tests), (note,)
    )
    return replace(parts, notes=(note, *audit(dataset, parts)))


def _read_manifest(dataset: Dataset, folder: Path) -> Parts:
    if not folder.is_dir():
        raise FercoreError(
            f"--splits {folder}: no folder of manifests, nor a rule; "
            f"{did_you_mean(folder.name, RULES)}"
        )
    return manifest.read(folder / f"{dataset.name}.csv", dataset)


# -- words and checks -------------------------------------------------------------------------


def _paper_note(dataset: Dataset, parts: Parts) -> tuple[str, ...]:
    if dataset.format not in PAPER_COUNTS:
        return ()
    here = "/".join(f"{len(rows):,}" for rows in parts.rows().values())
    paper = "/".join(f"{count:,}" for count in PAPER_COUNTS[dataset.format])
    return (f"Train/validation/test images: {here}; in the paper {paper}.",)


def _unit_name(dataset: Dataset) -> str:
    if any(dataset.subjects):
        return "subjects"
    return "sequences" if any(dataset.groups) else "distinct images"


def _require(dataset: Dataset, units: Units, parts: int) -> None:
    if len(units) < parts:
        raise FercoreError(
            f"{dataset.name}: too few {_unit_name(dataset)} ({len(units)}) for {parts} parts that "
            f"share none; {_mend(dataset)}"
        )


def _mend(dataset: Dataset) -> str:
    return (
        "add images of more people, or give a split of your own: --splits DIR with a manifest "
        f"DIR/{dataset.name}.csv"
    )
