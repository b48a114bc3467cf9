"""Softmax and cross-entropy: the loss, its gradient and the counts, in one launch of one block."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.device_functions import block_sum, is_larger
from cuda_kernels.numba_kernels.runtime import THREADS, NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit(device=True)
def look_at(logits, row):
    """Where the row's first largest logit is, and the logarithm of the sum of exp over them."""
    answer = 0
    for k in range(1, logits.shape[1]):
        if is_larger(logits[row, k], logits[row, answer]):
            answer = k
    largest, total = np.float64(logits[row, answer]), np.float64(0)
    for k in range(logits.shape[1]):
        total += math.exp(logits[row, k] - largest)  # at most 1, so it cannot overflow
    return answer, largest + math.log(total)


@cuda.jit
def softmax_cross_entropy_kernel(
    logits, labels, class_weights, weighted, statistics, grad_logits, with_gradient, smoothing
):
    # A thread owns every THREADS-th row. All but the inputs and the gradient is in float64.
    thread, (rows, classes) = cuda.threadIdx.x, logits.shape
    losses, weights = np.float64(0), np.float64(0)
    right, real = np.float64(0), np.float64(0)
    for row in range(thread, rows, THREADS):
        label = labels[row]
        if label < 0:
            continue
        answer, log_sum = look_at(logits, row)
        loss = (1 - smoothing) * (log_sum - logits[row, label])
        if smoothing > 0:
            for k in range(classes):
                loss += smoothing / classes * (log_sum - logits[row, k])
        weight = np.float64(class_weights[label] if weighted else 1)
        losses += weight * loss
        weights += weight
        right += 1.0 if answer == label else 0.0
        real += 1.0
    losses = block_sum(losses)
    weights = block_sum(weights)
    right = block_sum(right)
    real = block_sum(real)
    if thread == 0:
        statistics[0] += losses
        statistics[1] += weights
        statistics[2] += right
        statistics[3] += real
    if with_gradient:
        for row in range(thread, rows, THREADS):
            label = labels[row]
            for k in range(classes):
                grad_logits[row, k] = 0
            if label < 0 or weights == 0:
                continue
            _, log_sum = look_at(logits, row)
            share = np.float64(class_weights[label] if weighted else 1) / weights
            for k in range(classes):
                target = smoothing / classes + (1 - smoothing if k == label else 0.0)
                grad_logits[row, k] = share * (math.exp(logits[row, k] - log_sum) - target)


def loss_and_gradient(
    runtime: NumbaRuntime,
    logits: Buffer,
    labels: Buffer,
    class_weights: Buffer | None,
    statistics: Buffer,
    grad_logits: Buffer | None,
    *,
    label_smoothing: float,
) -> None:
    runtime.launch(
        softmax_cross_entropy_kernel,
        (1,),
        THREADS,
        logits,
        labels,
        *runtime.optional(class_weights, 1),
        statistics,
        *runtime.optional(grad_logits, 2),
        float(label_smoothing),
    )
