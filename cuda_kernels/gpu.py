"""The runtime on an NVIDIA GPU, through CuPy."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cuda_kernels.build import build
from cuda_kernels.runtime import Buffer, Packed, Runtime, UnavailableError
from cuda_kernels.specs import Grid, Kernel

_DEFAULT_SHARED = 48 << 10  # above this a kernel has to say how much dynamic shared memory it takes


class CupyRuntime(Runtime):
    """One GPU, with streams for each thread; buffers are CuPy arrays.

    Raises UnavailableError when CuPy, the driver or the GPU is missing.
    """

    def __init__(self, device: int = 0, pins: Mapping[str, int] | None = None) -> None:
        super().__init__(pins)
        self._cupy = _import_cupy(device)
        self._device = self._cupy.cuda.Device(device)
        self.arch = int(self._device.compute_capability)
        self.multiprocessors = int(self._device.attributes["MultiProcessorCount"])
        self._modules: dict[tuple[Path, tuple[str, ...]], Any] = {}
        self._functions: dict[tuple[Path, str, int], Any] = {}
        self._loading = threading.Lock()  # held while one of these changes

    @property
    def _stream(self) -> Any:
        """The calling thread's; not the default one, which all share and none can capture."""
        if not hasattr(self._own, "streams"):
            with self._device:
                self._own.streams = [self._cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
        return self._own.streams[self._number]

    def free_memory(self) -> int:
        with self._device:
            free, _ = self._cupy.cuda.runtime.memGetInfo()
            return int(free) + int(self._cupy.get_default_memory_pool().free_bytes())

    def empty(self, shape: Sequence[int], dtype: Any) -> Buffer:
        with self.queue():
            return self._cupy.empty(tuple(shape), dtype)

    def copy_in(self, buffer: Buffer, array: np.ndarray) -> None:
        buffer.set(np.asarray(array, order="C"), stream=self._stream)
        self._stream.synchronize()  # `array` may change as soon as this returns

    def copy_out(self, buffer: Buffer) -> np.ndarray:
        return np.asarray(buffer.get(stream=self._stream))

    def from_dlpack(self, array: Any) -> Buffer:
        # CuPy makes the stream that is current in the exchange wait for nothing but itself, so an
        # array of its own is waited for here; other producers make this stream wait for theirs.
        with self._device:
            self._stream.wait_event(self._cupy.cuda.get_current_stream().record())
        with self.queue():
            return self._cupy.from_dlpack(array)

    def address(self, buffer: Buffer) -> int:
        return int(buffer.data.ptr)

    def _launch(
        self, kernel: Kernel, grid: Grid, block: Grid, shared_bytes: int, packed: list[Packed]
    ) -> None:
        function = self._function(kernel, shared_bytes)
        with self.queue():
            function(grid, block, tuple(one.value for one in packed), shared_mem=shared_bytes)

    def _function(self, kernel: Kernel, shared_bytes: int) -> Any:
        key = kernel.source, kernel.name, shared_bytes
        with self._loading:
            if key not in self._functions:
                built = kernel.source, kernel.macros
                if built not in self._modules:
                    cubin = build(kernel.source, f"sm_{self.arch}", kernel.macros)
                    with self._device:
                        self._modules[built] = self._cupy.RawModule(path=str(cubin))
                function = self._modules[built].get_function(kernel.name)
                # The limit is the driver's for a kernel, whatever object asks: it must only rise.
                if shared_bytes > max(_DEFAULT_SHARED, function.max_dynamic_shared_size_bytes):
                    function.max_dynamic_shared_size_bytes = shared_bytes
                self._functions[key] = function
            return self._functions[key]

    @contextmanager
    def queue(self) -> Iterator[Any]:
        with self._device, self._stream:
            yield self._stream

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        """An NVTX range, which Nsight Systems shows above the kernels."""
        nvtx = self._cupy.cuda.nvtx
        nvtx.RangePush(name)
        try:
            yield
        finally:
            nvtx.RangePop()

    @contextmanager
    def capture(self) -> Iterator[CupyGraph]:
        graph = CupyGraph(self._stream)
        # What other threads allocate and load meanwhile is no part of it, and does not spoil it.
        mode = self._cupy.cuda.runtime.streamCaptureModeThreadLocal
        with self.queue():
            self._stream.begin_capture(mode)
            try:
                yield graph
            finally:
                graph.captured = self._stream.end_capture()

    def wait(self, event: CupyEvent) -> None:
        self._stream.wait_event(event.event)  # which takes the stream into the other's capture

    def event(self) -> CupyEvent:
        return CupyEvent(self._cupy, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()


class CupyGraph:
    """A CUDA graph."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.captured: Any = None

    def replay(self) -> None:
        self.captured.launch(self._stream)


class CupyEvent:
    """A CUDA event."""

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy = cupy
        self.event = cupy.cuda.Event()
        self.event.record(stream)

    def seconds_since(self, earlier: CupyEvent) -> float:
        self.event.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(earlier.event, self.event)) * 1e-3


def _import_cupy(device: int) -> Any:
    """CuPy, if it is there and finds a GPU."""
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise UnavailableError(
            "CuPy is missing; install fercore[cuda12] or fercore[cuda13], or use the emulator"
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise UnavailableError(
            f"no NVIDIA driver or no GPU ({error}); see whether nvidia-smi lists one, or use the "
            "emulator"
        ) from error
    if device >= count:
        raise UnavailableError(f"there is no GPU {device}; this machine has {count}")
    return cupy
