"""How the figures were made: runs and their time, machine and versions, and how to repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercore.consumption import NAMES, Consumption, amount, describe, total
from fercore.forecast import duration
from fercore.page.study import RunFiles, StudyFiles


@dataclass(frozen=True)
class RunRow:
    """A line of the list of runs."""

    id: str
    state: str
    trained: str  # the parameters that may move
    epochs: str
    chosen: str
    time: str
    energy: tuple[str, ...]  # by each of ``sources``


def sources(study: StudyFiles) -> list[str]:
    """What energy was read of, in any run."""
    return [source for source in NAMES if any(source in run.used.joules for run in study.runs)]


def runs(study: StudyFiles) -> list[RunRow]:
    """Every run that has begun, in order; then those that are still to come."""
    begun, known = {run.id for run in study.runs}, sources(study)
    rows = [_row(run, known) for run in study.runs]
    nothing = ("",) * len(known)
    for id in study.planned:
        if id not in begun:
            rows.append(RunRow(id, "to come", "", "", "", "", nothing))
    return rows


def consumption(study: StudyFiles) -> str:
    """Time and energy of all training, as far as they were measured."""
    used = total(epoch for run in study.runs for epoch in run.epochs)
    return describe(used, study.environment)


def progress(study: StudyFiles) -> str | None:
    """How far an unfinished study is; None when it is finished."""
    if study.finished:
        return None
    tested = sum(bool(run.records) for run in study.runs)
    of = f"{tested} of {len(study.planned)} runs are" if study.planned else f"{tested} runs are"
    current = next((run for run in study.runs if run.epochs and not run.records), None)
    now = ""
    if current is not None:
        now = f" {current.id} has trained {current.progress} epochs."
    resume = f"fercore-train protocol --out {study.directory.path} --resume"
    return f"{of} trained and tested.{now} If it does not run now, continue it with {resume}."


def _row(run: RunFiles, known: Sequence[str]) -> RunRow:
    chosen = run.chosen
    state = "tested" if run.records else "in training" if run.epochs else "begun"
    how = ""
    if chosen is not None:
        of = " and ".join(
            f"{role} {100 * chosen.validation[role].accuracy:.1f} %"
            for role in run.facts.choose_on
            if role in chosen.validation
        )
        how = f"{chosen.epoch} ({of})"
    return RunRow(
        id=run.id,
        state=state,
        trained=", ".join(run.facts.strategy.trainable),
        epochs=run.progress,
        chosen=how,
        time=duration(run.used.seconds),
        energy=tuple(_energy(run.used, source) for source in known),
    )


def _energy(used: Consumption, source: str) -> str:
    if source not in used.joules:
        return "not read"
    part = ", a part" if used.is_partial(source) else ""
    return f"{amount(used.joules[source])}{part}"
