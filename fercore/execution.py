"""Carrying out one run of a plan: train it, test its best checkpoint, write both down.

A run needs nothing but its value, the study's images and the folder of the run it starts from, so
it can be carried out in any process. Its folder says how far it came: what is finished is not done
again, what was interrupted continues.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fercore import answers, checkpoint, drift, freeze, models, tensor_file, training
from fercore.backends.interface import Backend
from fercore.data.dataset import Dataset
from fercore.energy import Lap
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from fercore.features import Shelf
from fercore.files import read_json, write_atomically
from fercore.nn import Model
from fercore.plan import Part, Run
from fercore.progress import Listener
from fercore.results import Record, about, score
from fercore.study_data import StudyData
from fercore.training import Outcome


class Claim(msgspec.Struct, frozen=True):
    """What ``run.json`` says: which run the folder belongs to."""

    fingerprint: str
    run: dict[str, Any]


class Tested(msgspec.Struct, frozen=True):
    """What a run's ``results.json`` says: on what, with which network, and what was measured."""

    tested: dict[str, str]  # dataset -> digest
    network: str  # digest of best.safetensors
    answers: str  # digest of answers.safetensors
    records: list[Record]


RUN_FILES = (
    "run.json",
    "metrics.jsonl",
    "best.safetensors",
    "last.safetensors",
    "state.json",
    answers.FILE,
    "results.json",
    drift.FILE,
)


def execute_run(
    run: Run,
    mark: str,
    data: StudyData,
    folder: Path,
    start: Path | None,
    backend: Backend,
    shelf: Shelf,
    energy: Lap,
    listener: Listener,
) -> list[Record]:
    """Train one network, or take a given one, and test it; at once if that has been done.

    Args:
        run: what to train, or to take.
        mark: the run's fingerprint; files that were made under another one are discarded.
        data: the study's images.
        folder: of the run.
        start: the folder of the run that it starts from, which must be finished.
        backend: where to compute.
        shelf: where the outputs of frozen layers are kept.
        energy: tells what was used.
        listener: told of epochs and steps.

    Returns:
        One record for each target that the run is tested on.
    """
    _claim(folder, run, mark)
    targets = data.targets if run.target is None else (run.target,)
    tested = {name: data.datasets[name].digest for name in (data.source, *targets)}
    if (done := _tested_before(folder, tested)) is not None:
        return done
    outcome = _train(run, data, folder, start, backend, shelf, energy, listener)
    best = tensor_file.read(folder / "best.safetensors")
    model = checkpoint.build(best, backend)
    freeze.apply(model, run.strategy)  # what it holds still has been seen by runs before
    logits = _test(data, tested, model, backend, shelf)
    records = list(_measure(run, data, targets, outcome, logits))
    answered = answers.write(folder, logits, tested)
    content = msgspec.to_builtins(Tested(tested, best.digest, answered, records))
    write_atomically(folder / "results.json", json.dumps(content) + "\n")
    return records


def mark_of(folder: Path) -> str | None:
    """The fingerprint of the run whose files are in ``folder``; None if there are none."""
    path = folder / "run.json"
    return read_json(path, Claim).fingerprint if path.exists() else None


def tested_network(folder: Path) -> str:
    """The digest of the network that the run in ``folder`` was tested with.

    Raises FercoreError when the run is not finished.
    """
    return read_json(folder / "results.json", Tested).network


def training_images(run: Run, data: StudyData) -> Dataset:
    """What the run learns from."""
    return data.join(run.trains_on, run.recipe.sampling)


def _tested_before(folder: Path, tested: dict[str, str]) -> list[Record] | None:
    """The records of an earlier test of the run's network on the same images; None without one.

    Answers that are missing or damaged are no test: they are made again.

    Raises FercoreError when the network is damaged or another one.
    """
    path, network = folder / "results.json", folder / "best.safetensors"
    if not (path.exists() and network.exists()):
        return None
    content = read_json(path, dict[str, Any])
    try:
        before = msgspec.convert(content, Tested)
    except msgspec.ValidationError:  # written by another version: test again
        return None
    if tensor_file.read(network).digest != before.network:
        raise FercoreError(
            f"{network}: is not the network that was tested; restore it, or delete it and train "
            "again"
        )
    try:
        answered = tensor_file.read(folder / answers.FILE).digest
    except FercoreError:
        return None
    same = before.tested == tested and before.answers == answered
    return before.records if same else None


def _claim(folder: Path, run: Run, mark: str) -> None:
    """Make the folder this run's: whatever was left there under another mark goes."""
    if mark_of(folder) == mark:
        return
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
    content = msgspec.to_builtins(Claim(mark, msgspec.to_builtins(run)))
    write_atomically(folder / "run.json", json.dumps(content, indent=1) + "\n")


def _train(
    run: Run,
    data: StudyData,
    folder: Path,
    start: Path | None,
    backend: Backend,
    shelf: Shelf,
    energy: Lap,
    listener: Listener,
) -> Outcome:
    if run.network is not None:
        given = checkpoint.load_model(Path(run.network), backend)
        checkpoint.save_model(folder / "best.safetensors", given)
        return Outcome(best_epoch=0, best_accuracy=math.nan, epochs=0)
    if start is None:
        model = models.build(run.model, run.classes, run.seed, backend=backend)
    else:
        model = checkpoint.load_model(start / "best.safetensors", backend)
    freeze.apply(model, run.strategy)
    images = training_images(run, data)
    return training.train(
        model,
        images,
        {role: data.select(part) for role, part in run.validation.items()},
        run.recipe_for(len(images)),
        choose_on=run.choose_on,
        backend=backend,
        seed=run.seed,
        run=run.number,
        folder=folder,
        resume=True,
        shelf=shelf,
        energy=energy,
        on_step=partial(listener.step, run.id),
        on_epoch=partial(listener.epoch, run.id),
    )


def _test(
    data: StudyData,
    datasets: Iterable[str],
    model: Model,
    backend: Backend,
    shelf: Shelf,
) -> dict[answers.Key, np.ndarray]:
    """The network's logits for the images that it is tested on, by dataset and part."""
    return {
        (name, part): predict_logits(
            model, data.select(Part(name, part)).images, backend=backend, shelf=shelf
        )
        for name in datasets
        for part in answers.TESTED
    }


def _measure(
    run: Run,
    data: StudyData,
    targets: tuple[str, ...],
    outcome: Outcome,
    logits: Mapping[answers.Key, np.ndarray],
) -> Iterator[Record]:
    """A record for each target; a single one, on the source alone, if there is none."""
    about_run: dict[str, Any] = {
        "run": run.id,
        "strategy": run.strategy.name,
        "source": data.source,
        "amount": run.amount,
        "seed": run.seed,
        "model": run.model,
        "classes": run.classes,
        "synthetic": data.synthetic,
        "training_images": 0 if run.network else sum(map(data.size, run.trains_on)),
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
    }

    def fields(role: str, dataset: str, shared: Sequence[int]) -> dict[str, Any]:
        test, validation = (
            score(logits[dataset, part], data.select(Part(dataset, part)).labels, shared)
            for part in answers.TESTED
        )
        return about(role, test, validation)

    for target in targets or (None,):
        shared = data.shared_classes(target)
        on_both = fields("source", data.source, shared)
        if target is not None:
            on_both |= fields("target", target, shared)
        yield Record(target=target, shared_classes=len(shared), **about_run, **on_both)
