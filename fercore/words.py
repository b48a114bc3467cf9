"""Numbers, names and paragraphs as people read them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fercore.metrics import Interval

MINUS = "\N{MINUS SIGN}"
NO_BREAK = "\N{NO-BREAK SPACE}"


def percent(share: float) -> str:
    """``61.3 %`` of a share, 0..1."""
    return f"{100 * share:.1f} %"


def signed(number: float, digits: int = 0) -> str:
    """A change, with a sign unless it is nought.

    Equal changes look equal, however they were computed: what floating point adds to 1.75 is cut
    off before it decides the last digit.
    """
    text = f"{round(number, 9):+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def points(change: float) -> str:
    """A change of a share, in points: ``+4.8``."""
    return signed(100 * change, 1)


def points_range(interval: Interval | None) -> str:
    """An interval of such a change: ``-1.5 to +4.8``; "" for none."""
    return "" if interval is None else " to ".join(map(points, interval))


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def folded(text: str, width: int, first: str = "", then: str = "") -> list[str]:
    """Lines of a paragraph, with their indents; no line begins with a percent sign."""
    whole = text.replace(" %", f"{NO_BREAK}%")
    lines = textwrap.wrap(whole, width, initial_indent=first, subsequent_indent=then)
    return [line.replace(NO_BREAK, " ") for line in lines]
