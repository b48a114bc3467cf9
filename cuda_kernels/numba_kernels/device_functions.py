"""What several kernels call: ReLU, the order of numbers with NaN, indices, the sum of a block."""

from __future__ import annotations

import numpy as np
from numba import cuda, float64

from cuda_kernels.numba_kernels.runtime import THREADS


@cuda.jit(device=True)
def relu(value):
    """``value`` where it is positive or NaN, else 0."""
    if value <= 0:
        return np.float32(0)
    return value


@cuda.jit(device=True)
def is_larger(a, b):
    """NaN is larger than any number, and no NaN larger than another."""
    return a > b or (a != a and b == b)


@cuda.jit(device=True)
def indices(i, shape):
    """The four indices of the ``i``-th entry of a C-contiguous array of ``shape``."""
    _, height, width, channels = shape
    row = i // channels // width
    return row // height, row % height, i // channels % width, i % channels


@cuda.jit(device=True)
def block_sum(value):
    """The sum of ``value`` over a block of THREADS, which all of its threads get.

    The upper half is added to the lower one until one is left.
    """
    shared, thread = cuda.shared.array(0, float64), cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        half //= 2
    total = shared[0]
    cuda.syncthreads()  # `shared` may be written again
    return total
