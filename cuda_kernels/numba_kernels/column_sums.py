"""The gradient of a bias: the sums of a matrix's columns."""

from __future__ import annotations

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.device_functions import block_sum
from cuda_kernels.numba_kernels.runtime import THREADS, NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit
def column_sums_kernel(matrix, sums):
    # A block owns a column; a thread adds up every THREADS-th row of it.
    column, total = cuda.blockIdx.x, np.float64(0)
    for row in range(cuda.threadIdx.x, matrix.shape[0], THREADS):
        total += matrix[row, column]
    total = block_sum(total)
    if cuda.threadIdx.x == 0:
        sums[column] = total


def column_sums(runtime: NumbaRuntime, matrix: Buffer, sums: Buffer) -> None:
    """``sums [C]`` of ``matrix [..., C]``."""
    columns = sums.size
    rows = matrix.size // columns
    runtime.launch(column_sums_kernel, (columns,), THREADS, matrix.reshape(rows, columns), sums)
