"""Batch normalisation: see batch_norm.cu.

``x [..., C]``, ``out`` and their gradients are float32, or bf16 (uint16 arrays of bits) with
``precision="bf16"``; everything else that is floating is float32.

Partial sums lie in a scratch buffer of 0.4 MB, which a thread's first call allocates: so it
comes before a graph is captured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

SOURCE = Path(__file__).with_suffix(".cu")
THREADS, COLUMNS = 256, 32
MOST_BLOCKS = 512  # of sums: some for each multiprocessor of any GPU
MOST_CHANNELS = MOST_BLOCKS * COLUMNS
ROWS_OF_SLICE = 64  # fewer would cost more partial sums than they save


@dataclass(frozen=True)
class Channels:
    """``C`` channels of ``rows`` entries, or of ``rows`` slices of sums."""

    rows: int
    c: int
    flops: int
    bytes: int

    @property
    def blocks(self) -> int:
        return -(-self.c // COLUMNS)

    @property
    def slices(self) -> int:
        """In how many parts the rows are summed."""
        return max(1, min(-(-self.rows // ROWS_OF_SLICE), MOST_BLOCKS // self.blocks))


def _grid_of_sums(channels: Channels) -> Grid:
    return (channels.blocks, channels.slices, 1)


def _grid_of_channels(channels: Channels) -> Grid:
    return (channels.blocks, 1, 1)


def _grid_of_entries(channels: Channels) -> Grid:
    return (-(-channels.rows * channels.c // THREADS), 1, 1)


def _too_large(channels: Channels) -> str | None:
    if channels.c > MOST_CHANNELS:
        return f"has room for the sums of {MOST_CHANNELS} channels, not {channels.c}"
    if channels.rows * channels.c >= 1 << 32:
        return f"counts fewer than 2**32 entries, not {channels.rows * channels.c}"
    return None


def _kernels(
    name: str, why: str, grid: Callable[[Channels], Grid], *precisions: Precision
) -> list[Kernel]:
    def kernel(precision: Precision) -> Kernel:
        full = name if precision == "fp32" else f"{name}_{precision}"
        common = (name, 1, SOURCE, why, THREADS, grid)
        return Kernel(full, *common, refuses=_too_large, precision=precision)

    return [kernel(precision) for precision in precisions]


ROWS, SLICES, ENTRY = (
    "32 channels and a slice of the rows a block",
    "adds the slices in order",
    "one entry a thread",
)
KERNELS = (
    *_kernels("batch_norm_sums", ROWS, _grid_of_sums, "fp32", "bf16"),
    *_kernels("batch_norm_statistics", SLICES, _grid_of_channels, "fp32"),
    *_kernels("batch_norm_normalise", ENTRY, _grid_of_entries, "fp32", "bf16"),
    *_kernels("batch_norm_gradient_sums", ROWS, _grid_of_sums, "fp32", "bf16"),
    *_kernels("batch_norm_parameters", SLICES, _grid_of_channels, "fp32"),
    *_kernels("batch_norm_input_gradient", ENTRY, _grid_of_entries, "fp32", "bf16"),
)


def forward(
    runtime: Runtime,
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
    precision: Precision = "fp32",
) -> None:
    """``out = (x - mean) * inverse_std * weight + bias``, then ReLU if asked.

    Channels with ``moving`` (uint8 ``[C]``; ``None`` means none) 1 take the batch's mean and biased
    variance, and move the running ones (by the unbiased variance) in place; the others take the
    running ones. ``mean`` and ``inverse_std`` ``[C]`` receive what was taken.
    """
    rows, c = _rows(x, out, weight)
    sizes = Channels(rows, c, 3 * x.size, x.nbytes)
    partial, _ = _scratch(runtime, sizes)
    if moving is not None:
        arguments = {"x": x, "moving": moving, "partial": partial, "rows": rows, "c": c}
        runtime.run("batch_norm_sums", sizes, arguments, precision=precision)
    arguments = {
        "partial": partial,
        "moving": moving,
        "running_mean": running_mean,
        "running_variance": running_variance,
        "mean": mean,
        "inverse_std": inverse_std,
        "slices": 0 if moving is None else sizes.slices,
        "rows": rows,
        "c": c,
        "momentum": momentum,
        "epsilon": epsilon,
    }
    runtime.run("batch_norm_statistics", _of_slices(sizes), arguments)
    arguments = {
        "x": x,
        "weight": weight,
        "bias": bias,
        "mean": mean,
        "inverse_std": inverse_std,
        "out": out,
        "c": c,
        "count": x.size,
        "with_relu": epilogue == "relu",
    }
    problem = Channels(rows, c, 4 * x.size, x.nbytes + out.nbytes)
    runtime.run("batch_norm_normalise", problem, arguments, precision=precision)


def backward(
    runtime: Runtime,
    x: Buffer | None,
    grad: Buffer,
    weight: Buffer,
    mean: Buffer,
    inverse_std: Buffer,
    moving: Buffer | None,
    grad_x: Buffer | None,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
    *,
    precision: Precision = "fp32",
) -> None:
    """Gradients from ``grad``, the gradient before the epilogue; what is ``None`` is not computed.

    ``mean`` and ``inverse_std`` are those that ``forward`` wrote. ``x`` is read only for
    ``grad_weight`` and for ``grad_x`` in channels that move; it may be ``None`` without them.
    """
    rows, c = _rows(grad, grad if x is None else x, weight)
    read = grad.nbytes + (0 if x is None else x.nbytes)
    sizes = Channels(rows, c, 5 * grad.size, read)
    partial, shares = _scratch(runtime, sizes)
    through_statistics = grad_x is not None and moving is not None
    if grad_weight is not None or grad_bias is not None or through_statistics:
        arguments = {
            "x": x if grad_weight is not None or through_statistics else None,
            "grad": grad,
            "mean": mean,
            "inverse_std": inverse_std,
            "partial": partial,
            "rows": rows,
            "c": c,
        }
        runtime.run("batch_norm_gradient_sums", sizes, arguments, precision=precision)
        arguments = {
            "partial": partial,
            "grad_weight": grad_weight,
            "grad_bias": grad_bias,
            "shares": shares,
            "slices": sizes.slices,
            "rows": rows,
            "c": c,
        }
        runtime.run("batch_norm_parameters", _of_slices(sizes), arguments)
    if grad_x is not None:
        arguments = {
            "x": x if through_statistics else None,
            "grad": grad,
            "weight": weight,
            "mean": mean,
            "inverse_std": inverse_std,
            "moving": moving,
            "shares": shares if through_statistics else None,
            "grad_x": grad_x,
            "c": c,
            "count": grad.size,
        }
        problem = Channels(rows, c, 6 * grad.size, read + grad_x.nbytes)
        runtime.run("batch_norm_input_gradient", problem, arguments, precision=precision)


def _rows(x: Buffer, other: Buffer, weight: Buffer) -> tuple[int, int]:
    """Rows and channels of ``x``, with which the others must agree."""
    c = x.shape[-1]
    if other.shape != x.shape or weight.shape != (c,):
        raise ValueError(f"batch_norm: {x.shape}, {other.shape} and {weight.shape} do not fit")
    return x.size // c, c


def _of_slices(sizes: Channels) -> Channels:
    """Adding up the slices of ``sizes``: two sums of each."""
    entries = 2 * sizes.slices * sizes.c
    return Channels(sizes.slices, sizes.c, entries, 8 * entries)


_PARTIAL_BYTES = 2 * 8 * MOST_CHANNELS
_SHARES_BYTES = 2 * 4 * MOST_CHANNELS


def _scratch(runtime: Runtime, sizes: Channels) -> tuple[Buffer, Buffer]:
    """Float64 ``[slices, 2, C]`` for partial sums and float32 ``[2, C]`` for shares."""
    scratch = runtime.scratch("channels", _PARTIAL_BYTES + _SHARES_BYTES, np.uint8)
    c = min(sizes.c, MOST_CHANNELS)
    return (
        runtime.view(scratch, 0, (sizes.slices, 2, c), np.float64),
        runtime.view(scratch, _PARTIAL_BYTES, (2, c), np.float32),
    )
