"""What a study would do, and how long it would take here: ``--dry-run``."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from fercore import freeze, memory, models, training
from fercore.backends.interface import Backend
from fercore.config import Study
from fercore.data.dataset import Dataset
from fercore.forecast import Forecast, Job, duration
from fercore.memory import Workload
from fercore.plan import Run, make_plan
from fercore.progress import describe_data
from fercore.protocol import make_backend, make_jobs, make_workloads
from fercore.study_data import StudyData, load_study
from fercore.timing import random_batch

PROBE_BATCHES = 2
"""Batches in an epoch of a probe."""


def dry_run(study: Study) -> str:
    """The runs of a study with their images, steps and estimated times; nothing is written."""
    backend = make_backend(study)
    with tempfile.TemporaryDirectory() as scratch:
        data = load_study(study, Path(scratch), cache=not study.synthetic)
    runs = make_plan(study, data.source, data.targets)
    jobs = make_jobs(runs, data, backend)
    workloads = make_workloads(runs, data)
    memory.refuse_what_does_not_fit(workloads, backend, study.precision)
    text = describe_plan(runs, jobs, data, measure_speeds(runs, jobs, backend))
    return text + describe_memory(workloads, backend, study.precision)


def measure_speeds(runs: Sequence[Run], jobs: Sequence[Job], backend: Backend) -> Forecast:
    """A forecast that knows every kind of run, from training each briefly on noise."""
    forecast = Forecast()
    for run, job in {job.kind: (run, job) for run, job in zip(runs, jobs, strict=True)}.values():
        _probe(run, job, forecast, backend)
    return forecast


def describe_plan(
    runs: Sequence[Run], jobs: Sequence[Job], data: StudyData, forecast: Forecast
) -> str:
    """A table of the runs, and the time for all of them."""
    rows = [("run", "starts from", "images", "epochs", "steps", "time")]
    for run, work in zip(runs, jobs, strict=True):
        time = forecast.seconds(work)
        rows.append(
            (
                run.id,
                "given" if run.network else run.starts_from or "random",
                str(work.images),
                str(work.epochs),
                str(work.steps),
                "unknown" if time is None else duration(time),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [*describe_data(data), ""]
    for row in rows:
        left = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right))
    total = forecast.total(dict.fromkeys(jobs, 0))
    lines += ["", f"{len(runs)} runs; about {'unknown' if total is None else duration(total)}"]
    return "\n".join(lines) + "\n"


def describe_memory(workloads: Sequence[Workload], backend: Backend, precision: str) -> str:
    """The most memory that any strategy takes, and how much there is."""
    peak, strategy = max(
        (memory.footprint(workload, backend.name, precision).peak, workload.strategy.name)
        for workload in workloads
    )
    free = backend.free_memory()
    left = "" if free is None else f"; {backend.name} has {memory.gib(free)} left"
    return f"at most {memory.gib(peak)} of memory, for {strategy}{left}\n"


def _probe(run: Run, job: Job, forecast: Forecast, backend: Backend) -> None:
    """Two epochs of new views, of which the first warms up; then two of the same ones again."""
    views = 2 if job.views else 0
    recipe = msgspec.structs.replace(
        run.recipe, epochs=2 + views, views=views, min_steps=0, early_stopping=0
    )
    probe = dataclasses.replace(job, views=views)
    noise = _noise(PROBE_BATCHES * recipe.batch_size, run.classes)
    model = models.build(run.model, run.classes, backend=backend)
    freeze.apply(model, run.strategy)
    with tempfile.TemporaryDirectory() as scratch:
        training.train(
            model,
            noise,
            {"noise": noise.select(range(1))},
            recipe,
            choose_on=("noise",),
            backend=backend,
            seed=0,
            run=0,
            folder=Path(scratch) / run.id,
            on_epoch=lambda line: forecast.observe(probe, line["epoch"], line["images_per_s"]),
        )


def _noise(count: int, classes: int) -> Dataset:
    labels = (np.arange(count) % classes).astype(np.int32)
    return memory.noise(random_batch(count)[0], labels)
