"""Memory and launches through Numba, on a GPU or in its simulator.

The simulator (``NUMBA_ENABLE_CUDASIM=1``, for a whole process) runs each CUDA thread as a Python
thread, so launches there are small; kernels loop over what they own and work at any size.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import config, cuda

from cuda_kernels.runtime import Buffer, Runtime

SIMULATED = bool(config.ENABLE_CUDASIM)
THREADS = 4 if SIMULATED else 256
"""Threads of a block that is a line; a power of two, for sums that halve."""
TILE = 4 if SIMULATED else 16
"""Rows, columns and terms of a tile in shared memory; its block has a thread an entry."""
ROW_OF_TILE = TILE + 1
"""One more than it holds, so that the threads of a warp read different banks of shared memory."""
SHARED_BYTES = max(8 * THREADS, 2 * 4 * TILE * ROW_OF_TILE)
"""A float64 a thread, or two tiles; every launch has it. Kernels ask for it as an array of size 0:
in the simulator, threads that ask for any other size at once may each get an array of their own."""
MOST_BLOCKS = 2 if SIMULATED else 4096
"""More than any GPU holds at once; the threads stride over the rest."""


class NumbaRuntime:
    """Buffers are Numba's device arrays; launches go to the default stream."""

    multiprocessors = 0  # that could share out two streams: there is one

    def __init__(self) -> None:
        self._absent: dict[tuple[int, np.dtype], Buffer] = {}
        self._scratch: dict[tuple[int, str, int], Buffer] = {}

    # -- memory -----------------------------------------------------------------------------------

    def free_memory(self) -> int | None:
        """Bytes that the GPU has left; None in the simulator, which takes the host's."""
        return None if SIMULATED else int(cuda.current_context().get_memory_info().free)

    view = staticmethod(Runtime.view)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Buffer:
        return cuda.device_array(tuple(shape), np.dtype(dtype))

    def scratch(self, name: str, size: int, dtype: npt.DTypeLike) -> Buffer:
        """``size`` entries for what a kernel leaves to the next one; the calling thread's own."""
        key = threading.get_ident(), name, size
        if key not in self._scratch:
            self._scratch[key] = self.empty((size,), dtype)
        return self._scratch[key]

    def copy_in(self, buffer: Buffer, array: np.ndarray) -> None:
        buffer.copy_to_device(array)

    def copy_out(self, buffer: Buffer) -> np.ndarray:
        host: np.ndarray = buffer.copy_to_host()
        return host

    def synchronize(self) -> None:
        cuda.synchronize()

    def stream(self, number: int) -> AbstractContextManager[None]:
        return nullcontext()  # the default one, whichever is asked for

    def range(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()  # Numba has no names for profilers

    # -- launches ---------------------------------------------------------------------------------

    def optional(
        self, buffer: Buffer | None, axes: int, dtype: npt.DTypeLike = np.float32
    ) -> tuple[Buffer, bool]:
        """Two arguments of a kernel, which cannot take ``None``: an array, and whether to use it.

        Nothing is read from or written to the array that stands for an absent buffer.
        """
        if buffer is not None:
            return buffer, True
        key = axes, np.dtype(dtype)
        if key not in self._absent:
            self._absent[key] = self.empty((1,) * axes, dtype)
        return self._absent[key], False

    def launch(self, kernel: Any, grid: tuple[int, ...], block: Any, *arguments: Any) -> None:
        if 0 not in grid:  # CUDA takes an empty grid for an error
            kernel[grid, block, 0, SHARED_BYTES](*arguments)

    def launch_over(self, kernel: Any, count: int, *arguments: Any) -> None:
        """Launch a kernel whose threads stride over ``count`` entries."""
        self.launch(kernel, (blocks_over(count),), THREADS, *arguments)


def blocks_over(count: int) -> int:
    return min(MOST_BLOCKS, -(-count // THREADS))
