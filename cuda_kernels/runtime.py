"""Where kernels run: a GPU through CuPy, or the emulator on a CPU, behind one interface.

A *buffer* is the runtime's own array: ``cupy.ndarray`` on a GPU, ``numpy.ndarray`` in the emulator.
Both speak DLPack, so arrays of other frameworks come and go without a copy. Each thread has a queue
of its own, whose launches are carried out in order; ``copy_out`` and ``synchronize`` wait for them.
Nothing orders two threads' queues but that. A thread may use a second queue beside it: see
``Runtime.stream``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cuda_kernels import specs
from cuda_kernels.specs import Grid, Kernel, Parameter, Precision, Problem

Buffer = Any
Arguments = Mapping[str, Any]
"""By the names in the kernel's source: buffers (``None`` for an absent one) and numbers."""


class KernelError(RuntimeError):
    """A kernel that went wrong while it ran; the emulator names the line, the block, the thread."""


class UnavailableError(RuntimeError):
    """This machine cannot run kernels that way; says what is missing and how to go on."""


class Graph(Protocol):
    """Launches that were recorded once and run as often as wanted, on the same buffers."""

    def replay(self) -> None:
        """Queue all of them again."""


class Event(Protocol):
    """A point in a stream."""

    def seconds_since(self, earlier: Any) -> float:
        """Time between two points; waits for both."""


@dataclass(frozen=True)
class Packed:
    """An argument as the machine wants it: a pointer or a number, and a buffer's bytes, or 0."""

    parameter: Parameter
    value: np.generic
    bytes: int = 0


