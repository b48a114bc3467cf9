"""Forgetting and gain by strategy and amount, as bars with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercore.findings import Cell, Target
from fercore.metrics import Interval
from fercore.page import svg
from fercore.page.svg import Chart, Mark, Scale

WIDTH, LEFT, RIGHT, NUMBER = 380, 78, 330, 376
ROW, TOP = 19, 20


@dataclass(frozen=True)
class Bar:
    """A change from BL, in points, with its 95 % interval."""

    cell: Cell
    points: float
    interval: Interval


def forgetting(target: Target) -> list[Bar]:
    """Source accuracy that each adapted network lost against BL."""
    base = target.baseline
    if base is None:
        return []
    return [
        Bar(cell, 100 * (base.source.value - cell.source.value), _percent(base.source.minus(cell.source)))
        for cell in target.cells.values()
        if cell is not base
    ]


def gain(target: Target) -> list[Bar]:
    """Target accuracy that each adapted network won over BL."""
    base = target.baseline
    if base is None:
        return []
    return [
        Bar(cell, 100 * (cell.target.value - base.target.value), _percent(cell.target.minus(base.target)))
        for cell in target.cells.values()
        if cell is not base
    ]


def chart(bars: Sequence[Bar], title: str, id: str, strategies: Sequence[str], span: Sequence[Bar]) -> Chart:
    """Bars from zero; those of ``span`` decide how far the axis goes, so that charts compare."""
    bounds = [bound for bar in span for bound in bar.interval]
    x = Scale(*svg.enclosing([*bounds, 0.0], -100, 100), LEFT, RIGHT)
    bottom = TOP + ROW * len(bars)
    marks = []
    for tick in x.ticks(5):
        marks.append(svg.line((x(tick), TOP - 4), (x(tick), bottom), "grid"))
        marks.append(svg.text(x(tick), TOP - 8, f"{tick:+g}" if tick else "0", "tick", "middle"))
    for number, bar in enumerate(bars):
        marks += _row(bar, x, TOP + ROW * number, strategies)
    marks.append(svg.line((x(0), TOP - 4), (x(0), bottom), "zero"))
    described = "; ".join(
        f"{bar.cell.name} {bar.points:+.1f} ({bar.interval.low:+.1f} to {bar.interval.high:+.1f})"
        for bar in bars
    )
    return Chart(id, title, f"{title}, in points: {described}.", WIDTH, bottom + 4, marks)


def _row(bar: Bar, x: Scale, top: float, strategies: Sequence[str]) -> list[Mark]:
    css = svg.series(bar.cell.column, strategies)
    start, end = sorted((x(0), x(bar.points)))
    middle = top + ROW / 2
    hint = f"{bar.cell.name}: {bar.points:+.1f} points, 95 % interval {bar.interval.low:+.1f} to {bar.interval.high:+.1f}"
    low, high = x(bar.interval.low), x(bar.interval.high)
    return [
        svg.text(LEFT - 8, middle + 4, bar.cell.name, "name", "end"),
        svg.rect(start, top + 4, max(end - start, 0.5), ROW - 8, f"bar {css}", hint),
        svg.line((low, middle), (high, middle), "whisker"),
        svg.line((low, middle - 3), (low, middle + 3), "whisker"),
        svg.line((high, middle - 3), (high, middle + 3), "whisker"),
        svg.text(NUMBER, middle + 4, f"{bar.points:+.1f}", "number", "end"),
    ]


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.low, 100 * interval.high)
