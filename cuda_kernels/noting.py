"""The runtime that runs nothing: it notes what would be allocated and launched.

So the launches of a whole training step can be listed, and its memory added up, on a machine that
has neither the memory nor a GPU.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np

from cuda_kernels.cubin import architecture
from cuda_kernels.runtime import Arguments, Runtime
from cuda_kernels.specs import Grid, Kernel, Problem


class _Flags:
    """What kernels ask of an array's layout."""

    c_contiguous = True

    def __getitem__(self, name: str) -> bool:
        return name == "C_CONTIGUOUS"


@dataclass(eq=False)
class Sketch:
    """A buffer with a shape and a place, and no memory; a view keeps its owner alive."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int = 0
    owner: Sketch | None = None
    flags: ClassVar[_Flags] = _Flags()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class Launch:
    """A kernel that would be launched, its blocks, and the size of what it solves."""

    kernel: Kernel
    grid: Grid
    problem: Problem


class Point:
    """Of a stream in which nothing ever happens."""

    def seconds_since(self, earlier: Point) -> NoReturn:
        raise _nothing("a time")


class NotingRuntime(Runtime):
    """Notes ``launches`` in order, the ``bytes`` allocated now, and the most of them (``peak``)."""

    def __init__(self, arch: int = 90, pins: Mapping[str, int] | None = None) -> None:
        super().__init__(pins)
        self.arch = arch
        self.launches: list[Launch] = []
        self.bytes = self.peak = 0

    def empty(self, shape: Sequence[int], dtype: Any) -> Sketch:
        buffer = Sketch(tuple(shape), np.dtype(dtype))
        self.bytes += buffer.nbytes
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(buffer, self._freed, buffer.nbytes).atexit = False
        return buffer

    def _freed(self, size: int) -> None:
        self.bytes -= size

    @staticmethod
    def view(buffer: Sketch, offset: int, shape: Sequence[int], dtype: Any) -> Sketch:
        view = Sketch(tuple(shape), np.dtype(dtype), buffer.address + offset, buffer)
        if not 0 <= offset <= buffer.nbytes - view.nbytes:
            raise ValueError(
                f"{view.nbytes} bytes at {offset} do not lie within {buffer.nbytes} bytes"
            )
        return view

    def address(self, buffer: Sketch) -> int:
        return buffer.address

    def copy_in(self, buffer: Sketch, array: np.ndarray) -> None:
        """Nothing: there is no memory to copy to."""

    def launch_for(self, kernel: Kernel, problem: Problem, arguments: Arguments) -> None:
        self.pack(kernel, arguments)  # refuses what a real launch would
        grid = kernel.grid(problem)
        if 0 not in grid:
            self.launches.append(Launch(kernel, grid, problem))

    def waves(self, launch: Launch) -> float | None:
        """How often its blocks fill the GPU; None where they have no tiles."""
        if launch.kernel.tile is None:
            return None
        held = launch.kernel.tile.at_once(self.arch) * (
            self.multiprocessors or architecture(self.arch).multiprocessors
        )
        return math.prod(launch.grid) / held

    def _launch(self, *_: Any) -> NoReturn:
        raise _nothing("a launch without its problem")

    def synchronize(self) -> None:
        """Nothing is ever queued."""

    def copy_out(self, buffer: Sketch) -> NoReturn:
        raise _nothing("a copy")

    def from_dlpack(self, array: Any) -> NoReturn:
        raise _nothing("an exchange")

    def capture(self) -> AbstractContextManager[Any]:
        raise _nothing("a graph")

    def event(self) -> Point:
        return Point()

    def wait(self, event: Point) -> None:
        """Nothing is ever queued."""


def _nothing(what: str) -> RuntimeError:
    return RuntimeError(f"a runtime that only notes has no memory and no time: not {what}")
