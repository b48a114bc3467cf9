"""Learning curves: what was known of source and target after every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fercore.findings import Column, column_name
from fercore.page import svg
from fercore.page.study import RunFiles, StudyFiles
from fercore.page.svg import Chart, Mark, Point, Scale
from fercore.words import fixed

WIDTH, HEIGHT = 250, 168
LEFT, RIGHT, TOP, BOTTOM = 26, 242, 8, 142


def groups(study: StudyFiles) -> Iterator[tuple[str | None, list[Chart]]]:
    """Charts of the runs on the source alone (None), then of each target: one a column."""
    for target in (None, *list(study.datasets)[1:]):
        runs = [run for run in study.runs if run.facts.target == target and run.epochs]
        strategies = list(dict.fromkeys(run.facts.strategy.name for run in runs))
        columns = sorted(
            {run.column for run in runs}, key=lambda c: (strategies.index(c[0]), c[1] or 0)
        )
        charts = [
            _chart([run for run in runs if run.column == column], column, study)
            for column in columns
        ]
        if charts:
            yield target, charts


def _chart(runs: Sequence[RunFiles], column: Column, study: StudyFiles) -> Chart:
    """All seeds of one column in one drawing."""
    longest = max(max(run.planned_epochs, len(run.epochs)) for run in runs)
    x = Scale(0, longest, LEFT, RIGHT)
    y = Scale(0, 100, BOTTOM, TOP)
    marks = [*_frame(x, y), *_starts(runs, study, x, y)]
    for run in runs:
        marks += _lines(run, x, y)
    return Chart(
        id=f"curve-{study.runs.index(runs[0])}",
        title=column_name(column),
        description=" ".join(_described(run, study) for run in runs),
        width=WIDTH,
        height=HEIGHT,
        marks=marks,
    )


def _frame(x: Scale, y: Scale) -> list[Mark]:
    marks = []
    for tick in (0.0, 25.0, 50.0, 75.0, 100.0):
        marks.append(svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "grid"))
        if tick % 50 == 0:
            marks.append(svg.text(LEFT - 4, y(tick) + 3.5, f"{tick:g}", "tick", "end"))
    for tick in x.ticks(5):
        if tick == int(tick):
            marks.append(svg.text(x(tick), BOTTOM + 13, f"{tick:g}", "tick", "middle"))
    marks.append(svg.text((LEFT + RIGHT) / 2, BOTTOM + 24, "epoch", "tick", "middle"))
    return marks


def _starts(runs: Sequence[RunFiles], study: StudyFiles, x: Scale, y: Scale) -> list[Mark]:
    """What the network knew of the source before it was adapted, as a level."""
    known = {level for run in runs if (level := before(run, study)) is not None}
    return [svg.line((LEFT, y(100 * level)), (RIGHT, y(100 * level)), "before") for level in known]


def before(run: RunFiles, study: StudyFiles) -> float | None:
    """Source accuracy of the network that a run starts from; None for random weights."""
    start = next((other for other in study.runs if other.id == run.facts.starts_from), None)
    chosen = start.chosen if start is not None else None
    return chosen.validation["source"].accuracy if chosen is not None else None


def _lines(run: RunFiles, x: Scale, y: Scale) -> list[Mark]:
    def along(values: Sequence[float], css: str) -> Mark:
        points: list[Point] = [
            (x(epoch.epoch), y(100 * value))
            for epoch, value in zip(run.epochs, values, strict=True)
        ]
        return svg.path(points, css)

    marks = [along([epoch.train_accuracy for epoch in run.epochs], "curve train")]
    chosen = run.chosen
    if chosen is not None:
        marks.append(svg.line((x(chosen.epoch), TOP), (x(chosen.epoch), BOTTOM), "chosen"))
    for role in ("target", "source"):
        if all(role in epoch.validation for epoch in run.epochs):
            values = [epoch.validation[role].accuracy for epoch in run.epochs]
            marks.append(along(values, f"curve {role}"))
            if chosen is not None:
                at = x(chosen.epoch), y(100 * chosen.validation[role].accuracy)
                marks.append(svg.circle(at, 3, f"dot {role}"))
    return marks


def _described(run: RunFiles, study: StudyFiles) -> str:
    """The curve in a few sentences."""
    last, chosen = run.epochs[-1], run.chosen
    texts = []
    if study.settings.get("seeds", 1) > 1:
        texts.append(f"Seed {run.facts.seed}.")
    if not run.records:
        texts.append(f"In training: epoch {run.progress}.")
    if chosen is None:
        return " ".join(texts)
    texts.append(f"Epoch {chosen.epoch} of {len(run.epochs)} is kept.")
    for role in ("source", "target"):
        if role in chosen.validation:
            came = ""
            if role == "source" and (level := before(run, study)) is not None:
                came = f"{fixed(100 * level, 1)} before, "
            there, end = (
                fixed(100 * epoch.validation[role].accuracy, 1) for epoch in (chosen, last)
            )
            texts.append(
                f"{role.capitalize()}: {came}{there} there, {end} at the end "
                f"(n={chosen.validation[role].n:,})."
            )
    return " ".join(texts)
