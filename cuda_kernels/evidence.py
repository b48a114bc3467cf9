"""What can be known of a kernel's speed without running it: its registers, memory and main loop.

Everything is read from the compiled file. Whether what a kernel does is fast enough, only a
measurement tells; but what it must not do (keep registers in memory, copy by words, wait alone on
its multiprocessor) shows here, and so does a change that makes its main loop longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from cuda_kernels.build import build
from cuda_kernels.cubin import Occupancy, Resources, arch_number, occupancy, resources
from cuda_kernels.machine_code import KINDS, Instruction, loops, machine_code
from cuda_kernels.specs import Kernel

# -- budgets --------------------------------------------------------------------------------------

BLOCKS = 2
"""On a multiprocessor at once, at least: one works while another waits."""

MOVES = 16
"""In the main loop of a tensor core's kernel, at most: registers are multiplied where they are."""

CHUNK = 16
"""Bytes that each thread of a tensor core's kernel loads at a time in its main loop."""

PRODUCTS: dict[int, dict[str, int]] = {
    90: {
        "conv2d_forward_bf16_mma": 34,
        "conv2d_forward_bf16_mma_128x64": 22,
        "conv2d_forward_bf16_mma_64x128": 23,
        "conv2d_forward_bf16_mma_64x64": 14,
        "conv2d_forward_pool_bf16_mma": 34,
        "conv2d_forward_pool_bf16_mma_128x64": 22,
        "conv2d_forward_pool_bf16_mma_64x128": 23,
        "conv2d_forward_pool_bf16_mma_64x64": 14,
        "conv2d_input_gradient_bf16_mma": 30,
        "conv2d_input_gradient_bf16_mma_128x64": 19,
        "conv2d_input_gradient_bf16_mma_64x128": 20,
        "conv2d_input_gradient_bf16_mma_64x64": 12,
        "conv2d_weight_gradient_bf16_mma": 20,
        "conv2d_weight_gradient_bf16_mma_128x64": 12,
        "conv2d_weight_gradient_bf16_mma_64x128": 13,
        "conv2d_weight_gradient_bf16_mma_64x64": 8,
        "linear_forward_bf16_mma": 42,
        "linear_forward_bf16_mma_128x64": 30,
        "linear_forward_bf16_mma_64x128": 30,
        "linear_forward_bf16_mma_64x64": 20,
        "linear_input_gradient_bf16_mma": 41,
        "linear_input_gradient_bf16_mma_128x64": 25,
        "linear_input_gradient_bf16_mma_64x128": 24,
        "linear_input_gradient_bf16_mma_64x64": 20,
        "linear_weight_gradient_bf16_mma": 24,
        "linear_weight_gradient_bf16_mma_128x64": 14,
        "linear_weight_gradient_bf16_mma_64x128": 17,
        "linear_weight_gradient_bf16_mma_64x64": 11,
    },
}
"""Architecture -> kernel -> percent of its main loop that are products (HMMA), at least: what was
reached, rounded down. Less is a step back; what reaches more raises its line. The loop of a weight
gradient has a branch round what only its first blocks do: adding up the bias's gradient."""

# -- findings -------------------------------------------------------------------------------------

ACCESSES = {
    "global loads": ("LDG", "LDGSTS"),
    "global stores": ("STG",),
    "shared loads": ("LDS", "LDSM"),
    "shared stores": ("STS",),
}


@dataclass(frozen=True)
class Loop:
    """One trip of a loop in which every branch falls through, and nested loops run once.

    ``kinds`` counts its instructions by ``machine_code.KINDS`` (and "other"); ``flops`` are a
    warp's; ``loads`` counts its loads from global memory by bytes a thread.
    """

    instructions: int
    kinds: dict[str, int]
    flops: int
    loads: dict[int, int]

    @property
    def products(self) -> float:
        """The part of its instructions that are products of tensor cores, 0 to 1."""
        return self.kinds["HMMA"] / self.instructions


@dataclass(frozen=True)
class Evidence:
    """What a kernel's machine code says.

    Attributes:
        kernel, target: of which machine code.
        resources: registers a thread, static shared memory and local memory.
        occupancy: blocks and warps on a multiprocessor at once.
        instructions: of the kernel.
        local: those of them that load from or store to local memory.
        accesses: one of ``ACCESSES`` -> bytes a thread -> instructions that access so many.
        loop: the main loop; None if there is none.
        broken: a line for each budget that the kernel does not keep.
    """

    kernel: Kernel
    target: str
    resources: Resources
    occupancy: Occupancy
    instructions: int
    local: int
    accesses: dict[str, dict[int, int]]
    loop: Loop | None
    broken: tuple[str, ...]


