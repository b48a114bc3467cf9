"""The runtime that only notes: the launches of the emulator, without their work or memory."""

import gc

import numpy as np
import pytest

from cuda_kernels import conv2d, elementwise, linear
from cuda_kernels.emulated import EmulatedRuntime
from cuda_kernels.noting import NotingRuntime, Sketch

F32 = np.float32


def run_some(runtime):
    """A convolution whose gradient is summed in slices, a layer, and an empty fill."""
    x, out = runtime.empty((3, 12, 12, 5), F32), runtime.empty((3, 6, 6, 7), F32)
    weight, bias = runtime.empty((7, 3, 3, 5), F32), runtime.empty((7,), F32)
    argmax, before = runtime.empty(out.shape, np.uint8), runtime.empty((3, 12, 12, 7), F32)
    window = {"stride": 1, "padding": 1}
    buffers = (x, weight, bias, out, argmax, before)
    for buffer in buffers:
        runtime.copy_in(buffer, np.ones(buffer.shape, buffer.dtype))
    conv2d.forward(runtime, x, weight, bias, out, argmax, **window, epilogue="relu_pool")
    conv2d.epilogue_gradient(runtime, out, out, argmax, before, epilogue="relu_pool")
    conv2d.weight_gradient(runtime, x, before, weight, bias, **window)
    flat = runtime.view(out, 0, (3, 252), F32)
    row, result = runtime.view(weight, 0, (1, 252), F32), runtime.empty((3, 1), F32)
    linear.forward(runtime, flat, row, None, result)
    elementwise.fill(runtime, runtime.empty((0,), F32), 1.0)


@pytest.mark.parametrize("arch", [75, 90])
def test_it_notes_what_the_emulator_launches(arch):
    noting, emulated, launched = NotingRuntime(arch), EmulatedRuntime(arch=arch), []
    emulated.on_launch = lambda kernel, grid: launched.append((kernel.name, grid))
    for runtime in (noting, emulated):
        run_some(runtime)
    assert [(one.kernel.name, one.grid) for one in noting.launches] == launched
    assert "conv2d_sum_slices" in {name for name, _ in launched}
    first = noting.launches[0].problem
    assert first.flops == 2 * 3 * 144 * 7 * 45
    assert first.bytes == 4 * (3 * 144 * 5 + 7 * 45 + 7 + 3 * 36 * 7) + 3 * 36 * 7


@pytest.mark.parametrize(("multiprocessors", "waves"), [(0, 12 / 264), (3, 2.0)])
def test_waves_are_those_of_its_multiprocessors(multiprocessors, waves):
    runtime = NotingRuntime(pins={"linear_forward": 2})
    runtime.multiprocessors = multiprocessors
    x, weight, out = (runtime.empty(shape, np.uint16) for shape in ((384, 8), (512, 8), (384, 512)))
    linear.forward(runtime, x, weight, None, out, precision="bf16")
    elementwise.fill(runtime, runtime.empty((8,), F32), 1.0)
    assert [runtime.waves(launch) for launch in runtime.launches] == [pytest.approx(waves), None]


def test_memory_is_counted_while_it_is_held():
    runtime = NotingRuntime()
    kept, gone = runtime.empty((10,), F32), runtime.empty((1000, 1000), F32)
    view = runtime.view(gone, 400, (5,), np.uint8)
    assert runtime.bytes == 40 + 4_000_000
    del gone
    gc.collect()
    assert runtime.bytes == 40 + 4_000_000, "a view keeps what it lies in"
    del view
    gc.collect()
    assert runtime.bytes == kept.nbytes == 40
    assert runtime.peak == 40 + 4_000_000


def test_a_sketch_is_like_an_array():
    sketch = Sketch((3, 4), np.dtype(np.uint16))
    array = np.zeros((3, 4), np.uint16)
    for name in ("shape", "dtype", "ndim", "size", "nbytes"):
        assert getattr(sketch, name) == getattr(array, name), name
    assert len(sketch) == len(array)
    assert sketch.flags["C_CONTIGUOUS"]
    assert sketch.flags.c_contiguous


def test_views_have_their_places():
    runtime = NotingRuntime()
    buffer = runtime.empty((100,), np.uint8)
    view = runtime.view(runtime.view(buffer, 40, (60,), np.uint8), 8, (5,), F32)
    assert runtime.address(view) == runtime.address(buffer) + 48
    with pytest.raises(ValueError, match="20 bytes at 90 do not lie within 100 bytes"):
        runtime.view(buffer, 90, (5,), F32)


def test_it_refuses_what_a_launch_would():
    runtime = NotingRuntime()
    with pytest.raises(TypeError, match="out must be contiguous float32, and is int32"):
        elementwise.fill(runtime, runtime.empty((3,), np.int32), 1.0)


@pytest.mark.parametrize("what", ["copy_out", "seconds", "capture", "from_dlpack"])
def test_it_has_no_results_and_no_time(what):
    runtime = NotingRuntime()
    runtime.seconds = lambda: runtime.event().seconds_since(runtime.event())
    given = {"copy_out": (Sketch((1,), np.dtype(F32)),), "from_dlpack": (np.zeros(1),)}
    with pytest.raises(RuntimeError, match="no memory and no time"):
        getattr(runtime, what)(*given.get(what, ()))
