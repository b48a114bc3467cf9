"""Philox4x32-10, the counter-based random generator of every backend.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A word of
the stream is a pure function of a counter and a key, so it can be drawn anywhere, in any order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_INCREMENTS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
ROUNDS = 10

_LOW_32_BITS = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    key: tuple[npt.ArrayLike, npt.ArrayLike],
) -> np.ndarray:
    """Four random words for each counter: uint32 ``[..., 4]``.

    The counter's four words and the key's two are integers below ``2**32``, or arrays of them that
    broadcast against one another.
    """
    words = (np.asarray(word).astype(np.uint64) for word in (*counter, *key))
    c0, c1, c2, c3, k0, k1 = np.broadcast_arrays(*words)
    for _ in range(ROUNDS):
        # Products of two 32-bit words fit 64 bits exactly; the halves go to different words.
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _32) ^ c1 ^ k0,
            product1 & _LOW_32_BITS,
            (product0 >> _32) ^ c3 ^ k1,
            product0 & _LOW_32_BITS,
        )
        k0 = (k0 + WEYL_INCREMENTS[0]) & _LOW_32_BITS
        k1 = (k1 + WEYL_INCREMENTS[1]) & _LOW_32_BITS
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniform(words: np.ndarray) -> np.ndarray:
    """The upper 24 bits of each uint32 word as float64 in ``[0, 1)``; exact in float32 too."""
    return (words >> np.uint32(8)) * 2.0**-24
