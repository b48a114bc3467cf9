"""Philox4x32-10, the random numbers of every backend (Salmon et al., SC 2011)."""

from __future__ import annotations

import numpy as np
from numba import cuda

DROPOUT_STREAM, AUGMENTATION_STREAM = np.uint64(0), np.uint64(1)
"""Last word of a counter."""

_LOW, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@cuda.jit(device=True)
def philox(c0, c1, c2, c3, k0, k1):
    """Four words of 32 bits from a counter and a key; all are uint64, which holds their products
    on a GPU and in the simulator alike."""
    for _ in range(10):
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1 = (second >> _BITS) ^ c1 ^ k0, second & _LOW
        c2, c3 = (first >> _BITS) ^ c3 ^ k1, first & _LOW
        k0, k1 = (k0 + _STEPS[0]) & _LOW, (k1 + _STEPS[1]) & _LOW
    return c0, c1, c2, c3


@cuda.jit(device=True)
def uniform(word):
    """A number in [0, 1), in float64, from the upper 24 bits of ``word``."""
    return np.float64(word >> np.uint64(8)) * 2.0**-24
