"""What kernels by include/tile_product.cuh have in common: see there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

EDGE = 128
"""Rows and columns of a result that a block computes."""

CHUNK: dict[Precision, int] = {"bf16": 8, "tf32": 4, "bf16x3": 4}
"""Entries of 16 bytes: what is consecutive in memory must come in so many."""

_IDEA: dict[Precision, str] = {
    "bf16": "tensor cores: 128x128 tiles by 4 warps, cp.async in 3 stages, swizzled",
    "tf32": "the same for floats, rounded to tf32 between shared memory and tensor core",
    "bf16x3": "the same for floats, each split in two bf16, three products for one",
}


class Product(Protocol):
    """A problem that is a matrix product."""

    aligned: bool
    """All its buffers begin at a multiple of 16 bytes."""

    @property
    def bytes(self) -> int:
        """Of all its buffers."""

    def sizes(self) -> dict[str, int]:
        """Those that have to be whole chunks, by their names."""


def aligned(runtime: Runtime, *buffers: Buffer) -> bool:
    """Whether all of them begin at a multiple of 16 bytes."""
    return all(runtime.address(buffer) % 16 == 0 for buffer in buffers)


def versions(operation: str, source: Path, grid: Callable[[Any], Grid]) -> Iterator[Kernel]:
    """Version 2 of ``operation``, in each precision."""
    for precision, chunk in CHUNK.items():
        product = "HMMA.1688.F32.TF32" if precision == "tf32" else "HMMA.16816.F32.BF16"
        # Floats that lie along rows are read one by one, and the weight gradient has no others.
        one_by_one = precision != "bf16" and operation.endswith("weight_gradient")
        yield Kernel(
            f"{operation}_{precision}_mma",
            operation,
            2,
            source,
            _IDEA[precision],
            128,
            grid,
            refuses=functools.partial(_refusal, chunk),
            precision=precision,
            arch=80,
            instructions=(product, "LDGSTS.E.BYPASS", "LDS" if one_by_one else "LDSM.16.M"),
        )


def _refusal(chunk: int, product: Product) -> str | None:
    sizes = product.sizes()
    if any(size % chunk for size in sizes.values()):
        names, numbers = " and ".join(sizes), " and ".join(map(str, sizes.values()))
        return f"needs {names} to be multiples of {chunk}, not {numbers}"
    if not product.aligned:
        return "needs buffers that begin at a multiple of 16 bytes"
    if product.bytes >= 16 // chunk << 32:  # of all buffers together, so each has fewer entries
        return "needs buffers of fewer than 2^32 entries, whose places are counted in 32 bits"
    return None
