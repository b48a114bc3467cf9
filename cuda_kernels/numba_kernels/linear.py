"""Fully connected layers: three products of matrices, tile by tile through shared memory.

    forward           out [N][O]         = x [N][I]       * weight [O][I] transposed + bias
    input gradient    grad_x [N][I]      = grad [N][O]    * weight [O][I]
    weight gradient   grad_weight [O][I] = grad [N][O] transposed * x [N][I]

All are ``c[row, column] = sum over k of a(row, k) * b(column, k)``; an operand is a flat array with
two strides, one from row to row (or column to column) and one from term to term.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32

from cuda_kernels.numba_kernels.column_sums import column_sums
from cuda_kernels.numba_kernels.device_functions import relu
from cuda_kernels.numba_kernels.runtime import ROW_OF_TILE, TILE, NumbaRuntime
from cuda_kernels.runtime import Buffer

_ENTRIES = TILE * ROW_OF_TILE


@cuda.jit(device=True)
def load(tile, operand, row0, rows, row_stride, k0, depth, term_stride):
    """Fill ``tile [row][k]``, with 0 beyond the operand's last row and term.

    Neighbouring threads read neighbours in memory, whichever stride is 1.
    """
    i, k = cuda.threadIdx.y, cuda.threadIdx.x
    if row_stride == 1:
        i, k = k, i
    if row0 + i < rows and k0 + k < depth:
        tile[i * ROW_OF_TILE + k] = operand[(row0 + i) * row_stride + (k0 + k) * term_stride]
    else:
        tile[i * ROW_OF_TILE + k] = np.float32(0)


@cuda.jit
def product_kernel(a, a_row, a_term, b, b_column, b_term, bias, with_bias, c, depth, with_relu):
    # A block owns a tile of `c`, and a thread one entry of it. The terms of a tile are added up by
    # themselves first, which rounds less than one long sum.
    shared = cuda.shared.array(0, float32)
    a_tile, b_tile = shared[:_ENTRIES], shared[_ENTRIES : 2 * _ENTRIES]
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    row0, column0 = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    rows, columns = c.shape
    total = np.float32(0)
    for k0 in range(0, depth, TILE):
        load(a_tile, a, row0, rows, a_row, k0, depth, a_term)
        load(b_tile, b, column0, columns, b_column, k0, depth, b_term)
        cuda.syncthreads()  # the tiles are complete
        of_tile = np.float32(0)
        for k in range(TILE):
            of_tile += a_tile[i * ROW_OF_TILE + k] * b_tile[j * ROW_OF_TILE + k]
        total += of_tile
        cuda.syncthreads()  # nobody reads them any more
    row, column = row0 + i, column0 + j
    if row < rows and column < columns:
        if with_bias:
            total += bias[column]
        c[row, column] = relu(total) if with_relu else total


def _product(
    runtime: NumbaRuntime,
    a: Buffer,
    a_strides: tuple[int, int],
    b: Buffer,
    b_strides: tuple[int, int],
    c: Buffer,
    depth: int,
    bias: Buffer | None = None,
    with_relu: bool = False,
) -> None:
    rows, columns = c.shape
    runtime.launch(
        product_kernel,
        (-(-rows // TILE), -(-columns // TILE)),
        (TILE, TILE),
        a.reshape(-1),
        *a_strides,
        b.reshape(-1),
        *b_strides,
        *runtime.optional(bias, 1),
        c,
        depth,
        with_relu,
    )


def forward(
    runtime: NumbaRuntime,
    x: Buffer,
    weight: Buffer,
    bias: Buffer | None,
    out: Buffer,
    *,
    relu: bool = False,
) -> None:
    _, inputs = weight.shape
    _product(runtime, x, (inputs, 1), weight, (inputs, 1), out, inputs, bias, relu)


def input_gradient(runtime: NumbaRuntime, grad: Buffer, weight: Buffer, grad_x: Buffer) -> None:
    outputs, inputs = weight.shape
    _product(runtime, grad, (outputs, 1), weight, (1, inputs), grad_x, outputs)


def weight_gradient(
    runtime: NumbaRuntime,
    x: Buffer | None,
    grad: Buffer,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
) -> None:
    count, outputs = grad.shape
    if grad_weight is not None:
        _, inputs = grad_weight.shape
        _product(runtime, grad, (1, outputs), x, (1, inputs), grad_weight, count)
    if grad_bias is not None:
        column_sums(runtime, grad, grad_bias)
