"""The masked update and the clipping factor: see update.cu.

A *mask* (uint8, non-zero where the parameter may move) is ``None``, one entry an output channel
``[O]``, the first axis, or has the parameter's own shape. *Rates* are float64 ``[4]``: learning
rate, Adam's two bias corrections ``1 - beta**t``, clipping factor. A *copy* (bf16, a uint16 array
of bits) receives what moves of the parameter, rounded. The *gradient* of an update has the
parameter's shape, or before it an axis of slices (see ``conv2d.gradient_slices``), whose sum it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuda_kernels import sliced_sums
from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256
MOST_BLOCKS = 2048  # more than any GPU holds at once; each thread strides over the rest
MOST_PARTIALS = 1024  # of a gradient: blocks for every GPU, and little left for the second stage
ENTRIES_OF_PARTIAL = 4 * THREADS


@dataclass(frozen=True)
class Entries:
    """``count`` entries of a parameter, the least that updating them takes, and the slices of
    their gradient."""

    count: int
    bytes: int
    flops: int
    slices: int = 1


def _grid(entries: Entries) -> Grid:
    return (min(MOST_BLOCKS, sliced_sums.blocks(entries.count, entries.slices)), 1, 1)


def _partials_of(count: int) -> int:
    return min(MOST_PARTIALS, -(-count // ENTRIES_OF_PARTIAL))


def _grid_of_partials(entries: Entries) -> Grid:
    return (_partials_of(entries.count), 1, 1)


def _too_many(entries: Entries) -> str | None:
    return None if entries.count < 2**32 else "counts entries in 32 bits"


KERNELS = (
    Kernel("sgd", "sgd", 1, SOURCE, "one entry a thread and step", THREADS, _grid, 0, _too_many),
    Kernel("adam", "adam", 1, SOURCE, "one entry a thread and step", THREADS, _grid, 0, _too_many),
    Kernel(
        "sum_of_squares",
        "sum_of_squares",
        1,
        SOURCE,
        "a float64 sum for each block, of 1024 entries or more",
        THREADS,
        _grid_of_partials,
        0,
        _too_many,
    ),
    Kernel(
        "clip_factor",
        "clip_factor",
        1,
        SOURCE,
        "one block adds the partial sums in order",
        THREADS,
        lambda _: (1, 1, 1),
    ),
)


def sgd(
    runtime: Runtime,
    parameter: Buffer,
    gradient: Buffer,
    velocity: Buffer | None,
    mask: Buffer | None,
    rates: Buffer,
    copy: Buffer | None = None,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """``g = clip * gradient + decay * p``; ``v = momentum * v + g``, or ``g`` with no velocity;
    ``p -= rate * (g + momentum * v if nesterov else v)``. float32, any shape, in place.
    """
    count = parameter.size
    slices = _slices(parameter, gradient)
    moved = 4 * count * (2 if velocity is None else 4) + gradient.nbytes + _size(copy)
    arguments = {
        "parameter": parameter,
        "gradient": gradient,
        "velocity": velocity,
        "rates": rates,
        "copy": copy,
        "slices": slices,
        "momentum": momentum,
        "nesterov": nesterov,
        "decay": weight_decay,
        **_masked(parameter, mask),
    }
    problem = Entries(count, moved + _size(mask), (7 + slices) * count, slices)
    runtime.run("sgd", problem, arguments)


def adam(
    runtime: Runtime,
    parameter: Buffer,
    gradient: Buffer,
    first: Buffer,
    second: Buffer,
    mask: Buffer | None,
    rates: Buffer,
    copy: Buffer | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019) if ``decoupled``.

    ``g = clip * gradient (+ decay * p unless decoupled)``; ``m = beta1 m + (1 - beta1) g``;
    ``v = beta2 v + (1 - beta2) g**2``; ``p -= rate * (m / c1 / (sqrt(v / c2) + epsilon)
    (+ decay * p if decoupled))``. float32, any shape, in place.
    """
    count = parameter.size
    slices = _slices(parameter, gradient)
    arguments = {
        "parameter": parameter,
        "gradient": gradient,
        "first": first,
        "second": second,
        "rates": rates,
        "copy": copy,
        "slices": slices,
        "beta1": beta1,
        "rest1": 1 - beta1,
        "beta2": beta2,
        "rest2": 1 - beta2,
        "epsilon": epsilon,
        "decay": weight_decay,
        "decoupled": decoupled,
        **_masked(parameter, mask),
    }
    moved = 24 * count + gradient.nbytes + _size(mask) + _size(copy)
    runtime.run("adam", Entries(count, moved, (17 + slices) * count, slices), arguments)


def partials(gradients: Sequence[Buffer]) -> int:
    """How many float64 entries ``clip`` needs for its partial sums."""
    return sum(_partials_of(gradient.size) for gradient in gradients)


def clip(
    runtime: Runtime,
    gradients: Sequence[Buffer],
    masks: Sequence[Buffer | None],
    sums: Buffer,
    rates: Buffer,
    *,
    max_norm: float,
) -> None:
    """Writes ``rates[3] = min(1, max_norm / norm)``, the norm over all unmasked entries.

    ``sums`` (float64, ``partials(gradients)`` entries) is scratch. A NaN makes the factor NaN.
    """
    offset = 0
    for gradient, mask in zip(gradients, masks, strict=True):
        size = _partials_of(gradient.size)
        arguments = {
            "gradient": gradient,
            "partials": runtime.view(sums, 8 * offset, (size,), np.float64),
            **_masked(gradient, mask),
        }
        moved = gradient.nbytes + _size(mask)
        runtime.run("sum_of_squares", Entries(gradient.size, moved, 2 * gradient.size), arguments)
        offset += size
    arguments = {"partials": sums, "rates": rates, "count": offset, "max_norm": max_norm}
    runtime.run("clip_factor", Entries(offset, 8 * offset, offset), arguments)


def _slices(parameter: Buffer, gradient: Buffer) -> int:
    """How many a gradient comes in; 1 if it has no axis of them."""
    slices = sliced_sums.axis(gradient, parameter.ndim)
    if gradient.shape != (*slices, *parameter.shape):
        raise ValueError(
            f"a gradient of shape {gradient.shape} does not fit a parameter of shape "
            f"{parameter.shape}"
        )
    return math.prod(slices)


def _masked(parameter: Buffer, mask: Buffer | None) -> dict[str, Any]:
    """What a kernel is told of a parameter's entries and its mask's."""
    per_mask = 1
    if mask is not None:
        if mask.shape not in (parameter.shape, parameter.shape[:1]):
            raise ValueError(
                f"a mask of shape {mask.shape} fits a parameter of shape {parameter.shape} neither "
                "by output channel nor by entry"
            )
        per_mask = math.prod(parameter.shape[mask.ndim :])
    return {"mask": mask, "count": parameter.size, "per_mask": per_mask}


def _size(buffer: Buffer | None) -> int:
    return 0 if buffer is None else int(buffer.nbytes)
