"""Every kernel compiled for every architecture: no spills, room on the GPU, machine code."""

import re
import subprocess
from collections import Counter

import pytest

from cuda_kernels import cubin, specs, tensor_cores
from cuda_kernels.build import build
from cuda_kernels.cubin import (
    ARCHITECTURES,
    Resources,
    arch_number,
    occupancy,
    opcode,
    resources,
    sass,
)
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
    if cubin.disassembler() is None:
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
    limits = ARCHITECTURES[arch_number(target)]
    for kernel in existing(target):
        taken = resources(cubin_of(kernel, target))[kernel.name]
        allowed = SPILLED.get((target, kernel.precision), 0)
        assert taken.stack <= allowed, f"{kernel.name} uses local memory: {taken}"
        assert 8 <= taken.registers <= 255
        filled = occupancy(taken, kernel.threads, kernel.shared_bytes, arch_number(target))
        blocks = filled * limits.warps / (kernel.threads / 32)
        wanted = kernel.tile.at_once(arch_number(target)) if kernel.tile else 2
        assert blocks >= wanted, f"{kernel.name}: {blocks} block a multiprocessor: {taken}"
        assert kernel.tile is None or taken.shared == kernel.tile.shared


@every_target
def test_machine_code_is_what_the_version_is_for(cuda_compiler, disassembler, target):
    machine_code = {
        name: instructions
        for built in {cubin_of(kernel, target) for kernel in existing(target)}
        for name, instructions in sass(built).items()
    }
    for kernel in existing(target):
        codes = {opcode(instruction) for instruction in machine_code[kernel.name]}
        assert "EXIT" in codes
        for wanted in kernel.instructions:
            assert any(code.startswith(wanted) for code in codes), f"{kernel.name}: no {wanted}"
        local = {code for code in codes if re.match(r"(LDL|STL)\b", code)}
        if (target, kernel.precision) not in SPILLED:
            assert not local, f"{kernel.name} uses local memory: {local}"
        assert any(code.startswith("HMMA") for code in codes) == ("mma" in kernel.name)
        if "mma" in kernel.name:
            check_main_loop(kernel.name, [opcode(one) for one in machine_code[kernel.name]])


def check_main_loop(name, codes):
    """Copies are of 16 bytes, and registers are multiplied where they were loaded or summed."""
    assert all(".128" in code for code in codes if code.startswith("LDGSTS")), name
    products = [i for i, code in enumerate(codes) if code.startswith("HMMA")]
    loop = codes[products[0] : products[-1]]
    moves = [code for code in loop if re.match(r"(MOV|IMAD\.MOV)\b", code)]
    assert len(moves) <= 16, f"{name}: {len(moves)} moves between {len(products)} products"


def loops_with_products(path):
    """By kernel, the opcodes of its loop on tensor cores: from a label to the branch back to it."""
    command = [str(cubin.disassembler()), "-c", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {}
    for section in re.split(r"^\t?\.section", text, flags=re.MULTILINE):
        if not (name := re.search(r"^\.text\.(\w+):", section, re.MULTILINE)):
            continue
        labels, codes = {}, []
        for line in section.splitlines():
            if label := re.match(r"(\.L\w+):", line):
                labels[label[1]] = len(codes)
            elif instruction := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
                codes.append(opcode(instruction[1]))
                back = re.search(r"BRA.*`\((\.L\w+)\)", instruction[1])
                loop = codes[labels[back[1]] :] if back and back[1] in labels else []
                if any(code.startswith("HMMA") for code in loop):
                    found[name[1]] = loop
    return found


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_estimate_of_a_step_is_what_its_loop_has(cuda_compiler, disassembler, target):
    """Of convolutions; the number of all instructions within three tenths."""
    tiled = [one for one in existing(target) if one.tile and one.operation.startswith("conv2d")]
    loops: dict = {}
    for built in {cubin_of(kernel, target) for kernel in tiled}:
        loops |= loops_with_products(built)
    for kernel in tiled:
        step, loop = tensor_cores.step(kernel.tile, kernel.precision), loops[kernel.name]
        counts = Counter(code.partition(".")[0] for code in loop)
        loads = 4 * counts["LDSM"] + counts["LDS"]
        assert 0 <= loads - 4 * step.fragments <= 8, f"{kernel.name}: {counts}"
        assert counts["LDGSTS"] == step.copies, f"{kernel.name}: {counts}"
        assert counts["HMMA"] == step.products, f"{kernel.name}: {counts}"
        assert len(loop) == pytest.approx(step.instructions, rel=0.3), kernel.name


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
    assert occupancy(taken, threads, dynamic, arch) == expected
