"""Whole buffers, entry by entry: see elementwise.cu."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256
MOST_BLOCKS = 2048  # more than any GPU holds at once; each thread strides over the rest


@dataclass(frozen=True)
class Entries:
    """``count`` entries that ``buffers`` of the same size hold, the first at these addresses."""

    count: int
    bytes: int
    aligned: bool
    """All buffers begin at a multiple of 16 bytes."""
    flops: int = 0


def grid(entries: Entries) -> Grid:
    return (min(MOST_BLOCKS, -(-entries.count // THREADS)), 1, 1)


def grid_by_4(entries: Entries) -> Grid:
    return (min(MOST_BLOCKS, -(-entries.count // (4 * THREADS))), 1, 1)


def _unaligned(entries: Entries) -> str | None:
    return None if entries.aligned else "needs buffers that begin at a multiple of 16 bytes"


def _kernel(name: str, operation: str, version: int = 1, precision: Precision = "fp32") -> Kernel:
    if version == 1:
        why = "one entry a thread and step"
        return Kernel(name, operation, 1, SOURCE, why, THREADS, grid, precision=precision)
    why = "four entries a thread and step, one instruction for all"
    bits = 64 if precision == "bf16" else 128
    return Kernel(
        name,
        operation,
        version,
        SOURCE,
        why,
        THREADS,
        grid_by_4,
        refuses=_unaligned,
        precision=precision,
        instructions=(f"LDG.E.{bits}", f"STG.E.{bits}"),
    )


KERNELS = (
    _kernel("fill", "fill"),
    _kernel("fill_double", "fill_double"),
    _kernel("accumulate", "accumulate"),
    _kernel("accumulate_by_4", "accumulate", version=2),
    _kernel("accumulate_bf16", "accumulate", precision="bf16"),
    _kernel("accumulate_bf16_by_4", "accumulate", version=2, precision="bf16"),
    _kernel("relu_gradient", "relu_gradient"),
    _kernel("relu_gradient_by_4", "relu_gradient", version=2),
    _kernel("relu_gradient_bf16", "relu_gradient", precision="bf16"),
    _kernel("relu_gradient_bf16_by_4", "relu_gradient", version=2, precision="bf16"),
)


def fill(runtime: Runtime, out: Buffer, value: float) -> None:
    """Set every entry of ``out`` (float32 or float64) to ``value``."""
    operation = "fill_double" if out.dtype == np.float64 else "fill"
    arguments = {"out": out, "count": out.size, "value": value}
    runtime.run(operation, _entries(runtime, out, moved=out.nbytes), arguments)


def accumulate(
    runtime: Runtime, total: Buffer, term: Buffer, *, precision: Precision = "fp32"
) -> None:
    """Adds ``term`` to ``total`` in place, any shape.

    Buffers are float32, or bf16 with ``precision="bf16"``.
    """
    entries = _entries(runtime, total, term, moved=3 * total.nbytes, flops=total.size)
    arguments = {"total": total, "term": term, "count": total.size}
    runtime.run("accumulate", entries, arguments, precision=precision)


def relu_gradient(
    runtime: Runtime,
    grad: Buffer,
    out: Buffer,
    grad_before: Buffer,
    *,
    precision: Precision = "fp32",
) -> None:
    """``grad`` where ``out``, which the ReLU wrote, is positive, else 0; any shape.

    Buffers are float32, or bf16 with ``precision="bf16"``.
    """
    entries = _entries(runtime, grad, out, grad_before, moved=3 * out.nbytes)
    arguments = {"grad": grad, "out": out, "grad_before": grad_before, "count": out.size}
    runtime.run("relu_gradient", entries, arguments, precision=precision)


def _entries(runtime: Runtime, *buffers: Buffer, moved: int, flops: int = 0) -> Entries:
    aligned = all(runtime.address(buffer) % 16 == 0 for buffer in buffers)
    return Entries(buffers[0].size, moved, aligned, flops)
