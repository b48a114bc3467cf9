"""The runtime that needs no GPU: kernels compiled by g++ and run by the emulator."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cuda_kernels.build import build
from cuda_kernels.runtime import Buffer, KernelError, Packed, Runtime
from cuda_kernels.specs import Grid, Kernel

Order = Literal["forward", "reverse", "random"]
ORDERS: tuple[Order, ...] = ("forward", "reverse", "random")

_MESSAGE_BYTES = 4096


class _Argument(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
    )


class _Launch(ctypes.Structure):
    """``emulator::Launch`` in csrc/emulator/machine.hpp."""

    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("order", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("arguments", ctypes.POINTER(_Argument)),
        ("message", ctypes.c_char_p),
        ("message_bytes", ctypes.c_uint64),
    )


class EmulatedRuntime(Runtime):
    """Runs each launch at once, one at a time whoever asks; buffers are NumPy arrays.

    ``order`` is that of blocks, and of the threads between two barriers: a kernel that is right
    gives the same bits in all of them. ``seed`` chooses one of the random orders. ``arch`` is the
    architecture that kernels are chosen for. A launch that goes wrong raises KernelError.
    """

    def __init__(
        self,
        order: Order = "forward",
        seed: int = 0,
        arch: int = 90,
        pins: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(pins)
        self.arch = arch
        self._order = ORDERS.index(order)
        self._seed = seed

    def empty(self, shape: Sequence[int], dtype: Any) -> Buffer:
        self._not_while_capturing("allocate")
        # Aligned as a GPU's allocations are, and NaN in every floating type.
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = np.full(size + 256, 0xFF, np.uint8)
        offset = -self.address(memory) % 256
        return memory[offset : offset + size].view(dtype).reshape(tuple(shape))

    def copy_in(self, buffer: Buffer, array: np.ndarray) -> None:
        self._not_while_capturing("copy")
        if buffer.shape != array.shape or buffer.dtype != array.dtype:
            raise ValueError(
                f"{array.dtype} {array.shape} does not fit {buffer.dtype} {buffer.shape}"
            )
        buffer[...] = array

    def copy_out(self, buffer: Buffer) -> np.ndarray:
        self._not_while_capturing("copy")
        return np.array(buffer)

    def from_dlpack(self, array: Any) -> Buffer:
        return np.from_dlpack(array)

    def address(self, buffer: Buffer) -> int:
        return int(buffer.__array_interface__["data"][0])

    def _launch(
        self, kernel: Kernel, grid: Grid, block: Grid, shared_bytes: int, packed: list[Packed]
    ) -> None:
        _check_overlap(kernel, packed)
        function = _function(kernel.source, kernel.macros, kernel.name)
        values = [np.array(one.value) for one in packed]
        arguments = (_Argument * (len(packed) + 1))()  # the last one's name is null: the end
        for argument, one, value in zip(arguments, packed, values, strict=False):
            argument.name = one.parameter.name.encode()
            argument.value = value.ctypes.data
            argument.bytes = one.bytes
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        launch = _Launch(
            grid,
            block,
            shared_bytes,
            self._order,
            self._seed,
            arguments,
            ctypes.cast(message, ctypes.c_char_p),
            _MESSAGE_BYTES,
        )

        def run() -> None:
            if function(ctypes.byref(launch)) != 0:
                raise KernelError(message.value.decode(errors="replace"))

        # Whatever the launch points to lives as long as it may be replayed.
        run.keep = (values, arguments, message)  # type: ignore[attr-defined]
        if self._recording is None:
            run()
        else:
            self._recording.append(run)

    @property
    def _recording(self) -> list[Callable[[], None]] | None:
        """Launches of the graph that the calling thread captures; None while it captures none."""
        return getattr(self._own, "recording", None)

    @contextmanager
    def capture(self) -> Iterator[EmulatedGraph]:
        self._not_while_capturing("capture")
        recording: list[Callable[[], None]] = []
        self._own.recording = recording
        try:
            yield EmulatedGraph(recording)
        finally:
            self._own.recording = None

    def wait(self, event: EmulatedEvent) -> None:
        """Nothing: what was launched before is done, or comes before in the graph."""

    def event(self) -> EmulatedEvent:
        return EmulatedEvent()

    def synchronize(self) -> None:
        self._not_while_capturing("synchronize")

    def _not_while_capturing(self, what: str) -> None:
        if self._recording is not None:
            raise RuntimeError(f"cannot {what} while a graph is captured")


class EmulatedGraph:
    """A list of launches."""

    def __init__(self, launches: list[Callable[[], None]]) -> None:
        self._launches = launches

    def replay(self) -> None:
        for launch in self._launches:
            launch()


class EmulatedEvent:
    """The wall clock."""

    def __init__(self) -> None:
        self.time = time.perf_counter()

    def seconds_since(self, earlier: EmulatedEvent) -> float:
        return self.time - earlier.time


@functools.cache
def _function(source: Path, macros: tuple[str, ...], name: str) -> Any:
    return getattr(_library(source, macros), f"emulate_{name}")


@functools.cache
def _library(source: Path, macros: tuple[str, ...]) -> ctypes.CDLL:
    return ctypes.CDLL(str(build(source, "host", macros)))


def _check_overlap(kernel: Kernel, packed: list[Packed]) -> None:
    """Kernels may assume that an output shares no memory with any other buffer."""
    filled = (one for one in packed if one.bytes > 0)
    buffers = [(p.parameter, int(p.value), int(p.value) + p.bytes) for p in filled]
    for output, start, end in buffers:
        for other, other_start, other_end in buffers:
            apart = output is other or end <= other_start or other_end <= start
            if output.kind == "output" and not apart:
                raise KernelError(f"{kernel.name}: {output.name} overlaps {other.name}")
