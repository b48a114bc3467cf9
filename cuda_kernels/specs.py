"""What each kernel is, and which one an operation takes.

An *operation* is something to compute, ``linear_forward`` say. Its *kernels* are versions of it,
from simple to fast, that take the same arguments. A *problem* is one size of it, and knows the
least work that it needs. Beside ``NAME.cu`` lies ``NAME.py``, whose ``KERNELS`` are found here. A
kernel's parameters are read from its source.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from cuda_kernels.compilers import PACKAGE
from cuda_kernels.cubin import architecture
from cuda_kernels.tiles import Tile

Precision = Literal["fp32", "tf32", "bf16", "bf16x3"]
"""How products are formed; see the house plan. A bf16 buffer is an array of uint16, its bits."""

_STAND_INS: Mapping[Precision, Precision] = {"tf32": "fp32", "bf16x3": "fp32"}
"""Another precision with the same buffers and smaller errors, for what has no kernel of its own."""


class Problem(Protocol):
    """An operation at one size. Its floor is ``flops`` or ``bytes``, whichever takes longer."""

    @property
    def flops(self) -> int:
        """Floating-point operations, a multiplication and an addition counting two."""

    @property
    def bytes(self) -> int:
        """Bytes of global memory if every input is read once and every output written once."""


Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter: a buffer of ``dtype``, or a number. Outputs may be read, too."""

    name: str
    dtype: np.dtype[Any]
    kind: Literal["input", "output", "number"]


def _no_reason(problem: Any) -> str | None:
    return None


def _no_estimate(problem: Any, arch: int, multiprocessors: int) -> float:
    return 0.0


