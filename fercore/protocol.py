"""Carrying out a study: its plan of runs, in order, with everything written down.

What is finished is not done again and what was interrupted continues, so that carrying out a study
twice costs nothing and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from fercore import (
    backends,
    energy,
    environment,
    freeze,
    memory,
    models,
    results,
    side_by_side,
    tensor_file,
    training,
)
from fercore.analysis import Analyst
from fercore.backends.interface import Backend
from fercore.config import Study, read_study
from fercore.config_text import changes, to_toml
from fercore.data.dataset import BASIC, CLASSES
from fercore.energy import Meter
from fercore.errors import FercoreError
from fercore.execution import execute_run, mark_of
from fercore.features import FeatureStore
from fercore.files import read_json, write_atomically
from fercore.forecast import Job, Work
from fercore.memory import Workload
from fercore.plan import Part, Run, fingerprint, make_plan
from fercore.progress import Listener
from fercore.results import Record
from fercore.run_directory import DatasetFacts, RunDirectory
from fercore.study_data import StudyData, load_study


def execute(
    study: Study,
    directory: RunDirectory,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    jobs: int | None = None,
    listener: Listener = Listener(),
) -> list[Record]:
    """Carry out every run of a study; the records of all of them.

    Args:
        study: what to compare.
        directory: where to write; empty or absent unless ``resume``.
        resume: continue what is there.
        accept_changes: continue although settings, images or the machine have changed. Runs whose
            own settings or images changed are trained again.
        jobs: how many runs to carry out side by side; by default what suits the backend.
        listener: told what happens.

    Raises:
        FercoreError: bad data or settings, a folder in use, changes that were not accepted.
    """
    if not (resume and directory.config.exists()):
        directory.check_unused()
    with directory.locked():
        backend = make_backend(study)
        meter = energy.open_meter(backend)
        facts = {**environment.describe(backend), "energy": meter.description}
        _refuse(directory, _changed_settings(directory, study, facts), accept_changes)
        data = load_study(study, directory.faces, on_progress=listener.drawing)
        _refuse(directory, _changed_data(directory, data), accept_changes)
        runs = make_plan(study, data.source, data.targets)
        work = make_jobs(runs, data, backend)
        workloads = make_workloads(runs, data)
        needed = memory.refuse_what_does_not_fit(workloads, backend, study.precision)
        marks = _marks(runs, data)
        _refuse(directory, _changed_runs(directory, marks), accept_changes)
        write_atomically(directory.config, to_toml(study))
        write_atomically(directory.environment, json.dumps(facts, indent=1) + "\n")
        datasets = msgspec.to_builtins(data.facts())
        text = json.dumps(datasets, indent=1, ensure_ascii=False) + "\n"
        # Names of skipped files need not be valid Unicode, which JSON must be.
        write_atomically(directory.datasets, text.encode(errors="replace"))
        for entry in data.datasets.values():
            entry.write_manifests(directory.splits)
        listener.planned(work, data)
        operations = sum(job.operations_a_step for job in work) / len(work)
        jobs = jobs or side_by_side.default_jobs(backend, needed, operations)
        with meter:
            return _execute_all(runs, marks, directory, data, backend, meter, listener, jobs)


def make_backend(study: Study) -> Backend:
    """The backend that a study asks for, in its precision."""
    options = {"dtype": "float32"} if study.device == "reference" else {}
    return backends.get(study.device, precision=study.precision, **options)


def measure_work(runs: Sequence[Run], backend: Backend) -> dict[str, Work]:
    """What every strategy leaves to do, by name.

    Trying them all shows a wrong pattern before hours of training: FercoreError.
    """
    model = models.build(runs[0].model, runs[0].classes, backend=backend)
    works = {}
    for strategy in {run.strategy.name: run.strategy for run in runs}.values():
        freeze.apply(model, strategy)
        depth = model.frozen_layers()
        works[strategy.name] = Work(model.flops(slice(depth)), model.flops(slice(depth, None)))
    return works


def make_jobs(runs: Sequence[Run], data: StudyData, backend: Backend) -> list[Job]:
    """How much there is to do in each run; raises like ``measure_work``.

    FercoreError, too, when a network that a run takes cannot be read or is not the study's model.
    """
    for run in runs:
        if run.network is not None:
            _check_network(Path(run.network), run)
    works = measure_work(runs, backend)
    return [_job(run, data, works[run.strategy.name]) for run in runs]


def _check_network(path: Path, run: Run) -> None:
    facts = tensor_file.read(path).metadata
    if (found := facts.get("model")) != run.model:
        raise FercoreError(
            f"{path}: is a {found}, but the study's model is {run.model}; give another baseline or "
            "--model"
        )
    if (found := facts.get("classes")) != (wanted := list(CLASSES[: run.classes])):
        raise FercoreError(
            f"{path}: its classes are not the study's ({found}, not {wanted}); give another "
            f"baseline, or {'leave out' if run.classes > BASIC else 'add'} --contempt"
        )


def _job(run: Run, data: StudyData, work: Work) -> Job:
    images = data.joined_size(run.trains_on, run.recipe.sampling)
    recipe = run.recipe_for(images)
    epochs = 0 if run.network else recipe.epochs
    targets = data.targets if run.target is None else (run.target,)
    return Job(
        run=run.id,
        kind=" ".join((*run.strategy.trainable, *run.strategy.channels)),
        work=work,
        images=images,
        epochs=epochs,
        steps=epochs * recipe.steps_per_epoch(images),
        views=recipe.distinct_views(),
        followed=sum(_followed(run, data)),
        tested=sum(
            data.size(Part(name, part))
            for name in (data.source, *targets)
            for part in ("validation", "test")
        ),
    )


def make_workloads(runs: Sequence[Run], data: StudyData) -> list[Workload]:
    """What each strategy asks of memory, in the largest of its runs."""
    largest: dict[str, Workload] = {}
    for run in runs:
        workload = _workload(run, data)
        before = largest.get(run.strategy.name, workload)
        largest[run.strategy.name] = replace(
            workload,
            images=max(workload.images, before.images),
            validation=tuple(map(max, workload.validation, before.validation)),
            tested=max(workload.tested, before.tested),
        )
    return list(largest.values())


def _workload(run: Run, data: StudyData) -> Workload:
    images = data.joined_size(run.trains_on, run.recipe.sampling)
    targets = data.targets if run.target is None else (run.target,)
    return Workload(
        run.model,
        run.strategy,
        run.recipe_for(images),
        images,
        _followed(run, data),
        max(
            data.size(Part(name, part))
            for name in (data.source, *targets)
            for part in ("validation", "test")
        ),
        classes=run.classes,
    )


def _followed(run: Run, data: StudyData) -> tuple[int, ...]:
    """Images of each set that is tested after every epoch."""
    return tuple(
        data.size(part) if role in run.choose_on else min(data.size(part), training.FOLLOWED)
        for role, part in run.validation.items()
    )


def _marks(runs: Sequence[Run], data: StudyData) -> dict[str, str]:
    """The fingerprint of every run, by its id."""
    digests = {name: entry.digest for name, entry in data.datasets.items()}
    marks: dict[str, str] = {}
    for run in runs:
        parent = marks[run.starts_from] if run.starts_from else None
        if run.network is not None:
            parent = tensor_file.read(Path(run.network)).digest
        marks[run.id] = fingerprint(run, parent, digests)
    return marks


def _execute_all(
    runs: Sequence[Run],
    marks: Mapping[str, str],
    directory: RunDirectory,
    data: StudyData,
    backend: Backend,
    meter: Meter,
    listener: Listener,
    jobs: int,
) -> list[Record]:
    store = FeatureStore(directory.features)
    analyst = Analyst(runs, directory, data)

    def execute_one(run: Run, watched: Listener) -> list[Record]:
        start = directory.run(run.starts_from) if run.starts_from else None
        folder, mark = directory.run(run.id), marks[run.id]
        with store.shelf() as shelf, meter.share() as used:
            tested = execute_run(run, mark, data, folder, start, backend, shelf, used, watched)
        if analyst.can_analyse(run):
            analyst.analyse(run)
        return tested

    records = side_by_side.carry_out(runs, execute_one, backend, listener, jobs=jobs)
    store.remove()
    for run in runs:
        analyst.analyse(run)
    return results.compared(records)


# -- what has changed since the folder was written --------------------------------------------


def _changed_settings(directory: RunDirectory, study: Study, facts: dict[str, object]) -> list[str]:
    changed = []
    if directory.config.exists():
        changed += changes(read_study(directory.config), study)
    if directory.environment.exists():
        before = read_json(directory.environment, dict[str, Any])
        changed += environment.differences(before, facts)
    return changed


def _changed_data(directory: RunDirectory, data: StudyData) -> list[str]:
    if not directory.datasets.exists():
        return []
    before = read_json(directory.datasets, dict[str, DatasetFacts])
    return [
        f"{name}: other images, labels or parts"
        for name, facts in data.facts().items()
        if name in before and before[name].digest != facts.digest
    ]


def _changed_runs(directory: RunDirectory, marks: Mapping[str, str]) -> list[str]:
    """What the folder's own record does not tell, because it was edited, lost or accepted."""
    return [
        f"run {run}: other settings or images"
        for run, mark in marks.items()
        if mark_of(directory.run(run)) not in (mark, None)
    ]


def _refuse(directory: RunDirectory, changed: Sequence[str], accept: bool) -> None:
    if changed and not accept:
        raise FercoreError(
            f"{directory.path}: cannot be continued, because something has changed: "
            f"{'; '.join(changed)}. Go back to what it was, or add --accept-changes to train "
            "again what is affected"
        )
