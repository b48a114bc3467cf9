"""Forgetting and gain by strategy and amount, as bars with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fercore.findings import Cell, Target
from fercore.measures import BASELINE
from fercore.metrics import Interval
from fercore.page import svg
from fercore.page.confusion import Role
from fercore.page.svg import Chart, Mark, Scale
from fercore.versus import Comparisons
from fercore.words import signed

WIDTH, LEFT, RIGHT, NUMBER = 380, 78, 330, 376
ROW, TOP = 19, 20


@dataclass(frozen=True)
class Bar:
    """A change from BL, in points, with its 95 % intervals.

    Attributes:
        cell: of the adapted network.
        points: the change.
        interval: by image; None without answers.
        wider: by person, or by sequence; None where the set names neither.
        by: which of them.
    """

    cell: Cell
    points: float
    interval: Interval | None
    wider: Interval | None
    by: str


def charts(
    targets: Sequence[Target], comparisons: Comparisons, strategies: Sequence[str]
) -> list[tuple[str, tuple[Chart, Chart]]]:
    """For each target with a baseline: forgetting and gain, each on one scale for all targets."""
    lost = {target.name: _bars(target, "source", comparisons) for target in targets}
    won = {target.name: _bars(target, "target", comparisons) for target in targets}
    if not any(lost.values()):
        return []
    scales = _scale(lost.values()), _scale(won.values())
    result = []
    for number, target in enumerate(targets):
        drawn = (
            (f"lost-{number}", f"{target.source} accuracy lost", lost[target.name], scales[0]),
            (f"won-{number}", f"{target.name} accuracy won", won[target.name], scales[1]),
        )
        first, second = (_chart(*one, strategies) for one in drawn)
        if lost[target.name]:
            result.append((target.name, (first, second)))
    return result


def _bars(target: Target, role: Role, comparisons: Comparisons) -> list[Bar]:
    """What each adapted network lost on the source, or won on the target, against BL."""
    dataset, sign = (target.source, -1) if role == "source" else (target.name, 1)
    beside = {v.column: v for v in comparisons.against(target.name, dataset, BASELINE)}
    bars = []
    for base, cell in _adapted(target):
        mine, its = getattr(cell, role), getattr(base, role)
        interval, wider, by = None, None, ""
        if versus := beside.get(cell.column):
            interval = versus.judgements[-1].interval
            if len(versus.judgements) > 1:
                widest = versus.judgements[0]
                wider, by = widest.interval, {"subject": "person"}.get(widest.unit, widest.unit)
        points = 100 * sign * (mine.value - its.value)
        bars.append(Bar(cell, points, _points(interval, sign), _points(wider, sign), by))
    return bars


def _points(interval: Interval | None, sign: int) -> Interval | None:
    return interval and Interval(*sorted(100 * sign * bound for bound in interval))


def _scale(bars: Iterable[Sequence[Bar]]) -> Scale:
    bounds = [b for some in bars for bar in some for b in (bar.points, *(bar.interval or ()))]
    return Scale(*svg.enclosing([*bounds, 0.0], -100, 100), LEFT, RIGHT)


def _adapted(target: Target) -> list[tuple[Cell, Cell]]:
    """BL with every other column; nothing without BL."""
    base = target.baseline
    return [] if base is None else [(base, c) for c in target.cells.values() if c is not base]


def _chart(id: str, title: str, bars: Sequence[Bar], x: Scale, strategies: Sequence[str]) -> Chart:
    """Bars from zero, one a row."""
    bottom = TOP + ROW * len(bars)
    marks = []
    for tick in x.ticks(8):
        marks.append(svg.line((x(tick), TOP - 4), (x(tick), bottom), "grid"))
        marks.append(svg.text(x(tick), TOP - 8, signed(tick), "tick", "middle"))
    for number, bar in enumerate(bars):
        marks += _row(bar, x, TOP + ROW * number, strategies)
    marks.append(svg.line((x(0), TOP - 4), (x(0), bottom), "zero"))
    described = "; ".join(map(_said, bars))
    return Chart(id, title, f"In points: {described}.", WIDTH, bottom + 4, marks)


def _row(bar: Bar, x: Scale, top: float, strategies: Sequence[str]) -> list[Mark]:
    css = svg.series(bar.cell.column, strategies)
    start, end = sorted((x(0), x(bar.points)))
    middle = top + ROW / 2
    marks = [
        svg.text(LEFT - 8, middle + 4, bar.cell.name, "name", "end"),
        svg.rect(start, top + 4, max(end - start, 0.5), ROW - 8, f"bar {css}", _said(bar)),
        svg.text(NUMBER, middle + 4, signed(bar.points, 1), "number", "end"),
    ]
    if bar.wider is not None:
        ends = (min(max(x(bound), LEFT), RIGHT) for bound in bar.wider)
        first, last = ((end, middle) for end in ends)
        marks.append(svg.line(first, last, "wider"))
    if bar.interval is not None:
        low, high = map(x, bar.interval)
        marks += [
            svg.line((low, middle), (high, middle), "whisker"),
            svg.line((low, middle - 3), (low, middle + 3), "whisker"),
            svg.line((high, middle - 3), (high, middle + 3), "whisker"),
        ]
    return marks


def _said(bar: Bar) -> str:
    known = [] if bar.interval is None else [_range(bar.interval)]
    if bar.wider is not None:
        known.append(f"by {bar.by} {_range(bar.wider)}")
    text = f"{bar.cell.name} {signed(bar.points, 1)}"
    return f"{text} ({', '.join(known)})" if known else text


def _range(interval: Interval) -> str:
    return " to ".join(signed(bound, 1) for bound in interval)
