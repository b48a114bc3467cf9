"""Whose turn it is: the rows, random state and rates of a step; and rows of tables."""

from __future__ import annotations

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.runtime import NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit
def advance_kernel(cursor, order, schedule, scheduled, indices, rng, drawn, rates):
    # A single thread does it all.
    first, step = cursor[0], cursor[1]
    for i in range(indices.size):
        indices[i] = order[first + i] if first + i < order.size else -1
    if scheduled:
        for i in range(4):
            rates[i] = schedule[min(step, schedule.shape[0] - 1), i]
    if drawn:
        rng[3] = cursor[2]
    cursor[0] = first + indices.size
    cursor[1] = step + 1
    cursor[2] += 1


@cuda.jit
def gather_kernel(table, indices, out, padding):
    # A thread owns entries of the output.
    width = out.shape[1]
    for entry in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, column = entry // width, entry % width
        index = indices[row]
        out[row, column] = table[index, column] if index >= 0 else padding


@cuda.jit
def scatter_kernel(values, indices, table):
    # A thread owns entries of the values.
    width = values.shape[1]
    for entry in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        row, column = entry // width, entry % width
        if indices[row] >= 0:
            table[indices[row], column] = values[row, column]


def advance(
    runtime: NumbaRuntime,
    cursor: Buffer,
    order: Buffer,
    schedule: Buffer | None,
    indices: Buffer,
    rng: Buffer | None,
    rates: Buffer | None,
) -> None:
    table, scheduled = runtime.optional(schedule, 2, np.float64)
    state, drawn = runtime.optional(rng, 1, np.uint32)
    found, _ = runtime.optional(rates, 1, np.float64)
    runtime.launch(
        advance_kernel, (1,), 1, cursor, order, table, scheduled, indices, state, drawn, found
    )


def gather(
    runtime: NumbaRuntime, table: Buffer, indices: Buffer, out: Buffer, *, padding: int = 0
) -> None:
    value = out.dtype.type(padding)
    runtime.launch_over(gather_kernel, out.size, _rows(table), indices, _rows(out), value)


def scatter(runtime: NumbaRuntime, values: Buffer, indices: Buffer, table: Buffer) -> None:
    runtime.launch_over(scatter_kernel, values.size, _rows(values), indices, _rows(table))


def _rows(buffer: Buffer) -> Buffer:
    """With all but the first axis made one."""
    return buffer.reshape(buffer.shape[0], buffer.size // max(buffer.shape[0], 1))
