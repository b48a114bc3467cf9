"""The images of a study: loaded, split, and handed out by the parts that runs name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fercore.config import Study, StudyDataset
from fercore.data import DatasetSpec, load, manifest
from fercore.data.classes import CONTEMPT
from fercore.data.dataset import CLASSES, Dataset
from fercore.data.parts import Parts
from fercore.data.splits import RULES, part_of_training, split
from fercore.errors import FercoreError
from fercore.plan import Part
from fercore.run_directory import DatasetFacts


@dataclass(frozen=True, eq=False)
class SplitDataset:
    """A dataset with its split and the shares of its training part that a study uses."""

    dataset: Dataset
    parts: Parts
    shares: Mapping[int, np.ndarray] = field(default_factory=dict)  # percent -> training rows

    def rows(self, part: Part) -> np.ndarray:
        """The rows (int64) of a part, or of a share of the training part."""
        if part.percent != 100:
            return self.shares[part.percent]
        return self.parts.rows()[part.part]

    @cached_property
    def digest(self) -> str:
        """SHA-256 that changes when an image, a label or target, the split or a share does."""
        digest = hashlib.sha256(self.dataset.images.tobytes())
        digest.update(self.dataset.labels.astype("<i4").tobytes())
        if self.dataset.targets is not None:
            digest.update(f"targets {self.dataset.multi_target}".encode())
            digest.update(self.dataset.targets.astype("<f4").tobytes())
        for rows in (*self.parts.rows().values(), *self.shares.values()):
            digest.update(hashlib.sha256(rows.astype("<i8").tobytes()).digest())
        return digest.hexdigest()

    def write_manifests(self, folder: Path) -> None:
        """``<dataset>.csv``, and ``<percent>/<dataset>.csv`` with that share for its train part."""
        file = f"{self.dataset.name}.csv"
        manifest.write(folder / file, self.dataset, self.parts)
        for percent, rows in self.shares.items():
            share = replace(self.parts, train=rows)
            manifest.write(folder / str(percent) / file, self.dataset, share)

    def facts(self) -> DatasetFacts:
        """What a reader of the run directory should know."""
        return DatasetFacts(
            format=self.dataset.format,
            synthetic=self.dataset.synthetic,
            images={name: len(rows) for name, rows in self.parts.rows().items()},
            shares={str(percent): len(rows) for percent, rows in self.shares.items()},
            digest=self.digest,
            notes=(*self.dataset.notes, *self.parts.notes),
            skipped=tuple((entry.file, entry.reason) for entry in self.dataset.skipped),
        )


@dataclass(frozen=True, eq=False)
class StudyData:
    """Every dataset of a study, by name; the source comes first."""

    datasets: Mapping[str, SplitDataset]

    @property
    def source(self) -> str:
        return next(iter(self.datasets))

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.datasets)[1:]

    @property
    def synthetic(self) -> bool:
        """Whether any image was drawn by a program."""
        return any(entry.dataset.synthetic for entry in self.datasets.values())

    def select(self, part: Part) -> Dataset:
        """The images of one part."""
        entry = self.datasets[part.dataset]
        return entry.dataset.select(entry.rows(part))

    def join(self, parts: Sequence[Part], sampling: str = "union") -> Dataset:
        """Several parts as one training set.

        With ``balanced`` sampling the rows of every part are repeated, in turn, until it has as
        many as the largest: each dataset is then seen equally often in an epoch.
        """
        pieces = [self.select(part) for part in parts]
        if sampling == "balanced":
            largest = max(map(len, pieces))
            pieces = [piece.select(np.resize(np.arange(len(piece)), largest)) for piece in pieces]
        return pieces[0] if len(pieces) == 1 else _concatenated(pieces)

    def size(self, part: Part) -> int:
        """How many images a part has."""
        return len(self.datasets[part.dataset].rows(part))

    def joined_size(self, parts: Sequence[Part], sampling: str = "union") -> int:
        """How many images ``join`` would give, without copying one."""
        sizes = [self.size(part) for part in parts]
        return max(sizes) * len(sizes) if sampling == "balanced" else sum(sizes)

    def shared_classes(self, target: str | None) -> tuple[int, ...]:
        """The classes that both the source and the target (if any) have images of."""
        names = (self.source, target or self.source)
        ours, theirs = (self.datasets[name].dataset.labels for name in names)
        return tuple(int(label) for label in np.intersect1d(ours, theirs))

    def facts(self) -> dict[str, DatasetFacts]:
        """The facts of every dataset, by name."""
        return {name: entry.facts() for name, entry in self.datasets.items()}


def load_study(
    study: Study,
    faces: Path,
    *,
    cache: bool = True,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> StudyData:
    """Load and split the datasets of a study.

    Args:
        study: what to load, by which rule to split it, and which shares are needed.
        faces: where a synthetic study draws its datasets, or finds them drawn.
        cache: keep decoded images for the next time.
        on_progress: told (dataset, images drawn, images to draw).

    Raises:
        FercoreError: a dataset cannot be read or split, a target shares no class with the source,
            or no dataset has an image of contempt although that is asked for.
    """
    specs = _drawn(study, faces, on_progress) if study.synthetic else _chosen(study)
    rules = _rules(study, [spec.name for spec in specs])
    data = StudyData(
        {
            spec.name: _split(
                study,
                load_one(spec, contempt=study.contempt, cache=cache),
                rules[spec.name],
                study.amounts if i else (),
            )
            for i, spec in enumerate(specs)
        }
    )
    for target in data.targets:
        if not data.shared_classes(target):
            raise FercoreError(f"{target} and {data.source} have no class in common")
    datasets = [entry.dataset for entry in data.datasets.values()]
    if study.contempt:
        _check_contempt(datasets)
    check_targets(datasets)
    return _with_twins_noted(data)


def load_one(choice: StudyDataset, *, contempt: bool = False, cache: bool = True) -> Dataset:
    """One dataset as a study describes it; FercoreError when it cannot be read."""
    from fercore.data.images import Crop

    spec = DatasetSpec(choice.name, choice.format, Path(choice.path))
    crop = None if choice.crop is None else Crop(*choice.crop)
    return load(spec, crop, choice.options, contempt=contempt, cache=cache)


def _chosen(study: Study) -> list[StudyDataset]:
    return [choice for choice in (study.source, *study.targets) if choice is not None]


def _drawn(
    study: Study, faces: Path, on_progress: Callable[[str, int, int], None] | None
) -> list[StudyDataset]:
    from fercore.data import synthetic

    paths = synthetic.write_study(faces, study.seed, on_progress=on_progress)
    return [StudyDataset(name=name, format=name, path=path) for name, path in paths.items()]


def _rules(study: Study, names: Sequence[str]) -> dict[str, str]:
    """How each dataset is split.

    A folder of manifests need not have one for every dataset: a fold's has the target's alone. The
    others are split by the rule "paper"; with none at all, the folder is a mistake.
    """
    found = [name for name in names if (Path(study.splits) / f"{name}.csv").exists()]
    if study.splits in RULES or not found:
        return dict.fromkeys(names, study.splits)
    return {name: study.splits if name in found else "paper" for name in names}


def _split(study: Study, dataset: Dataset, rule: str, amounts: Sequence[int]) -> SplitDataset:
    parts = split(dataset, rule, study.seed)
    if rule != study.splits:
        note = f"{study.splits} has no manifest {dataset.name}.csv: split by the rule '{rule}'."
        parts = replace(parts, notes=(note, *parts.notes))
    for name, rows in parts.rows().items():
        if len(rows) == 0:
            raise FercoreError(
                f"{dataset.name}: there is no {name} image; give a split with --splits DIR"
            )
    shares = {
        amount: part_of_training(dataset, parts.train, amount, study.seed)
        for amount in amounts
        if amount != 100
    }
    return SplitDataset(dataset, parts, shares)


def _check_contempt(datasets: Sequence[Dataset]) -> None:
    label = CLASSES.index(CONTEMPT)
    if not any(label in dataset.labels for dataset in datasets):
        raise FercoreError(
            "contempt is asked for, but no dataset has an image of it; leave it out of the settings"
        )


def check_targets(datasets: Sequence[Dataset]) -> None:
    """One loss trains on them all: FercoreError for both shares and sets of right answers."""
    several = [d.name for d in datasets if d.targets is not None and d.multi_target]
    shared = [d.name for d in datasets if d.targets is not None and not d.multi_target]
    if several and shared:
        raise FercoreError(
            f"{several[0]} has labels 'multi-target' and {shared[0]} 'probability'; a study trains "
            "with one of them: change the options of one dataset"
        )


def _with_twins_noted(data: StudyData) -> StudyData:
    """The same data; notes count the test images that the other set of a pair trains on."""
    pairs = [pair for t in data.targets for pair in ((data.source, t), (t, data.source))]
    datasets = dict(data.datasets)

    def images(name: str, part: str) -> list[str]:
        entry = datasets[name]
        return [entry.dataset.sha256[row] for row in entry.parts.rows()[part]]

    for name, other in pairs:
        tested, seen = images(name, "test"), set(images(other, "train"))
        if twins := sum(image in seen for image in tested):
            note = f"Exact twins in {other}'s train: {twins:,} of {len(tested):,} test images."
            entry = datasets[name]
            parts = replace(entry.parts, notes=(*entry.parts.notes, note))
            datasets[name] = replace(entry, parts=parts)
    return StudyData(datasets)


def _concatenated(pieces: Sequence[Dataset]) -> Dataset:
    def all_of(field: str) -> tuple[str, ...]:
        return tuple(value for piece in pieces for value in getattr(piece, field))

    targets = None
    if any(piece.targets is not None for piece in pieces):
        targets = np.concatenate([_targets(piece) for piece in pieces])
    return Dataset(
        name="+".join(piece.name for piece in pieces),
        format="+".join(piece.format for piece in pieces),
        images=np.concatenate([piece.images for piece in pieces]),
        labels=np.concatenate([piece.labels for piece in pieces]),
        files=all_of("files"),
        subjects=all_of("subjects"),
        groups=all_of("groups"),
        splits=all_of("splits"),
        sha256=all_of("sha256"),
        synthetic=any(piece.synthetic for piece in pieces),
        targets=targets,
        multi_target=any(piece.multi_target for piece in pieces),
        classes=pieces[0].classes,
    )


def _targets(dataset: Dataset) -> np.ndarray:
    """Its targets; labels are targets that one class has to itself."""
    if dataset.targets is not None:
        return dataset.targets
    one_hot: np.ndarray = np.eye(dataset.classes, dtype=np.float32)[dataset.labels]
    return one_hot
