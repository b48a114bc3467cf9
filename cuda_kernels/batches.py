"""Whose turn it is, and rows of tables: see batches.cu."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256
MOST_BLOCKS = 2048  # more than any GPU holds at once; each thread strides over the rest


@dataclass(frozen=True)
class Rows:
    """Some rows, ``count`` words of ``itemsize`` bytes altogether, that are copied."""

    count: int
    itemsize: int = 4
    flops: int = 0

    @property
    def bytes(self) -> int:
        return 2 * self.itemsize * self.count


def _one_block(rows: Rows) -> Grid:
    return (1, 1, 1)


def _grid(rows: Rows) -> Grid:
    return (min(MOST_BLOCKS, -(-rows.count // THREADS)), 1, 1)


TURN, COPY = "one block; the cursor moves when all have read it", "one word a thread and step"
KERNELS = (
    Kernel("advance", "advance", 1, SOURCE, TURN, THREADS, _one_block),
    Kernel("gather", "gather", 1, SOURCE, COPY, THREADS, _grid),
    Kernel("gather_u16", "gather_u16", 1, SOURCE, COPY, THREADS, _grid),
    Kernel("scatter", "scatter", 1, SOURCE, COPY, THREADS, _grid),
)


def advance(
    runtime: Runtime,
    cursor: Buffer,
    order: Buffer,
    schedule: Buffer | None,
    indices: Buffer,
    rng: Buffer | None,
    rates: Buffer | None,
) -> None:
    """Turn to the next step of an epoch.

    ``cursor`` (uint32 ``[3]``) counts the rows and the steps of the epoch done so far, and the
    steps of the run. ``indices`` (int32 ``[N]``) receives the next rows of ``order`` (int32
    ``[M]``), -1 beyond its end; ``rates`` (float64 ``[4]``) the step's row of ``schedule``
    (float64 ``[S, 4]``), the last one beyond its end; ``rng[3]`` (uint32 ``[4]``) the number of
    the step. Then ``cursor`` moves on.
    """
    arguments = {
        "cursor": cursor,
        "order": order,
        "schedule": schedule,
        "indices": indices,
        "rng": rng,
        "rates": None if schedule is None else rates,
        "rows": order.size,
        "steps": 0 if schedule is None else len(schedule),
        "count": indices.size,
    }
    runtime.run("advance", Rows(indices.size), arguments)


def gather(
    runtime: Runtime, table: Buffer, indices: Buffer, out: Buffer, *, padding: int = 0
) -> None:
    """``out [N, ...] = table[indices]``; an index of -1 gives a row of ``padding``.

    ``table [M, ...]`` and ``out`` have the same dtype, of 2 or 4 bytes.
    """
    words = np.dtype(f"u{table.dtype.itemsize}")
    arguments = {
        "table": _as(runtime, table, words),
        "indices": indices,
        "out": _as(runtime, out, words),
        "count": out.size,
        "words": _row(out),
        "padding": int(np.array([padding]).astype(out.dtype).view(words)[0]),
    }
    operation = "gather_u16" if words.itemsize == 2 else "gather"
    runtime.run(operation, Rows(out.size, words.itemsize), arguments)


def scatter(runtime: Runtime, values: Buffer, indices: Buffer, table: Buffer) -> None:
    """``table[indices] = values [N, ...]``, of 4 bytes an entry; an index of -1: no row."""
    arguments = {
        "values": _as(runtime, values, np.dtype(np.uint32)),
        "indices": indices,
        "table": _as(runtime, table, np.dtype(np.uint32)),
        "count": values.size,
        "words": _row(values),
    }
    runtime.run("scatter", Rows(values.size), arguments)


def _row(buffer: Buffer) -> int:
    """Words of a row."""
    return int(np.prod(buffer.shape[1:], dtype=np.int64))


def _as(runtime: Runtime, buffer: Buffer, words: np.dtype[Any]) -> Buffer:
    return runtime.view(buffer, 0, buffer.shape, words)
