"""Numbers, names and paragraphs as people read them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from fercore.metrics import Interval

MINUS = "\N{MINUS SIGN}"
NO_BREAK = "\N{NO-BREAK SPACE}"


def fixed(number: float, digits: int = 0) -> str:
    """A number with so many digits after the point; halves are rounded away from zero.

    Equal numbers look equal, however they were computed: what floating point adds to 1.25 is cut
    off before it decides the last digit.
    """
    if not math.isfinite(number):
        return str(number)
    cut = Decimal(repr(round(float(number), 9)))
    rounded = cut.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded + 0:f}"  # without the sign of a negative zero


def percent(share: float, digits: int = 1) -> str:
    """``61.3 %`` of a share, 0..1."""
    return f"{fixed(100 * share, digits)} %"


def signed(number: float, digits: int = 0) -> str:
    """A change, rounded as by ``fixed``, with a sign unless it is nought."""
    text = fixed(abs(number), digits)
    return text if float(text) == 0 else f"{MINUS if number < 0 else '+'}{text}"


def points(change: float) -> str:
    """A change of a share, in points: ``+4.8``."""
    return signed(100 * change, 1)


def points_range(interval: Interval | None) -> str:
    """An interval of such a change: ``-1.5 to +4.8``; "" for none."""
    return "" if interval is None else " to ".join(map(points, interval))


def counted(count: int, one: str, several: str = "") -> str:
    """``1 image``, ``2,000 images``; ``several`` is for what does not end in s: ``3 people``."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def folded(text: str, width: int, first: str = "", then: str = "") -> list[str]:
    """Lines of a paragraph, with their indents; no line begins with a percent sign."""
    whole = text.replace(" %", f"{NO_BREAK}%")
    lines = textwrap.wrap(whole, width, initial_indent=first, subsequent_indent=then)
    return [line.replace(NO_BREAK, " ") for line in lines]
