"""Dropout, which is its own gradient."""

from __future__ import annotations

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.philox import DROPOUT_STREAM, philox, uniform
from cuda_kernels.numba_kernels.runtime import NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit(device=True)
def drop(x, out, i, word, rate, scale):
    if i < x.size:
        out[i] = x[i] * scale if uniform(word) >= rate else np.float32(0)


@cuda.jit(device=True)
def drop_one(value, rng, i, layer, rate, scale):
    """``value``, the ``i``-th entry, after dropout."""
    seed, run, step = np.uint64(rng[0]), np.uint64(rng[1]), np.uint64(rng[3])
    words = philox(np.uint64(i // 4), step, np.uint64(layer), DROPOUT_STREAM, seed, run)
    return value * scale if uniform(words[i % 4]) >= rate else np.float32(0)


@cuda.jit
def dropout_kernel(x, rng, out, layer, rate, scale):
    # A thread owns four entries in a row, which the four words of one counter decide.
    seed, run, step = np.uint64(rng[0]), np.uint64(rng[1]), np.uint64(rng[3])
    for four in range(cuda.grid(1), (x.size + 3) // 4, cuda.gridsize(1)):
        words = philox(np.uint64(four), step, np.uint64(layer), DROPOUT_STREAM, seed, run)
        drop(x, out, 4 * four, words[0], rate, scale)
        drop(x, out, 4 * four + 1, words[1], rate, scale)
        drop(x, out, 4 * four + 2, words[2], rate, scale)
        drop(x, out, 4 * four + 3, words[3], rate, scale)


def dropout(
    runtime: NumbaRuntime, x: Buffer, rng: Buffer, out: Buffer, *, rate: float, layer: int
) -> None:
    fours = -(-x.size // 4)
    flat, flat_out = x.reshape(-1), out.reshape(-1)
    scale = np.float32(1 / (1 - rate))
    runtime.launch_over(dropout_kernel, fours, flat, rng, flat_out, layer, float(rate), scale)
