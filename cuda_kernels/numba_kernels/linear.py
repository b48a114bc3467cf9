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
from cuda_kernels.numba_kernels.dropout import drop_one
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


@cuda.jit(device=True)
def product(a, a_row, a_term, b, b_column, b_term, rows, columns, depth):
    """This thread's entry of ``c``; a block owns a tile of it.

    The terms of a tile are added up by themselves first, which rounds less than one long sum.
    """
    shared = cuda.shared.array(0, float32)
    a_tile, b_tile = shared[:_ENTRIES], shared[_ENTRIES : 2 * _ENTRIES]
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    row0, column0 = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
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
    return total


@cuda.jit
def product_kernel(
    a,
    a_row,
    a_term,
    b,
    b_column,
    b_term,
    bias,
    with_bias,
    out,
    masked,
    rng,
    dropping,
    c,
    depth,
    with_relu,
    layer,
    rate,
    scale,
):
    # `out` is what a ReLU made, and perhaps dropout; a gradient stops where it is not positive.
    rows, columns = c.shape
    total = product(a, a_row, a_term, b, b_column, b_term, rows, columns, depth)
    row = cuda.blockIdx.x * TILE + cuda.threadIdx.y
    column = cuda.blockIdx.y * TILE + cuda.threadIdx.x
    if row < rows and column < columns:
        if with_bias:
            total += bias[column]
        if masked:
            total = total * scale if out[row, column] > 0 else np.float32(0)
        if with_relu:
            total = relu(total)
        if dropping:
            total = drop_one(total, rng, row * columns + column, layer, rate, scale)
        c[row, column] = total


@cuda.jit
def unpooled_product_kernel(a, a_row, a_term, b, b_column, b_term, out, argmax, grad_before, depth):
    # A thread owns the window that its entry was pooled from; the last windows, odd edges, too.
    rows, columns = out.shape
    total = product(a, a_row, a_term, b, b_column, b_term, rows, columns, depth)
    row = cuda.blockIdx.x * TILE + cuda.threadIdx.y
    column = cuda.blockIdx.y * TILE + cuda.threadIdx.x
    if row < rows and column < columns:
        _, map_h, map_w, channels = grad_before.shape
        pixel, channel = column // channels, column % channels
        y, x = pixel // (map_w // 2) * 2, pixel % (map_w // 2) * 2
        end_y = map_h if y + 3 == map_h else y + 2
        end_x = map_w if x + 3 == map_w else x + 2
        for v in range(y, end_y):
            for u in range(x, end_x):
                grad_before[row, v, u, channel] = np.float32(0)
        if out[row, column] > 0:
            place = argmax[row, column]
            grad_before[row, y + place // 2, x + place % 2, channel] = total


def _product(
    runtime: NumbaRuntime,
    a: Buffer,
    a_strides: tuple[int, int],
    b: Buffer,
    b_strides: tuple[int, int],
    c: Buffer,
    depth: int,
    bias: Buffer | None = None,
    out: Buffer | None = None,
    argmax: Buffer | None = None,
    with_relu: bool = False,
    rng: Buffer | None = None,
    layer: int = 0,
    rate: float = 0.0,
) -> None:
    rows, columns = c.shape if out is None else out.shape
    grid, block = (-(-rows // TILE), -(-columns // TILE)), (TILE, TILE)
    operands = a.reshape(-1), *a_strides, b.reshape(-1), *b_strides
    if argmax is not None:
        below = out, argmax, c, depth
        return runtime.launch(unpooled_product_kernel, grid, block, *operands, *below)
    optional = *runtime.optional(bias, 1), *runtime.optional(out, 2)
    drawn = runtime.optional(rng, 1, np.uint32)
    rest = c, depth, with_relu, layer, float(rate), np.float32(1 / (1 - rate))
    return runtime.launch(product_kernel, grid, block, *operands, *optional, *drawn, *rest)


def forward(
    runtime: NumbaRuntime,
    x: Buffer,
    weight: Buffer,
    bias: Buffer | None,
    out: Buffer,
    *,
    relu: bool = False,
    rng: Buffer | None = None,
    rate: float = 0.0,
    layer: int = 0,
) -> None:
    _, inputs = weight.shape
    operands = x, (inputs, 1), weight, (inputs, 1), out, inputs, bias
    _product(runtime, *operands, with_relu=relu, rng=rng, layer=layer, rate=rate)


def input_gradient(
    runtime: NumbaRuntime,
    grad: Buffer,
    weight: Buffer,
    grad_x: Buffer,
    out: Buffer | None = None,
    argmax: Buffer | None = None,
    *,
    rate: float = 0.0,
) -> None:
    outputs, inputs = weight.shape
    operands = grad, (outputs, 1), weight, (1, inputs), grad_x, outputs
    _product(runtime, *operands, out=out, argmax=argmax, rate=rate)


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
