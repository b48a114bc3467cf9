"""What a backend call costs at least: operations, bytes, and the time that these take.

A call's *floor* is the time of its operations at the rate of a large product, or of its bytes at
the rate of a large copy, whichever is longer. Convolutions count as if computed directly, so an
algorithm with fewer operations can be faster than the floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fercore.backends.accesses import WRITTEN

IN_PLACE = frozenset[str]().union(*(written.in_place for written in WRITTEN.values()))
"""Arguments that are read and written."""

NARROW = frozenset({"x", "weight", "out", "grad", "grad_x", "grad_before", "logits", "grad_logits"})
"""Activations, their gradients and the weights of products: what is bf16 where training is."""


# -- calls ----------------------------------------------------------------------------------------


def product(method: str, given: Mapping[str, Any]) -> tuple[int, int]:
    """Operations of a call's product (a multiplication and an addition are two), and terms a sum.

    (0, 1) for a call without one. ``given`` are the call's ``operands``.
    """
    wanted = next((given[n] for n in ("weight", "grad_weight") if given.get(n) is not None), None)
    if wanted is None or not method.startswith(("conv2d", "linear")):
        return 0, 1
    weight = wanted.shape[-4:]
    # Through the epilogue below, a gradient may be larger than the input, which `out` then is.
    image = next(given[n] for n in ("x", "out", "grad_x") if given.get(n) is not None).shape
    rows = image[0]
    if len(weight) == 4:
        stride, twice = given["stride"], 2 * given["padding"]
        sides = zip(image[1:3], weight[1:3], strict=True)
        rows *= math.prod((side + twice - kernel) // stride + 1 for side, kernel in sides)
    size = math.prod(weight)
    terms = {"forward": size // weight[0], "input_gradient": size // weight[-1]}
    return 2 * rows * size, terms.get(method.partition("_")[2], rows)


def in_slices(name: str, given: Mapping[str, Any]) -> bool:
    """Whether the operand of that name is a gradient in slices; see ``conv2d_gradient_slices``."""
    axes = {"grad_weight": 4, "grad_bias": 1}
    if name == "gradient" and "parameter" in given:
        axes[name] = len(given["parameter"].shape)
    gradient = given[name] if name in axes else None
    return gradient is not None and len(gradient.shape) > axes[name]


TABLES = ("images", "labels", "order", "table")


def traffic(given: Mapping[str, Any], narrow: frozenset[str] = frozenset()) -> int:
    """Least bytes: each buffer once, those changed in place twice; ``narrow`` ones have 2 an entry.

    Of tables only the rows that ``indices`` stand for count, of a schedule the step's. A gradient
    in slices does not: those are how a device shares out a sum, which is never in memory itself.
    """
    total, seen = 0, set()
    for name, operand in given.items():
        for buffer in operand if isinstance(operand, list) else [operand]:
            if not hasattr(buffer, "shape") or id(buffer) in seen:
                continue
            seen.add(id(buffer))
            if in_slices(name, given):
                continue
            count = math.prod(buffer.shape)
            if "indices" in given and name in TABLES:
                count = count // buffer.shape[0] * given["indices"].shape[0]
            elif name == "schedule":
                count //= buffer.shape[0]
            width = 2 if name in narrow else np.dtype(buffer.dtype).itemsize
            total += count * width * (2 if name in IN_PLACE else 1)
    return total


# -- limits ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What a machine can do at best.

    Attributes:
        name: of the machine.
        source: where the figures come from.
        copy: bytes a second, of a large copy: read and written ones together.
        products: operations a second of a large matrix product, by precision.
        arch: what kernels are chosen for: 90 for sm_90; 0: no GPU.
        multiprocessors: of the GPU; 0: none, or not known.
    """

    name: str
    source: str
    copy: float
    products: Mapping[str, float]
    arch: int = 0
    multiprocessors: int = 0

    def floor(self, flops: int, moved: int, precision: str) -> float:
        """Seconds that so many operations and bytes take at least."""
        rate = self.products.get(precision)
        return max(moved / self.copy, flops / rate if rate else 0.0)

    def __str__(self) -> str:
        rates = (f"{rate / 1e12:.4g} TFLOP/s {name}" for name, rate in self.products.items())
        return f"{self.name}: {', '.join(rates)}, {self.copy / 1e12:.3g} TB/s ({self.source})"


def _gpu(
    name: str,
    source: str,
    arch: int,
    multiprocessors: int,
    copy: float,
    fp32: float,
    tf32: float,
    bf16: float,
) -> Limits:
    rates = {"fp32": fp32, "tf32": tf32, "bf16": bf16, "bf16x3": bf16 / 3}  # three products for one
    products = {precision: 1e12 * rate for precision, rate in rates.items() if rate}
    return Limits(name, source, 1e12 * copy, products, arch, multiprocessors)


# Peaks of dense products. NVIDIA's sheets were not read at the source: these are the figures that
# others give of them. H100 SXM (glennklockwood.com/garden/processors/h100): 66.9, 494.7 and 989.4
# TFLOP/s, 3.35 TB/s. A100 80 GB SXM (the same, /A100, which names the sheet): 19.5, 156 and 312,
# 2,039 GB/s. T4: 8.1; 320 GB/s follow from its 256 bits at 5,001 MHz, twice a cycle.
_PEAKS = "peaks of the data sheet, which nothing reaches"
GPUS = {
    "h200": _gpu("h200", "reached by cuBLAS and a copy", 90, 132, 4.3, 50, 410, 790),
    "h100": _gpu("h100", _PEAKS, 90, 132, 3.35, 67, 494, 989),
    "a100": _gpu("a100", _PEAKS, 80, 108, 2.04, 19.5, 156, 312),
    "t4": _gpu("t4", _PEAKS, 75, 40, 0.32, 8.1, 0, 0),
}
"""Limits of known GPUs (the SXM modules of 80 GB or more, where there are several)."""


def known_gpu(name: str) -> Limits | None:
    """The limits of the GPU that a driver calls ``name`` ("NVIDIA H200"), if they are known."""
    words = set(name.lower().replace("-", " ").split())
    if words & {"pcie", "nvl", "40gb", "mig"}:  # slower namesakes
        return None
    return next((limits for gpu, limits in GPUS.items() if gpu in words), None)
