"""Intervals from resampling whole units: images, or the people whose images hang together.

The images of a person are not independent: a network that errs on one errs on others. Resampling
subjects rather than images (the cluster bootstrap; Davison and Hinkley, 1997, section 3.8) lets an
interval speak of new people, and makes it as wide as that is.

An interval is the figure plus or minus Student's t times the bootstrap's standard error, times
``sqrt(n / (n - 1))`` for the spread that a resample of ``n`` units lacks (Hesterberg, 2015, who
shows that percentile intervals are too narrow for small samples). Percentile and BCa intervals end
within the range of the units seen, and the chance that ``n`` units lie on both sides of the truth
is about ``1 - 2 ** (1 - n)``: 75 % for three subjects. In simulations with subjects who differ,
ours held about 94 % from three subjects on, percentile intervals 72 % with three, 86 % with six and
90 % with ten. The price is symmetry. With few subjects the width itself is a matter of luck: three
who happen to agree give a narrow interval.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from fercore.metrics import Interval

RESAMPLES = 4_000
"""A standard error from them is known to 1 %."""

_AT_ONCE = 2**22
"""Numbers drawn at a time: 32 MiB."""


def resampled_means(
    sums: np.ndarray, sizes: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> np.ndarray:
    """Means over resampled units, float64 ``[resamples, columns]``.

    All columns see the same resamples, so differences of columns are paired.

    Args:
        sums: of what is averaged, ``[units, columns]``: images that a network gets right.
        sizes: how many images each unit has, ``[units]``.
        seed: of the draws.
        resamples: how many.
    """
    units = len(sizes)
    values = np.column_stack([sums, sizes]).astype(np.float64)
    random = np.random.Generator(np.random.Philox(key=seed))
    rows = max(1, _AT_ONCE // units)
    means = np.empty((resamples, values.shape[1] - 1))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = random.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        totals = times @ values
        means[start : start + count] = totals[:, :-1] / totals[:, -1:]
    return means


def interval(
    figure: float,
    resampled: np.ndarray,
    units: int,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval | None:
    """The 95 % interval of a figure; None for a single unit, or a figure that is NaN.

    Where all resamples agree it has no width, which does not mean that new units would agree.

    Args:
        figure: from all units.
        resampled: the same from every resample, ``[resamples]``; NaN where it does not exist.
        units: how many there are; of a figure from several sets, the smallest number.
        bounds: what the figure cannot leave.
    """
    if units < 2 or math.isnan(figure):
        return None
    error = float(np.nanstd(resampled)) * math.sqrt(units / (units - 1))
    half = _student(units - 1) * error
    return Interval(max(figure - half, bounds[0]), min(figure + half, bounds[1]))


class Spread(NamedTuple):
    """A figure over repetitions; of a single one there is neither ``sd`` nor ``interval``."""

    mean: float
    sd: float | None
    interval: Interval | None


def over_seeds(values: np.ndarray) -> Spread:
    """Mean, standard deviation (``n - 1``) and the mean's interval of what ``n`` seeds gave.

    The interval is the one of above, without drawing: the standard error of a mean is known.
    """
    values = np.asarray(values, np.float64)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Spread(mean, None, None)
    sd = float(values.std(ddof=1))
    half = _student(n - 1) * sd / math.sqrt(n)
    return Spread(mean, sd, Interval(mean - half, mean + half))


@functools.cache
def _student(freedom: int) -> float:
    """The 97.5 % point of Student's distribution, to full precision."""
    # Between -angle and angle, where t = sqrt(freedom) * tan(angle), lies this share of it, by a
    # finite sum (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4).
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        if _within(angle, freedom) < 0.95:
            low = angle
        else:
            high = angle
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
