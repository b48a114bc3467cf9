"""Charts as values: marks placed on a drawing, which the template writes down as inline SVG.

Colours are never named here: marks have classes, and the page's style sheet gives those their
colour in a light and in a dark scheme, and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fercore.findings import Column

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """An SVG element: its name, attributes and text; ``hint`` is shown when it is pointed at."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing of ``width`` x ``height`` units, one unit being about a pixel.

    Attributes:
        id: unique in the page.
        title: what it shows.
        description: the same in words, for those who do not see it.
    """

    id: str
    title: str
    description: str
    width: float
    height: float
    marks: Sequence[Mark] = field(default_factory=tuple)


@dataclass(frozen=True)
class Scale:
    """Maps values from ``low`` to ``high`` onto the units from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the scale, at most so many."""
        step = round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """The smallest of ..., 0.1, 0.2, 0.5, 1, 2, 5, 10, ... that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def enclosing(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Point:
    """Round bounds around all values with a little room, within ``low`` and ``high``."""
    least, most = min(values), max(values)
    step = round_step(max(most - least, 1.0) / 8)
    bounds = math.floor(least / step - 0.25) * step, math.ceil(most / step + 0.25) * step
    return max(bounds[0], low), min(bounds[1], high)


# -- marks ------------------------------------------------------------------------------------


def line(start: Point, end: Point, css: str) -> Mark:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return Mark("line", {**_units(places), "class": css})


def rect(x: float, y: float, width: float, height: float, css: str, hint: str = "") -> Mark:
    """A rectangle; ``x`` and ``y`` are its upper left corner."""
    places = {"x": x, "y": y, "width": width, "height": height}
    return Mark("rect", {**_units(places), "class": css}, hint=hint)


def path(points: Sequence[Point], css: str, hint: str = "", closed: bool = False) -> Mark:
    """Straight lines from point to point."""
    steps = " ".join(f"{_unit(x)},{_unit(y)}" for x, y in points)
    return Mark("polygon" if closed else "polyline", {"points": steps, "class": css}, hint=hint)


def circle(centre: Point, radius: float, css: str, hint: str = "") -> Mark:
    """A circle."""
    places = {"cx": centre[0], "cy": centre[1], "r": radius}
    return Mark("circle", {**_units(places), "class": css}, hint=hint)


def text(x: float, y: float, words: str, css: str, anchor: str = "start") -> Mark:
    """Words that start, end or have their middle at ``x``, with their base line at ``y``."""
    return Mark("text", {**_units({"x": x, "y": y}), "text-anchor": anchor, "class": css}, words)


SERIES = 8
"""How many strategies the style sheet has colours for; then they come again."""


def series(column: Column, strategies: Sequence[str]) -> str:
    """The class that colours a strategy."""
    return f"s{strategies.index(column[0]) % SERIES}"


_CROSS = [(-1.4, -0.5), (-0.5, -0.5), (-0.5, -1.4), (0.5, -1.4), (0.5, -0.5), (1.4, -0.5)]
_SHAPES: list[list[Point]] = [
    [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    [(0, -1.3), (1.25, 0.95), (-1.25, 0.95)],
    [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    [(0, 1.3), (1.25, -0.95), (-1.25, -0.95)],
    [*_CROSS, *((-x, -y) for x, y in _CROSS)],
]


def symbol(kind: int, centre: Point, css: str, hint: str = "", size: float = 4.5) -> Mark:
    """A point in one of six shapes, so that strategies differ without their colours too."""
    x, y = centre
    kind %= len(_SHAPES) + 1
    if kind == 0:
        return circle(centre, size, css, hint)
    corners = [(x + size * dx, y + size * dy) for dx, dy in _SHAPES[kind - 1]]
    return path(corners, css, hint, closed=True)


def _units(places: dict[str, float]) -> dict[str, str]:
    return {name: _unit(value) for name, value in places.items()}


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