@dataclass(frozen=True)
class Kernel:
    """One kernel: what it computes, where its source is, and how it is launched."""

    name: str
    operation: str
    version: int
    source: Path
    why: str
    """One line: the idea of this version."""
    threads: int
    """Of each block."""
    grid: Callable[[Any], Grid]
    """Blocks for a problem."""
    shared_bytes: int = 0
    """Dynamic shared memory of each block; what SHARED declares is not counted."""
    refuses: Callable[[Any], str | None] = _no_reason
    """Why this kernel cannot solve a problem, or ``None``."""
    precision: Precision = "fp32"
    arch: int = 75
    """The oldest architecture that has what the kernel needs."""
    instructions: tuple[str, ...] = ()
    """Opcodes (their beginnings) that its machine code must have, for its speed to be real."""
    tile: Tile | None = None
    """What of a result each block computes, where versions differ by that."""
    cycles: Callable[[Any, int, int], float] = _no_estimate
    """With a tile: about how long a problem takes on an architecture of so many multiprocessors."""

    @property
    def macros(self) -> tuple[str, ...]:
        """``NAME=VALUE`` of what its source is compiled with."""
        return self.tile.macros if self.tile else ()

    @property
    def name_in_source(self) -> str:
        """Without what the macros add to it."""
        return self.name.removesuffix(self.tile.suffix) if self.tile else self.name

    @functools.cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those in the source, in order."""
        return signature(self.source.read_text(), self.name_in_source)


# -- signatures -----------------------------------------------------------------------------------

_DTYPES = {
    "float": np.float32,
    "double": np.float64,
    "bf16": np.uint16,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "i32": np.int32,
    "i64": np.int64,
}
_TYPE = r"(?:Global<(?P<const>const )?(?P<entry>\w+)>|(?P<number>\w+))"
_PARAMETER = re.compile(rf"{_TYPE} (?P<name>\w+)")


def kernel_names(source: str) -> list[str]:
    """The kernels that a source text defines, in order."""
    return re.findall(r"^KERNEL\((\w+),", source, re.MULTILINE)


def signature(source: str, kernel: str) -> tuple[Parameter, ...]:
    """The parameters of ``KERNEL(kernel, threads, ...)`` in a source text.

    Raises ValueError for an unknown kernel, or a parameter that is no ``Global<T> name``,
    ``Global<const T> name`` or ``T name`` with a ``T`` that both sides know.
    """
    found = re.search(rf"^KERNEL\({kernel},\s*[^,]+,([^{{]*)\)\s*{{", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"no KERNEL({kernel}, threads, parameters...) in the source")
    return tuple(_parameter(" ".join(text.split())) for text in found[1].split(","))


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    ctype = match and (match["entry"] or match["number"])
    if match is None or ctype not in _DTYPES:
        raise ValueError(f"parameter {text!r} is neither a Global<T> nor a number")
    kind: Literal["input", "output", "number"] = "number"
    if match["entry"]:
        kind = "input" if match["const"] else "output"
    return Parameter(match["name"], np.dtype(_DTYPES[ctype]), kind)


# -- the registry ---------------------------------------------------------------------------------


@functools.cache
def kernels() -> tuple[Kernel, ...]:
    """Every kernel there is."""
    found: list[Kernel] = []
    for source in sorted(PACKAGE.glob("*.cu")):
        if source.with_suffix(".py").exists():
            found += importlib.import_module(f"cuda_kernels.{source.stem}").KERNELS
    return tuple(found)


def kernel(name: str) -> Kernel:
    """The kernel called ``name``; ValueError names those that there are."""
    for one in kernels():
        if one.name == name:
            return one
    raise ValueError(f"no kernel {name!r}; there are {', '.join(k.name for k in kernels())}")


class UnsuitableError(ValueError):
    """No kernel can do what was asked for; says why each one cannot."""


def choose(
    operation: str,
    problem: Problem,
    *,
    arch: int,
    precision: Precision = "fp32",
    pins: Mapping[str, int] | None = None,
    multiprocessors: int = 0,
) -> Kernel:
    """The newest version of ``operation`` that suits; ``pins`` (operation: version) overrules.

    Of versions that differ by their tile it is the one that takes the fewest cycles, on a GPU of
    so many ``multiprocessors`` (0: as is typical of ``arch``). In tf32 and bf16x3 a kernel in
    fp32 stands in where there is none that suits. Raises UnsuitableError with the reason of every
    version that does not.
    """
    pinned = (pins or {}).get(operation)
    suitable, reasons = [], []
    for one in sorted(_versions(operation), key=lambda k: (k.precision != precision, -k.version)):
        if pinned is not None and one.version != pinned:
            continue
        reason = _refusal(one, problem, arch, precision)
        if reason is None:
            suitable.append(one)
        else:
            reasons.append(f"version {one.version} ({one.name}) {reason}")
    if suitable:
        count = multiprocessors or architecture(arch).multiprocessors
        return _quickest(suitable, problem, arch, count)
    wanted = operation if pinned is None else f"version {pinned} of {operation}"
    raise UnsuitableError(f"{wanted}: {'; '.join(reasons) or 'there is no such kernel'}")


def _quickest(suitable: list[Kernel], problem: Problem, arch: int, multiprocessors: int) -> Kernel:
    """The first, or the one of its precision that has the best tile; the largest, of equal ones."""
    first = suitable[0]
    if first.tile is None:
        return first
    tiled = [one for one in suitable[::-1] if one.tile and one.precision == first.precision]
    return min(tiled, key=lambda one: one.cycles(problem, arch, multiprocessors))


@functools.cache
def _versions(operation: str) -> tuple[Kernel, ...]:
    return tuple(kernel for kernel in kernels() if kernel.operation == operation)


def _refusal(kernel: Kernel, problem: Problem, arch: int, precision: Precision) -> str | None:
    if kernel.precision not in (precision, _STAND_INS.get(precision)):
        return f"is for {kernel.precision}, not {precision}"
    if arch < kernel.arch:
        return f"needs sm_{kernel.arch}, and this is sm_{arch}"
    return kernel.refuses(problem)
