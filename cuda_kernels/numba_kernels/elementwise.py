"""Filling, adding, and the gradient of ReLU, on arrays of any shape."""

from __future__ import annotations

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.runtime import NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit
def fill_kernel(out, value):
    # A thread owns every gridsize-th entry.
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = value


@cuda.jit
def accumulate_kernel(total, term):
    # A thread owns every gridsize-th entry.
    for i in range(cuda.grid(1), total.size, cuda.gridsize(1)):
        total[i] += term[i]


@cuda.jit
def relu_gradient_kernel(grad, out, grad_before):
    # A thread owns every gridsize-th entry.
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        grad_before[i] = grad[i] if out[i] > 0 else np.float32(0)


def fill(runtime: NumbaRuntime, out: Buffer, value: float) -> None:
    runtime.launch_over(fill_kernel, out.size, out.reshape(-1), out.dtype.type(value))


def accumulate(runtime: NumbaRuntime, total: Buffer, term: Buffer) -> None:
    runtime.launch_over(accumulate_kernel, total.size, total.reshape(-1), term.reshape(-1))


def relu_gradient(runtime: NumbaRuntime, grad: Buffer, out: Buffer, grad_before: Buffer) -> None:
    arrays = (array.reshape(-1) for array in (grad, out, grad_before))
    runtime.launch_over(relu_gradient_kernel, out.size, *arrays)
