"""Convolutions by their definition: each result is one sum, over pixels and taps as they lie.

A tap is an entry (ky, kx) of the kernel. Output pixel (p, q) reads, through it, pixel
(p * stride + ky - padding, q * stride + kx - padding) of x; beyond the image x is 0.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels import elementwise
from cuda_kernels.numba_kernels.column_sums import column_sums
from cuda_kernels.numba_kernels.device_functions import indices, is_larger, relu
from cuda_kernels.numba_kernels.runtime import NumbaRuntime
from cuda_kernels.runtime import Buffer

# -- kernels --------------------------------------------------------------------------------------


@cuda.jit(device=True)
def correlate(x, weight, n, p, q, o, stride, padding):
    """Channel ``o`` of output pixel (p, q), without its bias; each tap is a sum of its own."""
    _, height, width, channels = x.shape
    _, kernel_h, kernel_w, _ = weight.shape
    total = np.float32(0)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            row, column = p * stride + ky - padding, q * stride + kx - padding
            if 0 <= row < height and 0 <= column < width:
                of_tap = np.float32(0)
                for c in range(channels):
                    of_tap += x[n, row, column, c] * weight[o, ky, kx, c]
                total += of_tap
    return total


@cuda.jit
def forward_kernel(x, weight, bias, with_bias, out, stride, padding, with_relu):
    # A thread owns entries of `out`.
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        n, p, q, o = indices(i, out.shape)
        value = correlate(x, weight, n, p, q, o, stride, padding)
        if with_bias:
            value += bias[o]
        out[n, p, q, o] = relu(value) if with_relu else value


@cuda.jit
def forward_pool_kernel(x, weight, bias, with_bias, out, argmax, with_argmax, stride, padding):
    # A thread owns entries of the pooled `out`, and computes the four that each is chosen from.
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        n, p, q, o = indices(i, out.shape)
        largest, place = np.float32(0), 0
        for k in range(4):
            row, column = 2 * p + k // 2, 2 * q + k % 2
            value = correlate(x, weight, n, row, column, o, stride, padding)
            if with_bias:
                value += bias[o]
            if k == 0 or is_larger(value, largest):
                largest, place = value, k
        out[n, p, q, o] = relu(largest)
        if with_argmax:
            argmax[n, p, q, o] = place


@cuda.jit(device=True)
def gradient_of(grad, weight, n, y, x, c, stride, padding):
    """That of entry (n, y, x, c) of the input: the taps through which it was read, added up."""
    _, height, width, outputs = grad.shape
    _, kernel_h, kernel_w, _ = weight.shape
    total = np.float32(0)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            top, left = y + padding - ky, x + padding - kx
            p, q = top // stride, left // stride
            on_grid = p * stride == top and q * stride == left
            if on_grid and 0 <= p < height and 0 <= q < width:
                of_tap = np.float32(0)
                for o in range(outputs):
                    of_tap += grad[n, p, q, o] * weight[o, ky, kx, c]
                total += of_tap
    return total


@cuda.jit
def input_gradient_kernel(grad, weight, grad_x, out, with_relu, stride, padding):
    # A thread owns entries of `grad_x`; a ReLU that made `out` stops those that are not positive.
    for i in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        n, y, x, c = indices(i, grad_x.shape)
        total = np.float32(0)
        if not with_relu or out[n, y, x, c] > 0:
            total = gradient_of(grad, weight, n, y, x, c, stride, padding)
        grad_x[n, y, x, c] = total


@cuda.jit
def input_gradient_pool_kernel(grad, weight, grad_before, out, argmax, stride, padding):
    # A thread owns entries of the map before a pool, most of which have no gradient to compute.
    _, height, width, _ = out.shape
    for i in range(cuda.grid(1), grad_before.size, cuda.gridsize(1)):
        n, row, column, c = indices(i, grad_before.shape)
        y, x = row // 2, column // 2
        total = np.float32(0)
        if (
            y < height
            and x < width
            and argmax[n, y, x, c] == 2 * (row % 2) + column % 2
            and out[n, y, x, c] > 0
        ):
            total = gradient_of(grad, weight, n, y, x, c, stride, padding)
        grad_before[n, row, column, c] = total


@cuda.jit
def weight_gradient_kernel(x, grad, grad_weight, stride, padding):
    # A thread owns entries of `grad_weight`. A sum may have millions of terms: float32 along a row
    # of output pixels, float64 over the rows.
    _, height, width, _ = x.shape
    images, rows, columns, _ = grad.shape
    for i in range(cuda.grid(1), grad_weight.size, cuda.gridsize(1)):
        o, ky, kx, c = indices(i, grad_weight.shape)
        total = np.float64(0)
        for n in range(images):
            for p in range(rows):
                y = p * stride + ky - padding
                if 0 <= y < height:
                    of_row = np.float32(0)
                    for q in range(columns):
                        column = q * stride + kx - padding
                        if 0 <= column < width:
                            of_row += grad[n, p, q, o] * x[n, y, column, c]
                    total += of_row
        grad_weight[o, ky, kx, c] = total


@cuda.jit
def pool_gradient_kernel(grad, out, argmax, grad_before):
    # A thread owns entries of `grad_before`; those at odd edges are in no window.
    _, height, width, _ = grad.shape
    for i in range(cuda.grid(1), grad_before.size, cuda.gridsize(1)):
        n, y, x, o = indices(i, grad_before.shape)
        p, q = y // 2, x // 2
        value = np.float32(0)
        if (
            p < height
            and q < width
            and argmax[n, p, q, o] == 2 * (y % 2) + x % 2
            and out[n, p, q, o] > 0
        ):
            value = grad[n, p, q, o]
        grad_before[n, y, x, o] = value


# -- launches -------------------------------------------------------------------------------------


def forward(
    runtime: NumbaRuntime,
    x: Buffer,
    weight: Buffer,
    bias: Buffer | None,
    out: Buffer,
    argmax: Buffer | None,
    *,
    stride: int,
    padding: int,
    epilogue: Literal["none", "relu", "relu_pool"],
) -> None:
    inputs = x, weight, *runtime.optional(bias, 1), out
    if epilogue == "relu_pool":
        places = runtime.optional(argmax, 4, np.uint8)
        runtime.launch_over(forward_pool_kernel, out.size, *inputs, *places, stride, padding)
    else:
        with_relu = epilogue == "relu"
        runtime.launch_over(forward_kernel, out.size, *inputs, stride, padding, with_relu)


def input_gradient(
    runtime: NumbaRuntime,
    grad: Buffer,
    weight: Buffer,
    grad_x: Buffer,
    out: Buffer | None = None,
    argmax: Buffer | None = None,
    *,
    stride: int,
    padding: int,
) -> None:
    operands = grad, weight, grad_x
    if argmax is None:
        kernel, below = input_gradient_kernel, runtime.optional(out, 4)
    else:
        kernel, below = input_gradient_pool_kernel, (out, argmax)
    runtime.launch_over(kernel, grad_x.size, *operands, *below, stride, padding)


def weight_gradient(
    runtime: NumbaRuntime,
    x: Buffer | None,
    grad: Buffer,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
    *,
    stride: int,
    padding: int,
) -> None:
    if grad_weight is not None:
        arguments = x, grad, grad_weight, stride, padding
        runtime.launch_over(weight_gradient_kernel, grad_weight.size, *arguments)
    if grad_bias is not None:
        column_sums(runtime, grad, grad_bias)


def epilogue_gradient(
    runtime: NumbaRuntime,
    grad: Buffer,
    out: Buffer,
    argmax: Buffer | None,
    grad_before: Buffer,
    *,
    epilogue: Literal["relu", "relu_pool"],
) -> None:
    if epilogue == "relu":
        elementwise.relu_gradient(runtime, grad, out, grad_before)
    else:
        size = grad_before.size
        runtime.launch_over(pool_gradient_kernel, size, grad, out, argmax, grad_before)