class Runtime(ABC):
    """Memory, launches and time on one device.

    ``pins`` (operation: version) overrules the choice of kernels. ``on_launch``, if set, is called
    with every kernel that is launched and its grid, for those who count or profile.
    """

    arch: int
    """What kernels can expect of the device, 90 for sm_90."""
    multiprocessors: int = 0
    """Among which blocks are shared out; 0 where blocks run one after the other: then kernels are
    chosen as for a GPU that is typical of ``arch``."""

    def __init__(self, pins: Mapping[str, int] | None = None) -> None:
        self.pins = dict(pins or {})
        self.on_launch: Callable[[Kernel, Grid], None] | None = None
        self._own = threading.local()  # what each thread has for itself
        self._scratch: dict[tuple[int, int, str, int], Buffer] = {}  # by thread and stream, too

    # -- memory -----------------------------------------------------------------------------------

    def free_memory(self) -> int | None:
        """Bytes that the device has left; None where its memory is the host's."""
        return None

    @abstractmethod
    def empty(self, shape: Sequence[int], dtype: Any) -> Buffer:
        """A new buffer; its content is undefined (the emulator's is NaN)."""

    @abstractmethod
    def copy_in(self, buffer: Buffer, array: np.ndarray) -> None:
        """Overwrite ``buffer`` with ``array`` of the same shape and dtype."""

    @abstractmethod
    def copy_out(self, buffer: Buffer) -> np.ndarray:
        """A copy in host memory."""

    @abstractmethod
    def from_dlpack(self, array: Any) -> Buffer:
        """Another framework's array as a buffer, in place; what is queued comes after its making.

        Buffers offer DLPack themselves, to be read after ``synchronize``.
        """

    @abstractmethod
    def address(self, buffer: Buffer) -> int:
        """Where it begins in the device's memory."""

    @staticmethod
    def view(buffer: Buffer, offset: int, shape: Sequence[int], dtype: Any) -> Buffer:
        """``shape`` entries of ``dtype`` that lie ``offset`` bytes into ``buffer``; no copy."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        flat = buffer.reshape(-1).view(np.uint8)
        if not 0 <= offset <= offset + size <= flat.size:
            raise ValueError(f"{size} bytes at {offset} do not lie within {flat.size} bytes")
        return flat[offset : offset + size].view(dtype).reshape(tuple(shape))

    def scratch(self, name: str, size: int, dtype: Any) -> Buffer:
        """``size`` entries for what a kernel leaves to the next one; its thread's and stream's own.

        They are the same at every call. Launches of a stream run in order, so one user is done with
        them before the next begins; graphs that use them are replayed by the thread that captured
        them. The first call must not be captured, for it allocates.
        """
        key = threading.get_ident(), self._number, name, size
        if key not in self._scratch:
            self._scratch[key] = self.empty((size,), dtype)
        return self._scratch[key]

    # -- launches ---------------------------------------------------------------------------------

    def choose(self, operation: str, problem: Problem, precision: Precision = "fp32") -> Kernel:
        """The best kernel for ``problem``; specs.UnsuitableError if there is none."""
        return specs.choose(
            operation,
            problem,
            arch=self.arch,
            precision=precision,
            pins=self.pins,
            multiprocessors=self.multiprocessors,
        )

    def run(
        self,
        operation: str,
        problem: Problem,
        arguments: Arguments,
        *,
        precision: Precision = "fp32",
    ) -> None:
        """Launch the kernel that is chosen for ``problem``."""
        self.launch_for(self.choose(operation, problem, precision), problem, arguments)

    def launch_for(self, kernel: Kernel, problem: Problem, arguments: Arguments) -> None:
        """Launch ``kernel`` with as many blocks as ``problem`` takes."""
        block = (kernel.threads, 1, 1)
        self.launch(kernel, kernel.grid(problem), block, kernel.shared_bytes, arguments)

    def launch(
        self, kernel: Kernel, grid: Grid, block: Grid, shared_bytes: int, arguments: Arguments
    ) -> None:
        """Queue one kernel. Raises TypeError for arguments that do not fit its parameters."""
        if 0 in grid:
            return  # nothing to do, which CUDA takes for an error
        if self.on_launch:
            self.on_launch(kernel, grid)
        self._launch(kernel, grid, block, shared_bytes, self.pack(kernel, arguments))

    def pack(self, kernel: Kernel, arguments: Arguments) -> list[Packed]:
        """``arguments`` in the order and the types of the kernel's parameters, checked."""
        names = [parameter.name for parameter in kernel.parameters]
        if set(names) != set(arguments):
            raise TypeError(f"{kernel.name} takes {', '.join(names)}, not {', '.join(arguments)}")
        return [self._pack_one(kernel, p, arguments[p.name]) for p in kernel.parameters]

    def _pack_one(self, kernel: Kernel, parameter: Parameter, value: Any) -> Packed:
        if parameter.kind == "number":
            return Packed(parameter, parameter.dtype.type(value))
        if value is None:
            return Packed(parameter, np.uint64(0))
        if value.dtype != parameter.dtype or not value.flags.c_contiguous:
            order = "" if value.flags.c_contiguous else ", not contiguous"
            raise TypeError(
                f"{kernel.name}: {parameter.name} must be contiguous {parameter.dtype}, and is "
                f"{value.dtype}{order}"
            )
        # A GPU's memory has no such flag.
        if parameter.kind == "output" and not getattr(value.flags, "writeable", True):
            raise TypeError(f"{kernel.name}: {parameter.name} is written, and is read-only")
        return Packed(parameter, np.uint64(self.address(value)), value.nbytes)

    @abstractmethod
    def _launch(
        self, kernel: Kernel, grid: Grid, block: Grid, shared_bytes: int, packed: list[Packed]
    ) -> None: ...

    @property
    def _number(self) -> int:
        """Of the stream that the calling thread launches in."""
        number: int = getattr(self._own, "number", 0)
        return number

    @contextmanager
    def stream(self, number: int) -> Iterator[None]:
        """Inside, the calling thread's launches go to its stream 1, beside 0 where they go else.

        Nothing orders the two but ``wait``: before stream 1 is used it must wait for stream 0, and
        for it stream 0 must wait before a capture ends or the host waits for results.
        """
        outer, self._own.number = self._number, number
        try:
            yield
        finally:
            self._own.number = outer

    @abstractmethod
    def wait(self, event: Any) -> None:
        """What is launched next in this stream waits for a point of another one."""

    # -- what others see --------------------------------------------------------------------------

    def queue(self) -> AbstractContextManager[Any]:
        """Inside, CuPy's own work goes into this runtime's queue, in order with the launches."""
        return nullcontext()

    def range(self, name: str) -> AbstractContextManager[Any]:
        """Names what is queued inside, for profilers."""
        return nullcontext()

    # -- time -------------------------------------------------------------------------------------

    @abstractmethod
    def capture(self) -> AbstractContextManager[Graph]:
        """Record, rather than run, what is launched inside; nothing else may happen there."""

    @abstractmethod
    def event(self) -> Event:
        """Mark this point of the stream."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for everything queued."""
