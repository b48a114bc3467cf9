"""Sums of which one kernel leaves a part for each slice of their terms: see sliced_sums.cuh."""

from __future__ import annotations

from cuda_kernels.runtime import Buffer

THREADS = 256
"""Of a block that adds the parts up."""
FEW = 16
"""So many slices a thread adds alone; where there are more, eight threads share an entry."""


def blocks(count: int, slices: int) -> int:
    """That give each of ``count`` sums its threads."""
    return -(-count // (THREADS if slices <= FEW else 32))


def axis(sums: Buffer, axes: int) -> tuple[int, ...]:
    """What comes before the last ``axes`` of a shape: nothing, or one axis of slices.

    Raises ValueError for anything else.
    """
    slices: tuple[int, ...] = sums.shape[:-axes]
    if len(slices) > 1 or 0 in slices:
        raise ValueError(f"shape {sums.shape} has more than slices before its last {axes} axes")
    return slices
