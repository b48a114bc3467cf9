"""Dropout: see dropout.cu."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256


@dataclass(frozen=True)
class Entries:
    count: int
    itemsize: int

    @property
    def flops(self) -> int:
        return self.count

    @property
    def bytes(self) -> int:
        return 2 * self.itemsize * self.count


def _grid(entries: Entries) -> Grid:
    return (-(-entries.count // (4 * THREADS)), 1, 1)


def _kernel(name: str, precision: Precision) -> Kernel:
    why = "a thread draws one Philox block and uses its four words"
    return Kernel(name, "dropout", 1, SOURCE, why, THREADS, _grid, precision=precision)


KERNELS = (_kernel("dropout", "fp32"), _kernel("dropout_bf16", "bf16"))


def dropout(
    runtime: Runtime,
    x: Buffer,
    rng: Buffer,
    out: Buffer,
    *,
    rate: float,
    layer: int,
    precision: Precision = "fp32",
) -> None:
    """``out = x * keep / (1 - rate)``, any shape; its own gradient.

    ``x`` and ``out`` are float32, or bf16 with ``precision="bf16"``.

    Entry ``i`` (flat) is kept where the upper 24 bits of word ``i % 4`` of Philox, at counter
    ``(i // 4, step, layer, 0)`` and key ``(seed, run)``, times ``2**-24``, are at least ``rate``.
    ``rng`` is uint32 ``[4]``: seed, run, epoch, step.
    """
    arguments = {
        "x": x,
        "rng": rng,
        "out": out,
        "count": x.size,
        **settings(rate, layer),
    }
    runtime.run("dropout", Entries(x.size, x.dtype.itemsize), arguments, precision=precision)


def settings(rate: float, layer: int) -> dict[str, Any]:
    """What a kernel is told, by the names of dropout.cuh."""
    return {"layer": layer, "threshold": math.ceil(rate * 2.0**24), "scale": scale(rate)}


def scale(rate: float) -> float:
    """What an entry that is kept is multiplied by."""
    return 1.0 / (1.0 - rate)
