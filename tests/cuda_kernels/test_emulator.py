"""The emulator finds what is wrong with a kernel and names the line, in every order of threads."""

import ctypes
import re

import numpy as np
import pytest

from cuda_kernels.compilers import HostCompiler, host_compiler
from cuda_kernels.emulated import EmulatedRuntime
from cuda_kernels.runtime import KernelError
from tests.cuda_kernels.harness import FOLDER, kernel, launch, line_of, poisoned, to_device

FAULTS = FOLDER / "faults.cu"

# The kernel, the line that the message begins with or names, and a pattern in its words. A missing
# barrier shows as a race in some orders, as an entry read before it is written in others.
RACE = "race in shared memory: it reads|that nobody has written yet"
FOUND = [
    ("read_past_end", "HERE read_past_end", r"x\[64\] is outside its 64 entries"),
    ("write_before_begin", "HERE write_before_begin", r"out\[-1\] is outside its 64 entries"),
    ("vector_past_end", "HERE vector_past_end", "is outside its 64 entries"),
    ("misaligned", "HERE misaligned", r"x\[1\] is not aligned to 16 bytes"),
    ("absent", "HERE absent", "absent"),
    ("shared_index", "HERE shared_index", "index 64 of an array of 64 in shared memory"),
    ("shared_guard", "HERE shared_guard", r"overwritten past the end of shared \(Floats\)"),
    ("unwritten", "HERE unwritten", "thread 0: reads shared memory that nobody has written"),
    ("read_too_early", "HERE read", RACE),
    ("refilled_too_early", "HERE refilled", "race in shared memory"),
    ("no_warp_barrier", "HERE no_warp_barrier", RACE),
    ("warp_barrier_for_a_block", "HERE warp_barrier_for_a_block", RACE),
    ("half_a_barrier", "HERE half_a_barrier", "threads 32-63 finished"),
    ("two_barriers", "HERE first of two barriers", "threads 0-39 wait at barrier"),
    ("two_barriers", "HERE second of two barriers", "threads 40-63 wait at barrier"),
    ("half_a_shuffle", "HERE half_a_shuffle", "thread 7 finished"),
    ("two_shuffles", "HERE first of two shuffles", "divergent warp"),
    ("two_shuffles", "HERE second of two shuffles", "divergent warp"),
    ("no_wait", "HERE no_wait", "a wait is missing"),
    ("no_wait", "HERE copied", "the asynchronous copy at"),
    ("wait_for_too_few", "HERE too few", "a wait is missing"),
    ("copy_past_end", "HERE copy_past_end", r"x\[64\] is outside its 64 entries"),
    ("row_outside", "HERE row_outside", "outside of shared memory"),
    ("too_little_dynamic", "HERE too_little_dynamic", "has 256 bytes, but the launch gives 128"),
]


@pytest.mark.parametrize(("name", "marker", "pattern"), FOUND)
def test_fault_is_found_with_its_line(emulated, name, marker, pattern):
    x = None if name == "absent" else to_device(emulated, np.arange(64, dtype=np.float32))
    with pytest.raises(KernelError) as caught:
        launch(
            emulated,
            kernel(name, FAULTS, threads=64, shared_bytes=128),
            x=x,
            out=poisoned(emulated, 64),
        )
    message = str(caught.value)
    assert line_of(FAULTS, marker) in message
    assert re.search(pattern, message)
    assert f"{name}, block (0, 0, 0)" in message


def test_a_failed_launch_leaves_the_emulator_usable(emulated):
    for _ in range(2):
        with pytest.raises(KernelError, match=r"x\[64\]"):
            launch(
                emulated,
                kernel("read_past_end", FAULTS, 64),
                x=to_device(emulated, np.zeros(64, np.float32)),
                out=poisoned(emulated, 64),
            )
    x = to_device(emulated, np.zeros(65, np.float32))
    out = poisoned(emulated, 64)
    launch(emulated, kernel("read_past_end", FAULTS, 64), x=x, out=out)
    assert not out.any()


def test_a_block_larger_than_the_kernel_allows_is_refused(emulated):
    x = to_device(emulated, np.zeros(200, np.float32))
    with pytest.raises(KernelError, match="a block of 96 threads, where 1 to 64 are allowed"):
        launch(
            emulated, kernel("read_past_end", FAULTS, threads=96), x=x, out=poisoned(emulated, 200)
        )


ORDER = """
#include "target.cuh"
KERNEL(order, 64, Global<u32> next, Global<u32> seen) {
    seen[next[0]++] = blockIdx.x * blockDim.x + threadIdx.x;
    __syncthreads();
}
"""


def visited(runtime, folder):
    """Threads of three blocks in the order in which they run."""
    source = folder / "order.cu"
    source.write_text(ORDER)
    following = to_device(runtime, np.zeros(1, np.uint32))
    seen = poisoned(runtime, 192, dtype=np.uint32)
    launch(runtime, kernel("order", source, 64), blocks=3, next=following, seen=seen)
    return seen.tolist()


def test_orders_are_what_they_say(tmp_path):
    forward = visited(EmulatedRuntime("forward"), tmp_path)
    assert forward == list(range(192))
    assert visited(EmulatedRuntime("reverse"), tmp_path) == forward[::-1]
    one, again, other = (visited(EmulatedRuntime("random", seed), tmp_path) for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(other) == forward
    assert one not in (forward, forward[::-1])


class PortableCompiler(HostCompiler):
    """Fibers by ucontext, as on processors without an assembly switch."""

    def options(self, target, macros=()):
        return [*super().options(target, macros), "-DEMULATOR_UCONTEXT"]


def test_portable_fibers_run_threads_just_as_well(tmp_path, monkeypatch):
    compiler = PortableCompiler(host_compiler()._command)
    monkeypatch.setattr("cuda_kernels.build.find", lambda target: compiler)
    for order, expected in (("forward", range(192)), ("reverse", range(191, -1, -1))):
        assert visited(EmulatedRuntime(order), tmp_path) == list(expected)


def test_denormal_numbers_are_kept(emulated, tmp_path):
    source = tmp_path / "halve.cu"
    source.write_text("""
#include "target.cuh"
KERNEL(halve, 32, Global<float> x) { x[threadIdx.x] *= 0.5F; }
""")
    smallest = np.finfo(np.float32).smallest_subnormal
    x = to_device(emulated, np.full(32, 2 * smallest, np.float32))
    launch(emulated, kernel("halve", source), x=x)
    np.testing.assert_array_equal(x, smallest)


def test_launch_structure_is_the_emulators(tmp_path):
    """ctypes' layout of a launch is that of C++."""
    from cuda_kernels import emulated

    source = tmp_path / "sizes.cu"
    source.write_text("""
#include "target.cuh"
extern "C" __attribute__((visibility("default"))) u64 sizes(u32 which) {
    return which == 0 ? sizeof(emulator::Launch) : sizeof(emulator::Argument);
}
""")
    sizes = emulated._library(source, ()).sizes
    sizes.restype = ctypes.c_uint64
    assert sizes(0) == ctypes.sizeof(emulated._Launch)
    assert sizes(1) == ctypes.sizeof(emulated._Argument)
