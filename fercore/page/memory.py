"""Memory against gain: where networks stand on both sets, and which ones none surpasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercore.evidence import Evidence
from fercore.findings import Cell, Column, Target, column_name
from fercore.measures import Memory
from fercore.page import svg
from fercore.page.svg import Chart, Mark, Point, Scale
from fercore.results import Record
from fercore.words import percent

WIDTH, HEIGHT = 420, 370
LEFT, RIGHT, TOP, BOTTOM = 40, 406, 12, 330


def pareto_front(cells: Sequence[Cell]) -> list[Cell]:
    """The cells that no other one equals or surpasses on both sets, by rising target accuracy."""

    def surpassed(cell: Cell) -> bool:
        return any(
            other.source.value >= cell.source.value
            and other.target.value >= cell.target.value
            and (other.source.value, other.target.value) != (cell.source.value, cell.target.value)
            for other in cells
        )

    front = [cell for cell in cells if not surpassed(cell)]
    return sorted(front, key=lambda cell: cell.target.value)


def chart(found: Evidence, target: Target, strategies: Sequence[str], number: int) -> Chart:
    """One point a run: its accuracy on the source over that on the target."""
    cells = list(target.cells.values())
    runs = [record for record in found.records if record.target == target.name]
    known = [one for cell in cells if (one := found.memory.get((target.name, cell.column)))]
    x, y = _scales(known, runs)
    front = pareto_front(cells)
    marks = [*_frame(x, y, target), *_baseline(x, y, target), *_front(x, y, front)]
    marks += [mark for one in known for mark in _intervals(x, y, one, strategies)]
    points = [(x(100 * (r.target_accuracy or 0)), y(100 * r.source_accuracy)) for r in runs]
    for record, point in zip(runs, points, strict=True):
        column = record.strategy, record.amount
        css = svg.series(column, strategies) + (" half" if _is_partial(column, target) else " full")
        kind = strategies.index(record.strategy)
        marks.append(svg.symbol(kind, point, f"point {css}", _hint(record)))
    marks += _labels(x, y, cells, points, strategies)
    return Chart(
        id=f"memory-{number}",
        title=f"{target.source} accuracy over {target.name} accuracy, one point a run",
        description=_described(target, front),
        width=WIDTH,
        height=HEIGHT,
        marks=marks,
    )


def _scales(known: Sequence[Memory], runs: Sequence[Record]) -> tuple[Scale, Scale]:
    across = [100 * bound for one in known for bound in one.target.interval or ()]
    along = [100 * bound for one in known for bound in one.source.interval or ()]
    across += [100 * (record.target_accuracy or 0) for record in runs]
    along += [100 * record.source_accuracy for record in runs]
    return (
        Scale(*svg.enclosing(across, 0, 100), LEFT, RIGHT),
        Scale(*svg.enclosing(along, 0, 100), BOTTOM, TOP),
    )


def _frame(x: Scale, y: Scale, target: Target) -> list[Mark]:
    marks = []
    for tick in x.ticks():
        marks.append(svg.line((x(tick), TOP), (x(tick), BOTTOM), "grid"))
        marks.append(svg.text(x(tick), BOTTOM + 14, f"{tick:g}", "tick", "middle"))
    for tick in y.ticks():
        marks.append(svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "grid"))
        marks.append(svg.text(LEFT - 6, y(tick) + 3.5, f"{tick:g}", "tick", "end"))
    middle = (LEFT + RIGHT) / 2
    marks.append(
        svg.text(middle, BOTTOM + 32, f"{_short(target.name)} accuracy, %", "axis", "middle")
    )
    side = svg.text(
        12, (TOP + BOTTOM) / 2, f"{_short(target.source)} accuracy, %", "axis", "middle"
    )
    turned = {**side.attributes, "transform": f"rotate(-90 12 {(TOP + BOTTOM) / 2:g})"}
    marks.append(Mark(side.tag, turned, side.text))
    return marks


def _baseline(x: Scale, y: Scale, target: Target) -> list[Mark]:
    """Where BL stands, and the corner that beats it on both sets."""
    base = target.baseline
    marks = [svg.text(RIGHT - 4, TOP + 13, "ideal ↗", "ideal", "end")]
    if base is None:
        return marks
    across, along = x(100 * base.target.value), y(100 * base.source.value)
    return [
        svg.rect(across, TOP, RIGHT - across, along - TOP, "better"),
        svg.line((LEFT, along), (RIGHT, along), "reference"),
        svg.line((across, TOP), (across, BOTTOM), "reference"),
        *marks,
    ]


def _front(x: Scale, y: Scale, front: Sequence[Cell]) -> list[Mark]:
    """Steps: right of them and above, nothing stands."""
    points: list[Point] = []
    for cell in front:
        point = x(100 * cell.target.value), y(100 * cell.source.value)
        if points:
            points.append((points[-1][0], point[1]))
        points.append(point)
    return [svg.path(points, "front")] if len(points) > 1 else []


def _intervals(x: Scale, y: Scale, known: Memory, strategies: Sequence[str]) -> list[Mark]:
    """95 % intervals of both accuracies, as a cross; no line where one person alone was tested."""
    at = x(100 * known.target.value), y(100 * known.source.value)
    css = f"spread {svg.series(known.column, strategies)}"
    marks = []
    if known.target.interval is not None:
        low, high = (x(100 * bound) for bound in known.target.interval)
        marks.append(svg.line((low, at[1]), (high, at[1]), css))
    if known.source.interval is not None:
        low, high = (y(100 * bound) for bound in known.source.interval)
        marks.append(svg.line((at[0], low), (at[0], high), css))
    return marks


def _labels(
    x: Scale, y: Scale, cells: Sequence[Cell], points: Sequence[Point], strategies: Sequence[str]
) -> list[Mark]:
    """Names beside the points, each at the first place that is free: off its cross, then on it."""
    taken = [(px - 6, py - 6, px + 6, py + 6) for px, py in points]
    marks = []
    for cell in cells:
        px, py = x(100 * cell.target.value), y(100 * cell.source.value)
        width = 5.6 * len(cell.name) + 2
        places = [
            (px + dx if dx > 0 else px + dx - width, py + dy)
            for distance in (8, 16, 26)
            for dx, dy in (
                *((distance, 3 - distance), (distance, distance + 4)),
                *((-distance, 3 - distance), (-distance, distance + 4)),
                *((distance, 3.5), (-distance, 3.5)),
            )
        ]
        boxes = [(left, base - 8, left + width, base + 2) for left, base in places]
        inside = [box for box in boxes if _fits(box)]
        box = next((b for b in inside if not any(_overlap(b, t) for t in taken)), None)
        if box is None:  # too crowded; the legend and the hint still tell
            continue
        taken.append(box)
        css = f"label {svg.series(cell.column, strategies)}"
        marks.append(svg.text(box[0] + 1, box[3] - 2, cell.name, css))
    return marks


Box = tuple[float, float, float, float]


def _fits(box: Box) -> bool:
    return box[0] > LEFT and box[1] > TOP and box[2] < RIGHT and box[3] < BOTTOM


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _is_partial(column: Column, target: Target) -> bool:
    """Whether the column adapts with less than the most that this target was adapted with."""
    most = max((amount or 0 for _, amount in target.cells), default=0)
    return column[1] is not None and column[1] < most


def _hint(record: Record) -> str:
    return (
        f"{record.run}: {percent(record.target_accuracy or 0)} on {record.target}, "
        f"{percent(record.source_accuracy)} on {record.source}"
    )


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _described(target: Target, front: Sequence[Cell]) -> str:
    base = target.baseline
    texts = []
    if base is not None:
        texts.append(
            f"BL stands at {percent(base.target.value)} on {target.name} and "
            f"{percent(base.source.value)} on {target.source}."
        )
    named = "; ".join(
        f"{column_name(cell.column)} ({percent(cell.target.value)} on {target.name}, "
        f"{percent(cell.source.value)} on {target.source})"
        for cell in front
    )
    texts.append(f"No other network is better on both sets than these: {named}.")
    texts.append("All figures stand in the table above.")
    return " ".join(texts)


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a strategy's symbol and name."""

    name: str
    mark: Mark


def legend(strategies: Sequence[str]) -> list[Key]:
    """The symbols of all strategies."""
    return [
        Key(name, svg.symbol(kind, (8, 8), f"point s{kind % svg.SERIES} full"))
        for kind, name in enumerate(strategies)
    ]
