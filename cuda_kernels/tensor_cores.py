"""What kernels by include/tile_product.cuh have in common: see there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision
from cuda_kernels.tiles import STEP_BYTES, TILES, Tile

CHUNK: dict[Precision, int] = {"bf16": 8, "tf32": 4, "bf16x3": 4}
"""Entries of 16 bytes: what is consecutive in memory must come in so many."""

_FIRST_VERSION = 2
"""Of the versions that differ by their tile, in the order of TILES."""

_IDEA: dict[Precision, str] = {
    "bf16": "tensor cores: {} tiles by 4 warps, cp.async in {} stages, swizzled",
    "tf32": "the same for floats, rounded to tf32 before the tensor core; {} tiles",
    "bf16x3": "the same for floats, each split in two bf16, three products; {} tiles",
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


def versions(
    operation: str,
    source: Path,
    grid: Callable[[Tile], Callable[[Any], Grid]],
    terms: Callable[[Any], int],
) -> Iterator[Kernel]:
    """The versions of ``operation`` with each tile, in each precision.

    ``grid`` gives the blocks of a problem with a tile, and ``terms`` how many terms of an entry a
    block adds up.
    """
    for precision, chunk in CHUNK.items():
        product = "HMMA.1688.F32.TF32" if precision == "tf32" else "HMMA.16816.F32.BF16"
        # Floats that lie along rows are read one by one, and the weight gradient has no others.
        one_by_one = precision != "bf16" and operation.endswith("weight_gradient")
        for version, tile in enumerate(TILES, _FIRST_VERSION):
            yield Kernel(
                f"{operation}_{precision}_mma{tile.suffix}",
                operation,
                version,
                source,
                _IDEA[precision].format(tile, tile.stages),
                128,
                grid(tile),
                refuses=functools.partial(_refusal, chunk),
                precision=precision,
                arch=80,
                instructions=(product, "LDGSTS.E.BYPASS", "LDS" if one_by_one else "LDSM.16.M"),
                tile=tile,
                cycles=functools.partial(_cycles, tile, precision, grid(tile), terms),
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


# -- how long a tile takes ------------------------------------------------------------------------
#
# An estimate of our own, that no GPU has confirmed, to rank tiles with. The multiprocessor with
# most blocks decides: it works through them in waves, as many at once as fit it. A step of a block
# (64 bytes of terms) keeps four things busy, and the one that is busy longest counts:
#
#   tensor cores    every warp has one to itself, which takes a product every so many cycles
#   issue           every warp has a scheduler to itself, which starts an instruction a cycle
#   shared memory   128 bytes a cycle: fragments that are read, and copies that are written
#   level-2 cache   what is copied
#
# Blocks at once share all four; what one alone waits for besides, the others fill.


@dataclass(frozen=True)
class Rates:
    """Of a multiprocessor: cycles between two products (mma of 16x8 by 32 bytes of terms) of a
    tensor core, and bytes a cycle from the level-2 cache while all read."""

    product: float
    cache: float


RATES = {
    # 312 TFLOP/s of an A100 are a product in 8 cycles; its cache gives 5,120 bytes a cycle to all.
    80: Rates(product=8, cache=47),
    # 989 TFLOP/s of an H100 would be 4, of which mma.sync reaches 63 %; the same cache.
    90: Rates(product=6.35, cache=39),
}
_OTHERS = Rates(product=16, cache=32)
_SHARED_RATE = 128
WAIT = 100
"""Cycles a step that a block waits alone: a barrier, and the ways from memory and to a sum."""
START = 1500
"""Cycles that a block takes besides its steps: until the first copies arrive, and its results."""


_OF_FRAGMENT: dict[Precision, int] = {"bf16": 4, "tf32": 12, "bf16x3": 16}
_OF_STEP = 60
"""Instructions for each fragment (its address, its conversion) and for the rest of a step, copies
included: about as many as the disassembled loops of conv2d_mma.cu have on sm_90."""


@dataclass(frozen=True)
class Step:
    """What a warp does in 64 bytes of terms."""

    products: int
    fragments: int
    """Of 512 bytes, read by one ldmatrix or by four loads."""
    copies: int
    """Of 16 bytes, by each thread."""
    instructions: int


def step(tile: Tile, precision: Precision) -> Step:
    """A warp has a quarter of the tile: ``tests/cuda_kernels/test_cubins.py`` counts machine code.

    A fragment is 32 bytes of terms of 16 rows.
    """
    rows, columns = tile.rows // 2 // 16, tile.columns // 2 // 16
    products = rows * 2 * columns * (3 if precision == "bf16x3" else 2)
    fragments, copies = 2 * (rows + columns), (tile.rows + tile.columns) // 32
    instructions = products + _OF_FRAGMENT[precision] * fragments + _OF_STEP
    return Step(products, fragments, copies, instructions)


def step_cycles(tile: Tile, precision: Precision, arch: int) -> float:
    """For which a step of one block keeps what it needs most busy."""
    rates, work = RATES.get(arch, _OTHERS), step(tile, precision)
    copied = 128 * 16 * work.copies
    return max(
        work.products * rates.product,
        work.instructions,
        (4 * 512 * work.fragments + copied) / _SHARED_RATE,
        copied / rates.cache,
    )


def _cycles(
    tile: Tile,
    precision: Precision,
    grid: Callable[[Any], Grid],
    terms: Callable[[Any], int],
    problem: Product,
    arch: int,
    multiprocessors: int,
) -> float:
    """Cycles until the last block is done."""
    steps = -(-terms(problem) * (16 // CHUNK[precision]) // STEP_BYTES)
    busy = steps * step_cycles(tile, precision, arch)
    alone = busy + steps * WAIT + START
    full, rest = divmod(-(-math.prod(grid(problem)) // multiprocessors), tile.at_once(arch))
    return full * max(alone, tile.at_once(arch) * busy) + (max(alone, rest * busy) if rest else 0)
