"""Forgetting and gain by strategy and amount, as bars with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercore.findings import Cell, Column, Target
from fercore.measures import BASELINE
from fercore.metrics import Interval
from fercore.page import svg
from fercore.page.svg import Chart, Mark, Scale
from fercore.page.versus import Comparisons

WIDTH, LEFT, RIGHT, NUMBER = 380, 78, 330, 376
ROW, TOP = 19, 20


@dataclass(frozen=True)
class Bar:
    """A change from BL, in points, with its 95 % interval."""

    cell: Cell
    points: float
    interval: Interval


def charts(
    targets: Sequence[Target], comparisons: Comparisons, strategies: Sequence[str]
) -> list[tuple[str, tuple[Chart, Chart]]]:
    """For each target with a baseline: forgetting and gain, all on one scale."""
    bars = {
        target.name: (_forgetting(target, comparisons), _gain(target, comparisons))
        for target in targets
    }
    bounds = [b for pair in bars.values() for of in pair for bar in of for b in bar.interval]
    if not bounds:
        return []
    scale = Scale(*svg.enclosing([*bounds, 0.0], -100, 100), LEFT, RIGHT)
    return [
        (
            target.name,
            (
                _chart(lost, f"{target.source} accuracy lost", f"lost-{i}", strategies, scale),
                _chart(won, f"{target.name} accuracy won", f"won-{i}", strategies, scale),
            ),
        )
        for i, target in enumerate(targets)
        for lost, won in [bars[target.name]]
        if lost
    ]


def _forgetting(target: Target, comparisons: Comparisons) -> list[Bar]:
    """Source accuracy that each adapted network lost against BL."""
    paired = _intervals(target, target.source, comparisons)
    bars = []
    for base, cell in _adapted(target):
        low, high = paired.get(cell.column) or cell.source.minus(base.source)
        bars.append(_bar(cell, base.source.value - cell.source.value, Interval(-high, -low)))
    return bars


def _gain(target: Target, comparisons: Comparisons) -> list[Bar]:
    """Target accuracy that each adapted network won over BL."""
    paired = _intervals(target, target.name, comparisons)
    return [
        _bar(
            cell,
            cell.target.value - base.target.value,
            paired.get(cell.column) or cell.target.minus(base.target),
        )
        for base, cell in _adapted(target)
    ]


def _intervals(target: Target, dataset: str, comparisons: Comparisons) -> dict[Column, Interval]:
    """Of the paired differences from BL, where answers are known image by image."""
    against = comparisons.against(target.name, dataset, BASELINE)
    return {versus.column: versus.interval for versus in against}


def _adapted(target: Target) -> list[tuple[Cell, Cell]]:
    """BL with every other column; nothing without BL."""
    base = target.baseline
    return [] if base is None else [(base, c) for c in target.cells.values() if c is not base]


def _bar(cell: Cell, change: float, interval: Interval) -> Bar:
    return Bar(cell, 100 * change, Interval(100 * interval.low, 100 * interval.high))


def _chart(bars: Sequence[Bar], title: str, id: str, strategies: Sequence[str], x: Scale) -> Chart:
    """Bars from zero, one a row."""
    bottom = TOP + ROW * len(bars)
    marks = []
    for tick in x.ticks(8):
        marks.append(svg.line((x(tick), TOP - 4), (x(tick), bottom), "grid"))
        marks.append(svg.text(x(tick), TOP - 8, svg.signed(tick), "tick", "middle"))
    for number, bar in enumerate(bars):
        marks += _row(bar, x, TOP + ROW * number, strategies)
    marks.append(svg.line((x(0), TOP - 4), (x(0), bottom), "zero"))
    described = "; ".join(map(_said, bars))
    return Chart(id, title, f"In points: {described}.", WIDTH, bottom + 4, marks)


def _row(bar: Bar, x: Scale, top: float, strategies: Sequence[str]) -> list[Mark]:
    css = svg.series(bar.cell.column, strategies)
    start, end = sorted((x(0), x(bar.points)))
    middle = top + ROW / 2
    low, high = x(bar.interval.low), x(bar.interval.high)
    return [
        svg.text(LEFT - 8, middle + 4, bar.cell.name, "name", "end"),
        svg.rect(start, top + 4, max(end - start, 0.5), ROW - 8, f"bar {css}", _said(bar)),
        svg.line((low, middle), (high, middle), "whisker"),
        svg.line((low, middle - 3), (low, middle + 3), "whisker"),
        svg.line((high, middle - 3), (high, middle + 3), "whisker"),
        svg.text(NUMBER, middle + 4, svg.signed(bar.points, 1), "number", "end"),
    ]


def _said(bar: Bar) -> str:
    low, high = (svg.signed(bound, 1) for bound in bar.interval)
    return f"{bar.cell.name} {svg.signed(bar.points, 1)} ({low} to {high})"
