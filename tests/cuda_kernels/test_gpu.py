"""What CupyRuntime asks of CuPy, seen by a stand-in, for machines with no GPU.

On a machine with one, every other test of kernels runs on the real thing as well.
"""

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from cuda_kernels import elementwise, linear, specs
from cuda_kernels.gpu import CupyRuntime
from cuda_kernels.runtime import UnavailableError


class Array(np.ndarray):
    """A NumPy array with the methods of CuPy's that the runtime calls."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)

    def set(self, array, stream):
        self[...] = array
        stream.log.append("set")

    def get(self, stream):
        stream.log.append("get")
        return np.array(self)


class Stream(contextlib.AbstractContextManager):
    current: ClassVar[list] = []  # the innermost is last

    def __init__(self, non_blocking):
        assert non_blocking, "the default stream cannot be captured"
        self.log = []

    def __enter__(self):
        self.current.append(self)
        return self

    def __exit__(self, *_):
        self.current.pop()

    def synchronize(self):
        self.log.append("synchronize")

    def wait_event(self, event):
        self.log.append(f"wait for {event}")

    def begin_capture(self, mode):
        self.log.append(f"begin {mode}")

    def end_capture(self):
        self.log.append("end")
        return SimpleNamespace(launch=lambda stream: stream.log.append("replay"))


class Event:
    """Its name says what the stream had done when it was recorded."""

    def record(self, stream):
        self.after = len(stream.log)
        stream.log.append("record")

    def __repr__(self):
        return f"event after {self.after}"


class Function:
    """Takes a launch as CuPy's RawKernel does, and notes it."""

    def __init__(self, name, launches):
        self.name, self.launches = name, launches
        self.max_dynamic_shared_size_bytes = 0

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert all(isinstance(value, np.generic) for value in args)
        dynamic = self.max_dynamic_shared_size_bytes
        Stream.current[-1].log.append("launch")
        self.launches.append((self.name, grid, block, args, shared_mem, dynamic))


class Cupy:
    """The part of the package that the runtime uses, on a machine with ``devices`` GPUs."""

    class CUDARuntimeError(RuntimeError):
        pass

    def __init__(self, devices=1):
        self.modules, self.launches = [], []
        device = contextlib.nullcontext()
        device.compute_capability = "90"
        device.attributes = {"MultiProcessorCount": 132}
        self.cuda = SimpleNamespace(
            Device=lambda number: device,
            Stream=Stream,
            Event=Event,
            get_current_stream=lambda: SimpleNamespace(record=lambda: "what was queued"),
            runtime=SimpleNamespace(
                CUDARuntimeError=self.CUDARuntimeError,
                getDeviceCount=lambda: self.count(devices),
                streamCaptureModeThreadLocal="thread local",
            ),
        )

    def count(self, devices):
        if devices is None:
            raise self.CUDARuntimeError("cudaErrorInsufficientDriver")
        return devices

    def empty(self, shape, dtype):
        return np.empty(shape, dtype).view(Array)

    def from_dlpack(self, array):
        return np.from_dlpack(array).view(Array)

    def RawModule(self, *, path):  # noqa: N802
        assert Path(path).is_file()
        self.modules.append(Path(path).name)
        return SimpleNamespace(get_function=lambda name: Function(name, self.launches))


@pytest.fixture
def cupy(monkeypatch):
    stand_in = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    return stand_in


def test_launch(cupy, cuda_compiler):
    runtime = CupyRuntime()
    assert (runtime.arch, runtime.multiprocessors) == (90, 132)
    x, weight, out = (runtime.empty(shape, np.float32) for shape in ((3, 5), (7, 5), (3, 7)))
    for _ in range(2):
        linear.forward(runtime, x, weight, None, out, relu=True)
    (name, grid, block, values, shared, _), _ = cupy.launches
    assert (name, grid, block, shared) == ("linear_forward", (1, 1, 1), (256, 1, 1), 0)
    pointers = [runtime.address(x), runtime.address(weight), 0, runtime.address(out)]
    no_dropout = [0, 0, 0, 1]  # rng, layer, threshold, scale
    assert [int(value) for value in values] == [*pointers, 3, 5, 7, 1, *no_dropout]
    assert [value.itemsize for value in values] == [8, 8, 8, 8, 4, 4, 4, 4, 8, 4, 4, 4]
    assert len(cupy.modules) == 1, "a cubin is loaded once"
    assert cupy.modules[0].startswith("linear-sm_90-")


