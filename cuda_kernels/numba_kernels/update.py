"""The masked update and the clipping factor, on parameters of any shape.

A mask has one entry for every ``per_mask`` of the parameter's: 1, or an output channel's share.
``rates`` are float64: learning rate, Adam's two bias corrections, clipping factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.device_functions import block_sum
from cuda_kernels.numba_kernels.runtime import THREADS, NumbaRuntime, blocks_over
from cuda_kernels.runtime import Buffer

# -- kernels --------------------------------------------------------------------------------------


@cuda.jit(device=True)
def is_frozen(i, mask, masked, per_mask):
    return masked and mask[i // per_mask] == 0


@cuda.jit
def sgd_kernel(
    parameter,
    gradient,
    velocity,
    with_velocity,
    mask,
    masked,
    per_mask,
    rates,
    momentum,
    nesterov,
    decay,
):
    # A thread owns entries of the parameter, and skips those that are frozen.
    rate, clip = np.float32(rates[0]), np.float32(rates[3])
    for i in range(cuda.grid(1), parameter.size, cuda.gridsize(1)):
        if is_frozen(i, mask, masked, per_mask):
            continue
        g = clip * gradient[i] + decay * parameter[i]
        v = g
        if with_velocity:
            v += momentum * velocity[i]
            velocity[i] = v
        parameter[i] -= rate * (g + momentum * v if nesterov else v)


@cuda.jit
def adam_kernel(
    parameter,
    gradient,
    first,
    second,
    mask,
    masked,
    per_mask,
    rates,
    beta1,
    rest1,
    beta2,
    rest2,
    epsilon,
    decay,
    decoupled,
):
    # A thread owns entries of the parameter, and skips those that are frozen.
    rate, clip = np.float32(rates[0]), np.float32(rates[3])
    correction1, correction2 = np.float32(rates[1]), np.float32(rates[2])
    for i in range(cuda.grid(1), parameter.size, cuda.gridsize(1)):
        if is_frozen(i, mask, masked, per_mask):
            continue
        p, g = parameter[i], clip * gradient[i]
        if not decoupled:
            g += decay * p
        m = beta1 * first[i] + rest1 * g
        v = beta2 * second[i] + rest2 * g * g
        step = m / correction1 / (np.float32(math.sqrt(v / correction2)) + epsilon)
        if decoupled:
            step += decay * p
        parameter[i] = p - rate * step
        first[i] = m
        second[i] = v


@cuda.jit
def sum_of_squares_kernel(gradient, mask, masked, per_mask, partials):
    # A thread owns entries of the gradient, a block one partial sum.
    total = np.float64(0)
    for i in range(cuda.grid(1), gradient.size, cuda.gridsize(1)):
        if not is_frozen(i, mask, masked, per_mask):
            total += np.float64(gradient[i]) * np.float64(gradient[i])
    total = block_sum(total)
    if cuda.threadIdx.x == 0:
        partials[cuda.blockIdx.x] = total


@cuda.jit
def clip_factor_kernel(partials, count, rates, max_norm):
    # One block; a thread owns every THREADS-th partial sum.
    total = np.float64(0)
    for i in range(cuda.threadIdx.x, count, THREADS):
        total += partials[i]
    norm = math.sqrt(block_sum(total))
    if cuda.threadIdx.x == 0:
        rates[3] = 1.0 if norm <= max_norm else max_norm / norm


# -- launches -------------------------------------------------------------------------------------


def sgd(
    runtime: NumbaRuntime,
    parameter: Buffer,
    gradient: Buffer,
    velocity: Buffer | None,
    mask: Buffer | None,
    rates: Buffer,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    runtime.launch_over(
        sgd_kernel,
        parameter.size,
        parameter.reshape(-1),
        gradient.reshape(-1),
        *runtime.optional(_flat(velocity), 1),
        *_masked(runtime, parameter, mask),
        rates,
        np.float32(momentum),
        nesterov,
        np.float32(weight_decay),
    )


def adam(
    runtime: NumbaRuntime,
    parameter: Buffer,
    gradient: Buffer,
    first: Buffer,
    second: Buffer,
    mask: Buffer | None,
    rates: Buffer,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    runtime.launch_over(
        adam_kernel,
        parameter.size,
        *(array.reshape(-1) for array in (parameter, gradient, first, second)),
        *_masked(runtime, parameter, mask),
        rates,
        np.float32(beta1),
        np.float32(1 - beta1),
        np.float32(beta2),
        np.float32(1 - beta2),
        np.float32(epsilon),
        np.float32(weight_decay),
        decoupled,
    )


def partials(gradients: Sequence[Buffer]) -> int:
    """How many float64 entries ``clip`` needs for its partial sums."""
    return max(1, sum(blocks_over(gradient.size) for gradient in gradients))


def clip(
    runtime: NumbaRuntime,
    gradients: Sequence[Buffer],
    masks: Sequence[Buffer | None],
    sums: Buffer,
    rates: Buffer,
    *,
    max_norm: float,
) -> None:
    offset = 0
    for gradient, mask in zip(gradients, masks, strict=True):
        blocks = blocks_over(gradient.size)
        runtime.launch_over(
            sum_of_squares_kernel,
            gradient.size,
            gradient.reshape(-1),
            *_masked(runtime, gradient, mask),
            runtime.view(sums, 8 * offset, (blocks,), np.float64),
        )
        offset += blocks
    runtime.launch(clip_factor_kernel, (1,), THREADS, sums, offset, rates, float(max_norm))


def _flat(buffer: Buffer | None) -> Buffer | None:
    return None if buffer is None else buffer.reshape(-1)


def _masked(
    runtime: NumbaRuntime, parameter: Buffer, mask: Buffer | None
) -> tuple[Buffer, bool, int]:
    """What a kernel is told of a mask: its entries, whether it counts, entries for each of it."""
    array, masked = runtime.optional(_flat(mask), 1, np.uint8)
    return array, masked, parameter.size // mask.size if mask is not None else 1
