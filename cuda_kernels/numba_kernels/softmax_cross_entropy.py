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


@cuda.jit(device=True)
def weight_of(labels, soft, class_weights, weighted, row):
    """The mean of the class weights under the row's target; 0 for a padding row."""
    if labels[row, 0] < 0:
        return np.float64(0)
    if not weighted:
        return np.float64(1)
    if not soft:
        return np.float64(class_weights[int(labels[row, 0])])
    mean = np.float64(0)
    for k in range(labels.shape[1]):
        mean += np.float64(labels[row, k]) * class_weights[k]
    return mean


@cuda.jit(device=True)
def right_answer(labels, soft, row):
    """The label, or the class with the first largest share."""
    if not soft:
        return int(labels[row, 0])
    right = 0
    for k in range(1, labels.shape[1]):
        if labels[row, k] > labels[row, right]:
            right = k
    return right


@cuda.jit(device=True)
def only_class(logits, labels, soft, multi_target, row):
    """The class that has the whole target, or -1 where it is shared."""
    if not soft:
        return int(labels[row, 0])
    chosen = -1
    for k in range(logits.shape[1] if multi_target else 0):
        first = chosen < 0
        if labels[row, k] > 0 and (first or is_larger(logits[row, k], logits[row, chosen])):
            chosen = k
    return chosen


@cuda.jit(device=True)
def target_of(labels, only, row, k, classes, smoothing):
    """What the probability of class ``k`` should be."""
    one_hot = np.float64(1 if k == only else 0)
    share = np.float64(labels[row, k]) if only < 0 else one_hot
    return smoothing / classes + (1 - smoothing) * share


@cuda.jit
def softmax_cross_entropy_kernel(
    logits,
    labels,
    soft,
    multi_target,
    class_weights,
    weighted,
    statistics,
    grad_logits,
    with_gradient,
    smoothing,
):
    # A thread owns every THREADS-th row. All but the inputs and the gradient is in float64.
    thread, (rows, classes) = cuda.threadIdx.x, logits.shape
    losses, weights = np.float64(0), np.float64(0)
    right, real = np.float64(0), np.float64(0)
    for row in range(thread, rows, THREADS):
        if labels[row, 0] < 0:
            continue
        answer, log_sum = look_at(logits, row)
        only = only_class(logits, labels, soft, multi_target, row)
        loss = np.float64(0)
        for k in range(classes):
            target = target_of(labels, only, row, k, classes, smoothing)
            if target > 0:  # 0 of an infinite distance is 0
                loss += target * (log_sum - logits[row, k])
        weight = weight_of(labels, soft, class_weights, weighted, row)
        losses += weight * loss
        weights += weight
        right += 1.0 if answer == right_answer(labels, soft, row) else 0.0
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
            for k in range(classes):
                grad_logits[row, k] = 0
            if labels[row, 0] < 0 or weights == 0:
                continue
            _, log_sum = look_at(logits, row)
            only = only_class(logits, labels, soft, multi_target, row)
            part = weight_of(labels, soft, class_weights, weighted, row) / weights
            for k in range(classes):
                target = target_of(labels, only, row, k, classes, smoothing)
                grad_logits[row, k] = part * (math.exp(logits[row, k] - log_sum) - target)


def loss_and_gradient(
    runtime: NumbaRuntime,
    logits: Buffer,
    labels: Buffer,
    class_weights: Buffer | None,
    statistics: Buffer,
    grad_logits: Buffer | None,
    *,
    label_smoothing: float,
    multi_target: bool = False,
) -> None:
    runtime.launch(
        softmax_cross_entropy_kernel,
        (1,),
        THREADS,
        logits,
        labels.reshape(len(labels), -1),  # labels as one column, or shares of each class
        labels.ndim == 2,
        multi_target,
        *runtime.optional(class_weights, 1),
        statistics,
        *runtime.optional(grad_logits, 2),
        float(label_smoothing),
    )
