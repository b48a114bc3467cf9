"""What runtimes promise: memory, arguments, order, graphs and time."""

import importlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cuda_kernels import elementwise, specs
from cuda_kernels.emulated import EmulatedRuntime
from cuda_kernels.gpu import CupyRuntime
from cuda_kernels.runtime import KernelError, UnavailableError
from tests.backends.harness import normal
from tests.cuda_kernels.harness import poisoned, to_device

FILL = specs.kernel("fill")
BLOCK = (FILL.threads, 1, 1)


def test_copies_and_views(runtime, random):
    array = normal(random, 4, 6)
    buffer = to_device(runtime, array)
    assert (buffer.shape, buffer.dtype) == ((4, 6), np.float32)
    np.testing.assert_array_equal(runtime.copy_out(buffer), array, strict=True)
    view = runtime.view(buffer, 8, (3, 2), np.float32)
    np.testing.assert_array_equal(runtime.copy_out(view), array.ravel()[2:8].reshape(3, 2))
    runtime.copy_in(view, np.zeros((3, 2), np.float32))
    assert not runtime.copy_out(buffer).ravel()[2:8].any(), "a view is no copy"
    assert runtime.address(view) == runtime.address(buffer) + 8
    assert runtime.copy_out(to_device(runtime, np.array(2.5))) == 2.5, "no axes"
    with pytest.raises(ValueError, match="24 bytes at 80 do not lie within 96 bytes"):
        runtime.view(buffer, 80, (6,), np.float32)


def test_a_copy_out_is_a_copy(runtime):
    buffer = to_device(runtime, np.zeros(3, np.float32))
    runtime.copy_out(buffer)[:] = 1
    assert not runtime.copy_out(buffer).any()


