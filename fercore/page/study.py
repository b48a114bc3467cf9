"""What a run directory holds, finished or not, as one value for the page."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from fercore import results
from fercore.consumption import Consumption, Spent, total
from fercore.data.dataset import CLASSES, class_count
from fercore.errors import FercoreError
from fercore.files import read_json, read_json_lines
from fercore.findings import Column
from fercore.results import Record
from fercore.run_directory import DatasetFacts, RunDirectory


class Followed(msgspec.Struct, frozen=True):
    """A validation set after an epoch."""

    accuracy: float
    n: int


class Epoch(Spent, frozen=True, kw_only=True):
    """A line of ``metrics.jsonl``; ``validation`` is keyed by role, ``source`` or ``target``."""

    epoch: int
    train_accuracy: float
    validation: dict[str, Followed]
    best: bool


class _Strategy(msgspec.Struct, frozen=True):
    name: str
    trainable: tuple[str, ...] = ()


class _Part(msgspec.Struct, frozen=True):
    dataset: str


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ``run.json`` says of a run, as far as the page shows it."""

    id: str
    strategy: _Strategy
    target: str | None
    amount: int | None
    seed: int
    starts_from: str | None
    trains_on: tuple[_Part, ...]
    choose_on: tuple[str, ...]

    @property
    def learned_from(self) -> set[str]:
        """The datasets whose training images the run itself sees."""
        return {part.dataset for part in self.trains_on}


class _Claim(msgspec.Struct, frozen=True):
    run: RunFacts


class _State(msgspec.Struct, frozen=True):
    epochs: int


class _Tested(msgspec.Struct, frozen=True):
    records: list[Record]


@dataclass(frozen=True)
class RunFiles:
    """One run: what it is, how far it came, and what it measured (nothing until it is tested)."""

    facts: RunFacts
    planned_epochs: int  # 0 while that is not known
    epochs: tuple[Epoch, ...]
    records: tuple[Record, ...]

    @property
    def id(self) -> str:
        return self.facts.id

    @property
    def column(self) -> Column:
        return self.facts.strategy.name, self.facts.amount

    @property
    def chosen(self) -> Epoch | None:
        """The epoch whose network is kept and tested: the last that was the best so far."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)

    @property
    def progress(self) -> str:
        """How many epochs are done: ``3 of 8``."""
        return f"{len(self.epochs)} of {self.planned_epochs or 'an unknown number'}"

    @property
    def used(self) -> Consumption:
        """What its training took."""
        return total(self.epochs)


@dataclass(frozen=True)
class StudyFiles:
    """A run directory as it is now.

    Attributes:
        directory: where it lies.
        settings: ``config.toml``, as text and as plain values.
        environment: what it ran with; empty before the first run.
        datasets: facts by name, the source first; empty before the images are loaded.
        runs: that have begun, in the order of the plan as far as that is known.
        planned: ids of all runs of the study; empty where that is not known.
    """

    directory: RunDirectory
    settings_text: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    datasets: dict[str, DatasetFacts]
    runs: tuple[RunFiles, ...]
    planned: tuple[str, ...]

    @cached_property
    def records(self) -> list[Record]:
        """Of all tested runs, with forgetting and gain."""
        return results.compared([record for run in self.runs for record in run.records])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of those that its datasets and networks know."""
        return CLASSES[: class_count(self.settings.get("contempt", False))]

    @property
    def source(self) -> str | None:
        return next(iter(self.datasets), None)

    @property
    def seeds(self) -> list[int]:
        """Of the runs that have begun."""
        return sorted({run.facts.seed for run in self.runs})

    @property
    def synthetic(self) -> bool:
        """Whether any image was drawn by a program."""
        return any(facts.synthetic for facts in self.datasets.values())

    @property
    def finished(self) -> bool:
        """Whether everything has been tested and written down."""
        missing = set(self.planned) - {run.id for run in self.runs if run.records}
        return self.directory.results.exists() and not missing

    def lineage(self, run: RunFiles) -> list[RunFiles]:
        """The run, the one it starts from, and so on."""
        by_id = {other.id: other for other in self.runs}
        found = [run]
        while (parent := by_id.get(found[-1].facts.starts_from or "")) is not None:
            found.append(parent)
        return found

    def starts_from_baseline(self, run: RunFiles) -> bool:
        """Whether BL is what a run starts from, directly or not."""
        return self.lineage(run)[-1].facts.strategy.name == "BL"


def read(directory: RunDirectory, planned: Sequence[str] = ()) -> StudyFiles:
    """Everything that a study has left so far.

    Args:
        directory: of the study.
        planned: ids of its runs, in order, where they are known.

    Raises:
        FercoreError: the folder is of no study, or a file in it is damaged.
    """
    directory.check_study()
    text, settings = _settings(directory.config)
    datasets = (
        read_json(directory.datasets, dict[str, DatasetFacts])
        if directory.datasets.exists()
        else {}
    )
    runs = [_run(path.parent) for path in sorted((directory.path / "runs").glob("*/run.json"))]
    order = _order(settings, list(datasets), planned)
    return StudyFiles(
        directory=directory,
        settings_text=text,
        settings=settings,
        environment=(
            read_json(directory.environment, dict[str, Any])
            if directory.environment.exists()
            else {}
        ),
        datasets=datasets,
        runs=tuple(sorted(runs, key=order)),
        planned=tuple(planned),
    )


def _settings(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FercoreError(f"{path}: is not valid TOML ({error}); restore it") from None


def _run(folder: Path) -> RunFiles:
    metrics, state, tested = (
        folder / name for name in ("metrics.jsonl", "state.json", "results.json")
    )
    return RunFiles(
        facts=read_json(folder / "run.json", _Claim).run,
        planned_epochs=read_json(state, _State).epochs if state.exists() else 0,
        epochs=tuple(read_json_lines(metrics, Epoch)) if metrics.exists() else (),
        records=tuple(read_json(tested, _Tested).records) if tested.exists() else (),
    )


def _order(
    settings: dict[str, Any], datasets: list[str], planned: Sequence[str]
) -> Callable[[RunFiles], tuple[int, ...]]:
    """The key by which runs are sorted: their place in the plan, else as the table has them."""
    strategies = ["BL", *settings.get("strategies", ())]

    def place(names: Sequence[str], name: str) -> int:
        return names.index(name) if name in names else len(names)

    def key(run: RunFiles) -> tuple[int, ...]:
        facts = run.facts
        return (
            place(planned, run.id),
            facts.seed,
            -1 if facts.target is None else place(datasets, facts.target),
            facts.amount or 0,
            place(strategies, facts.strategy.name),
        )

    return key