def test_each_tile_is_a_module_of_its_own(cupy, cuda_compiler):
    """The same source with other macros; of few multiprocessors large ones fill enough."""
    cupy.cuda.Device(0).attributes["MultiProcessorCount"] = 1
    runtime = CupyRuntime()
    assert runtime.multiprocessors == 1
    for n, i, o in ((64, 64, 64), (512, 4096, 512), (512, 4096, 512)):
        sizes = ((n, i), (o, i), (n, o))
        x, weight, out = (runtime.empty(size, np.uint16) for size in sizes)
        linear.forward(runtime, x, weight, None, out, precision="bf16")
    names = [launch[0] for launch in cupy.launches]
    assert names == ["linear_forward_bf16_mma_64x64", *["linear_forward_bf16_mma"] * 2]
    assert len(set(cupy.modules)) == len(cupy.modules) == 2


def test_large_dynamic_shared_memory_is_asked_for(cupy, cuda_compiler):
    runtime = CupyRuntime()
    out = runtime.empty((4,), np.float32)
    for shared in (48 << 10, 64 << 10):
        arguments = {"out": out, "count": 4, "value": 0.0}
        runtime.launch(specs.kernel("fill"), (1, 1, 1), (256, 1, 1), shared, arguments)
    assert [launch[-2:] for launch in cupy.launches] == [(48 << 10, 0), (64 << 10, 64 << 10)]


def test_copies_and_graphs_use_the_stream(cupy, cuda_compiler):
    runtime = CupyRuntime()
    out = runtime.empty((4,), np.float32)
    runtime.copy_in(out, np.ones(4, np.float32))
    with runtime.capture() as graph:
        elementwise.fill(runtime, out, 0.0)
    graph.replay()
    assert (runtime.copy_out(out) == 1).all()
    runtime.synchronize()
    assert runtime._stream.log == [
        *("set", "synchronize", "begin thread local", "launch", "end"),
        *("replay", "get", "synchronize"),
    ]


def test_a_second_stream_is_forked_and_joined(cupy, cuda_compiler):
    """By events alone, which is how a capture of one stream takes in the other."""
    runtime = CupyRuntime()
    out = runtime.empty((4,), np.float32)
    first = runtime._stream
    with runtime.capture() as graph:
        fork = runtime.event()
        with runtime.stream(1):
            second = runtime._stream
            runtime.wait(fork)
            elementwise.fill(runtime, out, 0.0)
            join = runtime.event()
        runtime.wait(join)
    graph.replay()
    assert first is not second
    assert second.log == ["wait for event after 1", "launch", "record"]
    assert first.log == [
        *("begin thread local", "record", "wait for event after 2", "end", "replay")
    ]


def test_each_thread_has_a_stream_of_its_own(cupy, cuda_compiler):
    """What one thread captures, another neither waits for nor takes part in."""
    runtime = CupyRuntime()
    out = runtime.empty((4,), np.float32)

    def elsewhere():
        with runtime.capture():
            pass
        return runtime._stream

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(elsewhere).result()
    runtime.copy_out(out)
    assert other.log == ["begin thread local", "end"]
    assert runtime._stream.log == ["get"]


def test_arrays_of_others_are_waited_for(cupy):
    """Also CuPy's own, which it takes for made on the stream that is current in the exchange."""
    runtime, array = CupyRuntime(), np.ones(3, np.float32)
    assert runtime.address(runtime.from_dlpack(array)) == array.ctypes.data
    assert runtime._stream.log == ["wait for what was queued"]


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UnavailableError, match=r"CuPy is missing; install fercore\[cuda12\]"):
        CupyRuntime()
    monkeypatch.setitem(sys.modules, "cupy", Cupy(devices=None))
    with pytest.raises(UnavailableError, match=r"no NVIDIA driver or no GPU \(cudaErrorIns"):
        CupyRuntime()
    monkeypatch.setitem(sys.modules, "cupy", Cupy(devices=1))
    with pytest.raises(UnavailableError, match="there is no GPU 1; this machine has 1"):
        CupyRuntime(device=1)


def test_the_package_stands_alone():
    """It needs neither the engine nor CuPy to be imported."""
    code = (
        "import sys, cuda_kernels.linear, cuda_kernels.emulated, cuda_kernels.gpu\n"
        "print([m for m in ('fercore', 'cupy', 'cuda', 'numba') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, capture_output=True, text=True).stdout == "[]\n"