class Foreign:
    """Another framework's array: all that is known of it is DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_both_ways(runtime, random):
    """Kernels read and write what another framework made, and it reads and writes buffers."""
    array, value = to_device(runtime, normal(random, 3, 2)), 5.0
    buffer = runtime.from_dlpack(Foreign(array))
    assert runtime.address(buffer) == runtime.address(array)
    elementwise.fill(runtime, buffer, value)
    np.testing.assert_array_equal(runtime.copy_out(array), value)
    runtime.synchronize()
    theirs = importlib.import_module(type(array).__module__).from_dlpack(Foreign(buffer))
    with runtime.queue():
        theirs[1, 0] = -1.0
    np.testing.assert_array_equal(runtime.copy_out(buffer), [[5, 5], [-1, 5], [5, 5]])


def test_what_is_made_on_another_stream_is_waited_for(random):
    """A producer that is busy when it hands its array over."""
    cupy = pytest.importorskip("cupy", reason="CuPy, whose streams this is about, is missing")
    try:
        runtime = CupyRuntime()
    except UnavailableError as error:
        pytest.skip(str(error))
    out = poisoned(runtime, 1 << 24)
    with cupy.cuda.Stream(non_blocking=True):
        ones = cupy.ones(1 << 24, np.float32)
        for _ in range(200):
            ones *= 1.0
        ones += 1.0
        buffer = runtime.from_dlpack(ones)
    elementwise.fill(runtime, out, 1.0)
    elementwise.accumulate(runtime, out, buffer)
    assert (runtime.copy_out(out) == 3.0).all()


def test_read_only_memory_is_not_written():
    runtime = EmulatedRuntime()
    constant = np.zeros(4, np.float32)
    constant.flags.writeable = False
    with pytest.raises(TypeError, match="fill: out is written, and is read-only"):
        elementwise.fill(runtime, runtime.from_dlpack(constant), 1.0)


def test_arguments_that_do_not_fit_are_refused(runtime):
    out = poisoned(runtime, 8)

    def launch(**changes):
        arguments = {"out": out, "count": 8, "value": 1.0} | changes
        runtime.launch(FILL, (1, 1, 1), BLOCK, 0, arguments)

    with pytest.raises(
        TypeError, match="fill takes out, count, value, not out, count, value, extra"
    ):
        launch(extra=1)
    with pytest.raises(TypeError, match="out must be contiguous float32, and is float64"):
        launch(out=poisoned(runtime, 8, dtype=np.float64))
    with pytest.raises(TypeError, match="is float32, not contiguous"):
        launch(out=poisoned(runtime, 8, 2)[:, 0])
    with pytest.raises(OverflowError):
        launch(count=-1)
    launch()
    assert (runtime.copy_out(out) == 1.0).all()


def test_graph_records_and_replays(runtime):
    out = to_device(runtime, np.zeros(5, np.float32))
    one = to_device(runtime, np.ones(5, np.float32))
    elementwise.accumulate(runtime, out, one)  # a kernel is built before, never inside, a graph
    with runtime.capture() as graph:
        elementwise.accumulate(runtime, out, one)
        elementwise.accumulate(runtime, out, one)
    np.testing.assert_array_equal(runtime.copy_out(out), 1.0)
    for _ in range(3):
        graph.replay()
    np.testing.assert_array_equal(runtime.copy_out(out), 7.0)
    runtime.copy_in(one, np.full(5, 10, np.float32))
    graph.replay()
    np.testing.assert_array_equal(runtime.copy_out(out), 27.0)


def test_a_thread_captures_only_its_own_launches(runtime):
    out = to_device(runtime, np.zeros(5, np.float32))
    elsewhere, one = (to_device(runtime, np.ones(5, np.float32)) for _ in range(2))
    elementwise.accumulate(runtime, out, one)

    def launch_and_read():
        elementwise.accumulate(runtime, elsewhere, one)
        runtime.empty((3,), np.float32)
        return runtime.copy_out(elsewhere)

    with runtime.capture() as graph, ThreadPoolExecutor(1) as pool:
        elementwise.accumulate(runtime, out, one)
        np.testing.assert_array_equal(pool.submit(launch_and_read).result(), 2.0)
    np.testing.assert_array_equal(runtime.copy_out(out), 1.0)
    graph.replay()
    np.testing.assert_array_equal(runtime.copy_out(out), 2.0)
    np.testing.assert_array_equal(runtime.copy_out(elsewhere), 2.0)


def test_scratch_is_a_thread_s_and_a_stream_s_own_and_stays(runtime):
    def mine():
        return runtime.address(runtime.scratch("sums", 64, np.float32))

    with ThreadPoolExecutor(1) as pool:
        addresses = [mine(), mine(), pool.submit(mine).result(), pool.submit(mine).result()]
    assert addresses[0] == addresses[1] != addresses[2] == addresses[3]
    assert runtime.address(runtime.scratch("others", 64, np.float32)) != addresses[0]
    assert runtime.scratch("sums", 32, np.float64).shape == (32,)
    with runtime.stream(1):
        beside = mine()
        assert beside == mine()
    assert beside not in addresses
    assert mine() == addresses[0]


def test_a_graph_of_two_streams(runtime):
    """Stream 1 doubles what stream 0 has added up, and that goes on when it has."""
    total, twice = (to_device(runtime, np.zeros(5, np.float32)) for _ in range(2))
    one = to_device(runtime, np.ones(5, np.float32))
    elementwise.accumulate(runtime, total, one)
    with runtime.capture() as graph:
        elementwise.accumulate(runtime, total, one)
        fork = runtime.event()
        with runtime.stream(1):
            runtime.wait(fork)
            for _ in range(2):
                elementwise.accumulate(runtime, twice, total)
            join = runtime.event()
        runtime.wait(join)
        elementwise.accumulate(runtime, total, twice)
    for _ in range(2):
        graph.replay()
    np.testing.assert_array_equal(runtime.copy_out(twice), 4 + 2 * 7)
    np.testing.assert_array_equal(runtime.copy_out(total), 2 + 4 + 1 + 18)


def test_a_graph_holds_launches_and_nothing_else():
    runtime = EmulatedRuntime()
    out = poisoned(runtime, 4)
    with runtime.capture():
        for forbidden in (
            lambda: runtime.empty((1,), np.float32),
            lambda: runtime.copy_out(out),
            lambda: runtime.copy_in(out, np.zeros(4, np.float32)),
            runtime.synchronize,
        ):
            with pytest.raises(RuntimeError, match="while a graph is captured"):
                forbidden()
    runtime.synchronize()


def test_events_measure_time(runtime):
    out = poisoned(runtime, 100_000)
    elementwise.fill(runtime, out, 0.0)
    start = runtime.event()
    for _ in range(3):
        elementwise.fill(runtime, out, 0.0)
    assert 0 < runtime.event().seconds_since(start) < 60


def test_launches_can_be_watched(runtime):
    seen = []
    runtime.on_launch = lambda kernel, grid: seen.append((kernel.name, grid))
    elementwise.fill(runtime, poisoned(runtime, 300), 0.0)
    assert seen == [("fill", (2, 1, 1))]


def test_overlapping_buffers_are_found():
    runtime = EmulatedRuntime()
    memory = poisoned(runtime, 16)
    total, term = (runtime.view(memory, offset, (8,), np.float32) for offset in (0, 16))
    with pytest.raises(KernelError, match="total overlaps term"):
        elementwise.accumulate(runtime, total, term)
    elementwise.accumulate(runtime, total, runtime.view(memory, 32, (8,), np.float32))


def test_new_memory_of_the_emulator_is_nan():
    buffer = EmulatedRuntime().empty((7,), np.float32)
    assert np.isnan(buffer).all()
    assert EmulatedRuntime().address(buffer) % 256 == 0
