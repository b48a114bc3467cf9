"""Batch normalisation of ``[rows][C]``, by its definition: the mean first, then the variance."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.device_functions import block_sum, relu
from cuda_kernels.numba_kernels.runtime import THREADS, NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit
def forward_kernel(
    x,
    weight,
    bias,
    running_mean,
    running_variance,
    moving,
    with_moving,
    out,
    mean,
    inverse_std,
    momentum,
    epsilon,
    with_relu,
):
    # A block owns a channel; a thread every THREADS-th row of it. Statistics are in float64.
    c, thread, rows = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[0]
    average, variance = np.float64(running_mean[c]), np.float64(running_variance[c])
    if with_moving and moving[c] != 0:
        total = np.float64(0)
        for row in range(thread, rows, THREADS):
            total += x[row, c]
        old_average, average = average, block_sum(total) / rows
        total = np.float64(0)
        for row in range(thread, rows, THREADS):
            distance = x[row, c] - average
            total += distance * distance
        squares = block_sum(total)
        old_variance, variance = variance, squares / rows
        if thread == 0:
            unbiased = squares / max(rows - 1, 1)
            running_mean[c] = (1 - momentum) * old_average + momentum * average
            running_variance[c] = (1 - momentum) * old_variance + momentum * unbiased
    center, inverse = np.float32(average), np.float32(1 / math.sqrt(variance + epsilon))
    if thread == 0:
        mean[c] = center
        inverse_std[c] = inverse
    for row in range(thread, rows, THREADS):
        value = (x[row, c] - center) * inverse * weight[c] + bias[c]
        out[row, c] = relu(value) if with_relu else value


@cuda.jit
def backward_kernel(
    x,
    with_x,
    grad,
    weight,
    mean,
    inverse_std,
    moving,
    with_moving,
    grad_x,
    with_grad_x,
    grad_weight,
    with_grad_weight,
    grad_bias,
    with_grad_bias,
):
    # A block owns a channel; a thread every THREADS-th row of it. Sums are in float64.
    c, thread, rows = cuda.blockIdx.x, cuda.threadIdx.x, grad.shape[0]
    grads, products = np.float64(0), np.float64(0)
    for row in range(thread, rows, THREADS):
        grads += grad[row, c]
        if with_x:
            products += grad[row, c] * ((x[row, c] - mean[c]) * inverse_std[c])
    grads = block_sum(grads)
    products = block_sum(products)
    if thread == 0:
        if with_grad_bias:
            grad_bias[c] = grads
        if with_grad_weight:
            grad_weight[c] = products
    if with_grad_x:
        # The mean and the variance of a moving channel depend on every x in it.
        moves = with_x and with_moving and moving[c] != 0
        mean_grad, mean_product = np.float32(grads / rows), np.float32(products / rows)
        for row in range(thread, rows, THREADS):
            gradient = grad[row, c]
            if moves:
                normalised = (x[row, c] - mean[c]) * inverse_std[c]
                gradient -= mean_grad + normalised * mean_product
            grad_x[row, c] = weight[c] * inverse_std[c] * gradient


def forward(
    runtime: NumbaRuntime,
    x: Buffer,
    weight: Buffer,
    bias: Buffer,
    running_mean: Buffer,
    running_variance: Buffer,
    moving: Buffer | None,
    out: Buffer,
    mean: Buffer,
    inverse_std: Buffer,
    *,
    momentum: float,
    epsilon: float,
    epilogue: Literal["none", "relu"],
) -> None:
    channels = weight.size
    shape = x.size // channels, channels
    runtime.launch(
        forward_kernel,
        (channels,),
        THREADS,
        x.reshape(shape),
        weight,
        bias,
        running_mean,
        running_variance,
        *runtime.optional(moving, 1, np.uint8),
        out.reshape(shape),
        mean,
        inverse_std,
        float(momentum),
        float(epsilon),
        epilogue == "relu",
    )


def backward(
    runtime: NumbaRuntime,
    x: Buffer | None,
    grad: Buffer,
    weight: Buffer,
    mean: Buffer,
    inverse_std: Buffer,
    moving: Buffer | None,
    grad_x: Buffer | None,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
) -> None:
    channels = weight.size
    shape = grad.size // channels, channels
    runtime.launch(
        backward_kernel,
        (channels,),
        THREADS,
        *runtime.optional(None if x is None else x.reshape(shape), 2),
        grad.reshape(shape),
        weight,
        mean,
        inverse_std,
        *runtime.optional(moving, 1, np.uint8),
        *runtime.optional(None if grad_x is None else grad_x.reshape(shape), 2),
        *runtime.optional(grad_weight, 1),
        *runtime.optional(grad_bias, 1),
    )
