"""Every kernel compiled for every architecture: no spills, room on the GPU, machine code."""

import re
import subprocess

import pytest

from cuda_kernels import evidence, machine_code, specs, tensor_cores
from cuda_kernels.build import build
from cuda_kernels.cubin import Resources, arch_number, occupancy, resources
from cuda_kernels.tiles import LARGE, TILES
from tests.cuda_kernels.harness import FOLDER

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
every_target = pytest.mark.parametrize("target", TARGETS)
OTHER_TILES = ("sm_80", "sm_90")
"""Targets that tiles other than 128x128 are compiled for here: each takes its time."""

SPILLED = {("sm_120", "bf16x3"): 48}
"""Bytes a thread that the assembler may keep in local memory. In bf16x3 128 sums and 32 registers
of columns leave little: CUDA 13.0 finds room for the rest everywhere, 13.5 not quite on sm_120."""


@pytest.fixture
def disassembler():
    if machine_code.disassembler() is None:
        pytest.skip("nvdisasm is neither on the PATH nor installed (nvidia-cuda-nvdisasm)")


def existing(target):
    """The kernels that are for a target, without the tiles that are not compiled for it here."""
    tiles = TILES if target in OTHER_TILES else (None, LARGE)
    every = (kernel for kernel in specs.kernels() if kernel.arch <= arch_number(target))
    return [kernel for kernel in every if kernel.tile in (None, *tiles)]


def cubin_of(kernel, target):
    return build(kernel.source, target, kernel.macros)


@every_target
def test_no_kernel_spills_and_two_blocks_fit(cuda_compiler, target):
    for kernel in existing(target):
        taken = resources(cubin_of(kernel, target))[kernel.name]
        allowed = SPILLED.get((target, kernel.precision), 0)
        assert taken.stack <= allowed, f"{kernel.name} uses local memory: {taken}"
        assert 8 <= taken.registers <= 255
        resident = occupancy(taken, kernel.threads, kernel.shared_bytes, arch_number(target))
        wanted = kernel.tile.at_once(arch_number(target)) if kernel.tile else evidence.BLOCKS
        assert resident.blocks >= wanted, f"{kernel.name}: {resident}, {taken}"
        assert kernel.tile is None or taken.shared == kernel.tile.shared


@every_target
def test_machine_code_keeps_every_budget(cuda_compiler, disassembler, target):
    for one in evidence.gather(existing(target), target):
        name, precision = one.kernel.name, one.kernel.precision
        broken = [line for line in one.broken if not line.startswith(evidence.SPILLS)]
        assert not broken, f"{name} {broken}"
        assert not one.local or (target, precision) in SPILLED, f"{name} uses local memory"
        assert bool(one.loop and one.loop.kinds["HMMA"]) == ("mma" in name), name


@pytest.mark.parametrize("target", OTHER_TILES)
def test_the_estimate_of_a_step_is_what_its_loop_has(cuda_compiler, disassembler, target):
    """Of convolutions; the number of all instructions within three tenths."""
    tiled = (one for one in existing(target) if one.tile and one.operation.startswith("conv2d"))
    for one in evidence.gather(tiled, target):
        name, kinds = one.kernel.name, one.loop.kinds
        step = tensor_cores.step(one.kernel.tile, one.kernel.precision)
        loads = 4 * kinds["LDSM"] + kinds["LDS"]
        assert 0 <= loads - 4 * step.fragments <= 8, f"{name}: {kinds}"
        assert (kinds["HMMA"], kinds["LDGSTS"]) == (step.products, step.copies), name
        if one.kernel.operation != "conv2d_weight_gradient":  # whose first blocks sum the bias's
            assert one.loop.instructions == pytest.approx(step.instructions, rel=0.3), name


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90", "sm_120"])
def test_resources_are_those_that_the_assembler_reports(nvcc, target, tmp_path):
    source = specs.kernel("linear_forward").source
    output = tmp_path / "linear.cubin"
    command = [nvcc._command, *nvcc.options(target), "-Xptxas", "-v", "-o", str(output)]
    include = source.parent / "include"
    log = subprocess.run(
        [*command, f"-I{include}", str(source)], capture_output=True, text=True, check=True
    ).stderr
    reported = {}
    for part in log.split("Function properties for ")[1:]:
        shared = re.search(r"(\d+) bytes smem", part)
        reported[part.split()[0]] = Resources(
            registers=int(re.search(r"Used (\d+) registers", part)[1]),
            stack=int(re.search(r"(\d+) bytes stack frame", part)[1]),
            shared=int(shared[1]) if shared else 0,
        )
    assert resources(output) == reported
    assert len(reported) > 5


def test_local_memory_is_seen(cuda_compiler, tmp_path):
    """An array that is indexed by what only the launch knows lies in local memory."""
    source = tmp_path / "local.cu"
    source.write_text("""
#include "target.cuh"
KERNEL(local, 32, Global<u32> x) {
    u32 array[64];
    for (u32 i = 0; i < 64; ++i) array[x[i] % 64] = x[64 + i];
    x[threadIdx.x] = array[x[128] % 64];
}
""")
    assert resources(build(source, "sm_80"))["local"].stack >= 256


