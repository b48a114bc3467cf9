"""What a cubin says about its kernels: registers, memory, occupancy and machine code.

Resources are read from the file itself (an ELF object), so they are known wherever a kernel can be
compiled; only the machine code needs ``nvdisasm``.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from cuda_kernels.compilers import BuildError


@dataclass(frozen=True)
class Resources:
    """What one kernel takes; memory in bytes.

    ``stack`` is local memory a thread: registers that spilled, and arrays that are indexed by more
    than the compiler knows. It is slow, and 0 in a good kernel. ``shared`` is the static part.
    """

    registers: int
    stack: int
    shared: int


@dataclass(frozen=True)
class Architecture:
    """Limits of a streaming multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities")."""

    warps: int
    blocks: int
    shared: int
    """Shared memory in bytes, of all blocks together."""
    multiprocessors: int
    """Of a GPU that is typical of it: T4, A100, A40, L40S, H200, B200 and RTX 5090."""
    reserved: int = 1024
    """Shared memory that the system takes from every block."""


ARCHITECTURES = {
    75: Architecture(warps=32, blocks=16, shared=64 << 10, multiprocessors=40, reserved=0),
    80: Architecture(warps=64, blocks=32, shared=164 << 10, multiprocessors=108),
    86: Architecture(warps=48, blocks=16, shared=100 << 10, multiprocessors=84),
    89: Architecture(warps=48, blocks=24, shared=100 << 10, multiprocessors=142),
    90: Architecture(warps=64, blocks=32, shared=228 << 10, multiprocessors=132),
    100: Architecture(warps=64, blocks=32, shared=228 << 10, multiprocessors=148),
    120: Architecture(warps=48, blocks=24, shared=100 << 10, multiprocessors=170),
}
_REGISTERS = 65536  # of a multiprocessor, on all of them; handed out 256 a warp at a time


def architecture(arch: int) -> Architecture:
    """The limits of an architecture, or of the newest known one before it."""
    return ARCHITECTURES[max(number for number in ARCHITECTURES if number <= max(arch, 75))]


def arch_number(target: str) -> int:
    """90 for ``sm_90`` and for ``sm_90a``."""
    return int(re.sub(r"\D", "", target))


def occupancy(resources: Resources, threads: int, dynamic_shared: int, arch: int) -> float:
    """The part of a multiprocessor's warps that blocks of ``threads`` can fill, 0 to 1."""
    limits = ARCHITECTURES[arch]
    warps = -(-threads // 32)
    registers_of_warp = -(-resources.registers * 32 // 256) * 256
    shared = resources.shared + dynamic_shared + limits.reserved
    blocks = min(
        limits.blocks,
        limits.warps // warps,
        _REGISTERS // max(1, registers_of_warp) // warps,
        limits.shared // max(1, shared),
    )
    return blocks * warps / limits.warps


# -- reading the file -----------------------------------------------------------------------------

_FRAME_SIZE, _REGISTER_COUNT = 0x11, 0x2F  # attributes in .nv.info: (symbol, number)


@dataclass(frozen=True)
class _Section:
    name: str
    content: bytes  # empty for sections that hold no data in the file
    size: int
    info: int


def resources(cubin: Path) -> dict[str, Resources]:
    """The resources of every kernel in ``cubin``, by name."""
    sections = {section.name: section for section in _sections(cubin.read_bytes())}
    attributes = _attributes(sections[".nv.info"].content) if ".nv.info" in sections else {}
    # From sm_90 on a kernel's section counts what the system takes from each block.
    reserved = 1024 if ".nv.shared.reserved.0" in sections else 0
    result = {}
    for name, text in sections.items():
        if name.startswith(".text."):
            kernel = name.removeprefix(".text.")
            shared = sections.get(f".nv.shared.{kernel}")
            symbol = text.info & 0xFFFFFF
            result[kernel] = Resources(
                registers=attributes[_REGISTER_COUNT, symbol],
                stack=attributes[_FRAME_SIZE, symbol],
                shared=shared.size - reserved if shared else 0,
            )
    return result


def _sections(elf: bytes) -> list[_Section]:
    """The sections of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    entry, count, names_index = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + i * entry) for i in range(count)]
    names = headers[names_index][4]

    def text(offset: int) -> str:
        start = names + offset
        return elf[start : elf.index(b"\0", start)].decode()

    no_bits = 8
    return [
        _Section(text(name), b"" if kind == no_bits else elf[at : at + size], size, info)
        for name, kind, _, _, at, size, _, info, _, _ in headers
    ]


def _attributes(info: bytes) -> dict[tuple[int, int], int]:
    """Numbers by (attribute, symbol): entries of (format, attribute, size), then ``size`` bytes.

    Formats other than 4 keep a value in the place of the size.
    """
    numbers, offset = {}, 0
    while offset < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, offset)
        offset += 4
        if form == 4:
            if size == 8:
                symbol, number = struct.unpack_from("<II", info, offset)
                numbers[attribute, symbol] = number
            offset += size
    return numbers


# -- machine code ---------------------------------------------------------------------------------


def disassembler() -> Path | None:
    """``nvdisasm`` on the PATH or from the package nvidia-cuda-nvdisasm."""
    if path := shutil.which("nvdisasm"):
        return Path(path)
    packages = Path(sysconfig.get_path("purelib"))
    return next(packages.glob("nvidia/*/bin/nvdisasm"), None)


def sass(cubin: Path) -> dict[str, list[str]]:
    """The instructions of every kernel in ``cubin``, in order, without their addresses.

    Raises BuildError if there is no disassembler.
    """
    program = disassembler()
    if program is None:
        raise BuildError("nvdisasm: not found; install the package nvidia-cuda-nvdisasm")
    result = subprocess.run([str(program), "-c", str(cubin)], capture_output=True, text=True)
    if result.returncode != 0:
        raise BuildError(f"{cubin.name}: nvdisasm refuses it: {result.stderr.strip()}")
    kernels = {}
    for section in re.split(r"^\t?\.section", result.stdout, flags=re.MULTILINE):
        if name := re.search(r"^\.text\.(\w+):", section, re.MULTILINE):
            kernels[name[1]] = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;", section, re.MULTILINE)
    return kernels


def opcode(instruction: str) -> str:
    """``LDG.E.128`` of ``@!P0 LDG.E.128 R4, [R2.64]``."""
    words = instruction.split()
    return words[1] if words[0].startswith("@") else words[0]
