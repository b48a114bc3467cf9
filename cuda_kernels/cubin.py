"""What a cubin says about its kernels: registers, memory and occupancy; machine_code.py tells more.

It is read from the file itself (an ELF object), so it is known wherever a kernel can be compiled.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


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
    shared_unit: int = 128
    """Bytes of shared memory that are handed out at a time."""


ARCHITECTURES = {
    75: Architecture(
        warps=32, blocks=16, shared=64 << 10, multiprocessors=40, reserved=0, shared_unit=256
    ),
    80: Architecture(warps=64, blocks=32, shared=164 << 10, multiprocessors=108),
    86: Architecture(warps=48, blocks=16, shared=100 << 10, multiprocessors=84),
    89: Architecture(warps=48, blocks=24, shared=100 << 10, multiprocessors=142),
    90: Architecture(warps=64, blocks=32, shared=228 << 10, multiprocessors=132),
    100: Architecture(warps=64, blocks=32, shared=228 << 10, multiprocessors=148),
    120: Architecture(warps=48, blocks=24, shared=100 << 10, multiprocessors=170),
}
# The same on all of them: a multiprocessor has four partitions, each with registers of its own,
# which a warp of it gets 256 at a time.
_PARTITIONS, _REGISTERS, _REGISTER_UNIT = 4, 65536 // 4, 256


def architecture(arch: int) -> Architecture:
    """The limits of an architecture, or of the newest known one before it."""
    return ARCHITECTURES[max(number for number in ARCHITECTURES if number <= max(arch, 75))]


def arch_number(target: str) -> int:
    """90 for ``sm_90`` and for ``sm_90a``."""
    return int(re.sub(r"\D", "", target))


class Occupancy(NamedTuple):
    """What runs on a multiprocessor at once.

    ``limit`` says what allows no more blocks: "registers", "shared memory", "warps" or "blocks".
    ``share`` is the part of the warps that there could be, 0 to 1.
    """

    blocks: int
    warps: int
    share: float
    limit: str


def occupancy(resources: Resources, threads: int, dynamic_shared: int, arch: int) -> Occupancy:
    """Of blocks of ``threads`` with ``dynamic_shared`` bytes beside those they declare.

    ``arch`` is one of ``ARCHITECTURES``, 90 say. The rules are those of NVIDIA's occupancy
    calculator, the toolkit's cuda_occupancy.h.
    """
    limits = ARCHITECTURES[arch]
    warps = -(-threads // 32)
    registers = max(1, _whole(resources.registers * 32, _REGISTER_UNIT))
    shared = _whole(resources.shared + dynamic_shared + limits.reserved, limits.shared_unit)
    blocks = {
        "registers": _REGISTERS // registers * _PARTITIONS // warps,
        "shared memory": limits.shared // max(1, shared),
        "warps": limits.warps // warps,
        "blocks": limits.blocks,
    }
    limit = min(blocks, key=blocks.__getitem__)
    resident = blocks[limit] * warps
    return Occupancy(blocks[limit], resident, resident / limits.warps, limit)


def _whole(amount: int, unit: int) -> int:
    return -(-amount // unit) * unit


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