def gather(kernels: Iterable[Kernel], target: str) -> Iterator[Evidence]:
    """The evidence of each kernel, which is compiled for ``target`` if no process has yet.

    The limits of its architecture must be known (``cubin.ARCHITECTURES``). Raises BuildError if
    there is no compiler or disassembler.
    """
    kernels = list(kernels)
    sources = dict.fromkeys((kernel.source, kernel.macros) for kernel in kernels)
    cubins = {built: build(built[0], target, built[1]) for built in sources}
    code = {built: machine_code(cubin) for built, cubin in cubins.items()}
    taken = {built: resources(cubin) for built, cubin in cubins.items()}
    for kernel in kernels:
        built = kernel.source, kernel.macros
        yield examine(kernel, target, taken[built][kernel.name], code[built][kernel.name])


def examine(kernel: Kernel, target: str, taken: Resources, code: list[Instruction]) -> Evidence:
    """The evidence in a kernel's resources and instructions."""
    resident = occupancy(taken, kernel.threads, kernel.shared_bytes, arch_number(target))
    loop = main_loop(code)
    local = sum(one.kind == "local" for one in code)
    return Evidence(
        kernel,
        target,
        taken,
        resident,
        len(code),
        local,
        {name: _widths(code, roots) for name, roots in ACCESSES.items()},
        loop,
        (
            *_broken_memory(taken, local),
            *_broken_occupancy(resident),
            *_broken_instructions(kernel, code),
            *(_broken_loop(kernel.name, loop, target) if loop and loop.kinds["HMMA"] else ()),
        ),
    )


def main_loop(code: list[Instruction]) -> Loop | None:
    """The loop with the most products of tensor cores; without any, with the most operations, and
    without any of these, with the most accesses to memory. Loops nested in it do not count here.
    """
    every = loops(code)
    if not every:
        return None
    body = max(every, key=lambda loop: _work(code, loop, every))
    trip = [code[i] for i in sorted(body)]
    kinds = Counter(one.kind for one in trip)
    return Loop(
        len(trip),
        {kind: kinds[kind] for kind in (*KINDS, "other")},
        sum(one.flops for one in trip),
        _widths(trip, ACCESSES["global loads"]),
    )


def _work(
    code: list[Instruction], loop: frozenset[int], every: Collection[frozenset[int]]
) -> tuple[int, ...]:
    nested = frozenset[int]().union(*(other for other in every if other < loop))
    own = [code[i] for i in loop - nested]
    kinds = Counter(one.kind for one in own)
    accesses = sum(kinds[root] for roots in ACCESSES.values() for root in roots)
    return kinds["HMMA"], sum(one.flops for one in own), accesses, -len(loop)


def _widths(code: Iterable[Instruction], roots: Collection[str]) -> dict[int, int]:
    counts = Counter(one.width for one in code if one.kind in roots)
    return dict(sorted(counts.items(), reverse=True))


# -- verdicts -------------------------------------------------------------------------------------


SPILLS = "keeps in local memory:"
"""How the verdict on registers that spilled begins."""


def _broken_memory(taken: Resources, local: int) -> Iterator[str]:
    if taken.stack or local:
        yield f"{SPILLS} {taken.stack} bytes a thread, {local} instructions"


def _broken_occupancy(resident: Occupancy) -> Iterator[str]:
    if resident.blocks < BLOCKS:
        yield f"blocks on a multiprocessor: {resident.blocks} for want of {resident.limit}"


def _broken_instructions(kernel: Kernel, code: list[Instruction]) -> Iterator[str]:
    opcodes = {one.opcode for one in code}
    for wanted in kernel.instructions:
        if not any(opcode.startswith(wanted) for opcode in opcodes):
            yield f"has no {wanted}, which its speed rests on"


def _broken_loop(name: str, loop: Loop, target: str) -> Iterator[str]:
    narrow = sum(count for width, count in loop.loads.items() if width < CHUNK)
    if narrow:
        yield f"loads less than {CHUNK} bytes a thread in its main loop: {narrow} instructions"
    if loop.kinds["move"] > MOVES:
        yield f"moves registers in its main loop: {loop.kinds['move']} times, {MOVES} at most"
    floor = PRODUCTS.get(arch_number(target), {}).get(name, 0)
    if 100 * loop.products < floor:
        yield f"products are {loop.products:.1%} of its main loop, {floor}% at least"