def test_copies_without_the_copy_engine(cuda_compiler, tmp_path):
    """Before sm_80 an asynchronous copy is an ordinary one, and kernels with it still compile."""
    source = tmp_path / "copies.cu"
    source.write_text("""
#include "async_copy.cuh"
struct Copied {
    Array<float, 32, 4> x;
};
KERNEL(copies, 32, Global<const float> x, Global<float> out) {
    SHARED(Copied, copied);
    copy_async<16>(&copied.x[threadIdx.x][0], x + 4 * threadIdx.x);
    commit_copies();
    wait_for_copies<0>();
    out[threadIdx.x] = copied.x[threadIdx.x][3];
}
""")
    assert set(resources(build(source, "sm_75"))) == {"copies"}


def test_the_tests_own_kernels_compile_for_gpus(cuda_compiler):
    """What the emulator accepts is CUDA C++."""
    for name in ("wrappers.cu", "faults.cu"):
        assert resources(build(FOLDER / name, "sm_80"))


@pytest.mark.parametrize(
    ("taken", "threads", "dynamic", "arch", "expected"),
    [  # by hand, from the limits in the CUDA C++ Programming Guide
        (Resources(32, 0, 0), 256, 0, 80, 1.0),  # 8 blocks fill 64 warps
        (Resources(64, 0, 0), 256, 0, 80, 0.5),  # registers for 4 blocks
        (Resources(128, 0, 48 << 10), 128, 0, 90, 0.25),  # 4 blocks by registers and by memory
        (Resources(32, 0, 0), 1024, 0, 75, 1.0),  # one block is all 32 warps
        (Resources(32, 0, 0), 1024, 0, 86, 32 / 48),  # a second one does not fit
        (Resources(32, 0, 0), 32, 0, 75, 0.5),  # at most 16 blocks
        (Resources(33, 0, 0), 256, 0, 80, 0.75),  # 1280 registers a warp: 6 blocks
        (Resources(32, 0, 0), 128, 96 << 10, 90, 8 / 64),  # 2 blocks by dynamic memory
    ],
)
def test_occupancy(taken, threads, dynamic, arch, expected):
    assert occupancy(taken, threads, dynamic, arch).share == expected


ARCHS = (75, 80, 86, 89, 90, 100, 120)


@pytest.mark.parametrize(
    ("taken", "threads", "dynamic", "blocks"),
    [  # what cuda_occupancy.h of CUDA 13.0 says on each of ARCHS
        (Resources(32, 0, 0), 256, 0, (4, 8, 6, 6, 8, 8, 6)),
        (Resources(64, 0, 0), 256, 0, (4, 4, 4, 4, 4, 4, 4)),
        (Resources(40, 0, 0), 96, 0, (10, 16, 16, 16, 16, 16, 16)),  # 12 warps a partition
        (Resources(168, 0, 0), 128, 0, (3, 3, 3, 3, 3, 3, 3)),
        (Resources(255, 0, 48 << 10), 128, 0, (1, 2, 2, 2, 2, 2, 2)),
        (Resources(128, 0, 48 << 10), 128, 0, (1, 3, 2, 2, 4, 4, 2)),
        (Resources(33, 0, 0), 1024, 0, (1, 1, 1, 1, 1, 1, 1)),
        (Resources(32, 0, 0), 1024, 0, (1, 2, 1, 1, 2, 2, 1)),
        (Resources(72, 0, 1000), 160, 0, (5, 5, 5, 5, 5, 5, 5)),
        (Resources(96, 0, 0), 224, 20000, (2, 2, 2, 2, 2, 2, 2)),  # 5 warps a partition, not 5.25
        (Resources(32, 0, 0), 32, 0, (16, 32, 16, 24, 32, 32, 24)),
        (Resources(128, 0, 0), 128, 96 << 10, (0, 1, 1, 1, 2, 2, 1)),
    ],
)
def test_blocks_are_those_of_nvidias_calculator(taken, threads, dynamic, blocks):
    found = [occupancy(taken, threads, dynamic, arch) for arch in ARCHS]
    assert tuple(one.blocks for one in found) == blocks
    assert [one.warps for one in found] == [-(-threads // 32) * count for count in blocks]


@pytest.mark.parametrize(
    ("taken", "threads", "limit"),
    [
        (Resources(168, 0, 0), 128, "registers"),
        (Resources(32, 0, 100 << 10), 128, "shared memory"),
        (Resources(16, 0, 0), 256, "warps"),
        (Resources(16, 0, 0), 32, "blocks"),
    ],
)
def test_what_allows_no_more_blocks(taken, threads, limit):
    assert occupancy(taken, threads, 0, 90).limit == limit
