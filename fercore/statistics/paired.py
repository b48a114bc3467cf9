"""Tests of two networks on the same images, and what many tests at once do to their p-values.

Both tests are exact and two-sided, and one is a case of the other: with one image a unit, and one
seed, the sign-flip test is McNemar's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's exact test: are two networks right equally often?

    Under the null hypothesis each image that only one of them gets right is as likely the first's
    as the second's, so that the smaller count is binomial with probability 1/2 (McNemar, 1947).
    The exact p rather than the mid-p of Fagerland, Lydersen and Laake (2013): it never promises
    more than its level, and agrees with ``sign_flip`` where both apply; with hundreds of images the
    two hardly differ.

    Args:
        only_first: images that only the first network got right.
        only_second: images that only the second got right.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(smaller + 1))
    return min(1.0, float(2 * tail / 2**n))


def sign_flip(differences: np.ndarray) -> float:
    """The p-value of the permutation test that flips signs of whole units, such as subjects.

    Under the null hypothesis the two networks are interchangeable for each unit, so that its
    difference could as well have had the other sign: p is the share of all ``2 ** units`` choices
    of signs whose sum is at least as far from 0 as the observed one (Fisher, 1935). Whole numbers
    make this exact for any number of units, as the distribution of the sum can be built up unit by
    unit (Pagano and Tritchler, 1983).

    Args:
        differences: integers ``[units]``: by how many images (over all seeds) the first network
            got more right than the second.
    """
    sizes = np.abs(np.asarray(differences, np.int64))
    probability = np.ones(1)  # of each sum from -total to total, for the units so far
    for size in sizes[sizes > 0]:
        coin = np.zeros(2 * size + 1)
        coin[[0, -1]] = 0.5  # -size or +size
        probability = np.convolve(probability, coin)
    total = len(probability) // 2
    sums = np.arange(-total, total + 1)
    observed = abs(int(np.sum(differences)))
    return min(1.0, float(probability[np.abs(sums) >= observed].sum()))


def smallest_p(units: int) -> float:
    """The smallest p-value that ``sign_flip`` can give with so many units: all favour one network.

    With three subjects it is 0.25, with five 0.0625: no result of theirs is significant at 0.05.
    """
    return min(1.0, 2.0 ** (1 - units))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down procedure (Holm, 1979).

    Those below 0.05 can be believed together: the chance that any of them is wrong is at most 0.05,
    whatever the dependence between the tests. The order is that of ``p_values``.
    """
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = reached
    return corrected
