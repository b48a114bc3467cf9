"""Where adapted networks have moved: weights and features of every layer beside BL's."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fercore import drift
from fercore.drift import Drift
from fercore.findings import Column, column_name
from fercore.page.study import RunFiles, StudyFiles


@dataclass(frozen=True)
class Figure:
    """A layer's figure, and how strongly it is shaded, 0 to 1; None where there is none."""

    value: float | None
    shade: float


@dataclass(frozen=True)
class LayerTable:
    """One figure for every layer of every network of a target.

    Attributes:
        layers: names, input to output.
        rows: name and figures of every strategy and amount, mean over seeds.
    """

    layers: list[str]
    rows: list[tuple[str, list[Figure]]]


@dataclass(frozen=True)
class TargetDrift:
    """How far the networks of one target have moved.

    Attributes:
        target: its name.
        weights: relative change of each layer's weights, of networks that started from BL.
        features: linear CKA of what each layer makes of the source's images, with BL's.
    """

    target: str
    weights: LayerTable
    features: LayerTable


@dataclass(frozen=True)
class Layers:
    """The drift of a study.

    Attributes:
        targets: in order; those of which nothing was measured are not among them.
        images: that the features were compared on.
        missing: ids of tested runs whose drift was not measured.
    """

    targets: list[TargetDrift]
    images: int
    missing: list[str]


Measured = dict[str, Drift]
"""Run -> its drift."""


def layers(study: StudyFiles) -> Layers:
    """Every drift that was measured; FercoreError for a damaged file."""
    adapted = [run for run in study.runs if run.records and run.facts.strategy.name != "BL"]
    measured = {
        run.id: drift.read(folder)
        for run in adapted
        if ((folder := study.directory.run(run.id)) / drift.FILE).exists()
    }
    found = []
    for target in list(study.datasets)[1:]:
        runs = [run for run in adapted if run.facts.target == target and run.id in measured]
        if runs:
            found.append(_target(target, runs, measured, study))
    return Layers(
        found,
        max((one.images for one in measured.values()), default=0),
        [run.id for run in adapted if run.id not in measured],
    )


def _target(
    name: str, runs: Sequence[RunFiles], measured: Measured, study: StudyFiles
) -> TargetDrift:
    every = [(run.column, measured[run.id]) for run in runs]
    moved = [(run.column, measured[run.id]) for run in runs if study.starts_from_baseline(run)]
    names = list(every[0][1].features)
    weights = _means(moved, names, lambda run, layer: run.weights[f"{layer}.weight"])
    features = _means(every, names, lambda run, layer: run.features[layer])
    most = max((value or 0.0 for _, values in weights for value in values), default=0.0)
    return TargetDrift(
        name,
        _shaded(names, weights, lambda value: value / (most or 1.0)),
        _shaded(names, features, lambda value: 1 - value),
    )


Means = list[tuple[str, list[float | None]]]
"""Name of a column, and the mean over its seeds for every layer."""


def _means(
    runs: Sequence[tuple[Column, Drift]],
    names: list[str],
    value: Callable[[Drift, str], float | None],
) -> Means:
    columns = list(dict.fromkeys(column for column, _ in runs))
    strategies = [strategy for strategy, _ in columns]
    rows = []
    for column in sorted(columns, key=lambda c: (strategies.index(c[0]), c[1] or 0)):
        mine = [found for other, found in runs if other == column]
        means = [_mean([value(found, layer) for found in mine]) for layer in names]
        rows.append((column_name(column), means))
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _shaded(names: list[str], rows: Means, shade: Callable[[float], float]) -> LayerTable:
    def figure(value: float | None) -> Figure:
        return Figure(value, 0.0 if value is None else shade(value))

    return LayerTable(names, [(name, list(map(figure, values))) for name, values in rows])
