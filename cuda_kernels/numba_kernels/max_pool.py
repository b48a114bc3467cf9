"""Max-pooling of NHWC images."""

from __future__ import annotations

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.device_functions import indices, is_larger
from cuda_kernels.numba_kernels.runtime import NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit
def max_pool_kernel(x, out, argmax, with_argmax, window, stride):
    # A thread owns entries of `out`, and looks through the window of each.
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        n, p, q, c = indices(i, out.shape)
        largest, place = x[n, p * stride, q * stride, c], 0
        for k in range(1, window * window):
            value = x[n, p * stride + k // window, q * stride + k % window, c]
            if is_larger(value, largest):
                largest, place = value, k
        out[n, p, q, c] = largest
        if with_argmax:
            argmax[n, p, q, c] = place


@cuda.jit
def max_pool_gradient_kernel(grad, argmax, grad_x, window, stride):
    # A thread owns entries of `grad_x`, and adds up the windows, in order, that chose each.
    _, height, width, _ = grad.shape
    for i in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        n, y, x, c = indices(i, grad_x.shape)
        total = np.float32(0)
        for p in range(max(0, (y - window) // stride + 1), min(height, y // stride + 1)):
            for q in range(max(0, (x - window) // stride + 1), min(width, x // stride + 1)):
                if argmax[n, p, q, c] == (y - p * stride) * window + x - q * stride:
                    total += grad[n, p, q, c]
        grad_x[n, y, x, c] = total


def forward(
    runtime: NumbaRuntime,
    x: Buffer,
    out: Buffer,
    argmax: Buffer | None,
    *,
    window: int,
    stride: int,
) -> None:
    places = runtime.optional(argmax, 4, np.uint8)
    runtime.launch_over(max_pool_kernel, out.size, x, out, *places, window, stride)


def backward(
    runtime: NumbaRuntime,
    grad: Buffer,
    argmax: Buffer,
    grad_x: Buffer,
    *,
    window: int,
    stride: int,
) -> None:
    runtime.launch_over(max_pool_gradient_kernel, grad_x.size, grad, argmax, grad_x, window, stride)
