"""The machine code of a cubin's kernels: its instructions, their kinds, and its loops."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cuda_kernels.compilers import BuildError

# -- instructions ---------------------------------------------------------------------------------

KINDS: dict[str, tuple[str, ...]] = {
    "HMMA": ("HMMA",),
    "LDSM": ("LDSM",),
    "LDS": ("LDS",),
    "STS": ("STS",),
    "LDGSTS": ("LDGSTS",),
    "LDG": ("LDG",),
    "STG": ("STG",),
    "local": ("LDL", "STL"),
    "float": (
        *("FADD", "FMUL", "FFMA", "FSETP", "FSET", "FSEL", "FMNMX", "FCHK", "FSWZADD", "MUFU"),
        *("HADD2", "HMUL2", "HFMA2", "HSETP2", "HMNMX2", "DADD", "DMUL", "DFMA", "DSETP"),
        *("F2F", "F2FP", "F2I", "I2F", "I2FP", "FRND"),
    ),
    "integer": (
        *("IADD", "IADD3", "IMAD", "ISETP", "IABS", "IMNMX", "IDP", "VIADD", "VIMNMX", "VIADDMNMX"),
        *("LEA", "LOP", "LOP3", "SHF", "SHL", "SHR", "SEL", "PRMT", "BREV", "FLO", "POPC", "I2I"),
        *("BMSK", "SGXT", "PLOP3", "P2R", "R2P", "I2IP"),
        *("UIADD3", "UIMAD", "UISETP", "ULEA", "ULOP3", "USHF", "USEL", "UPRMT", "UFLO", "UPOPC"),
        *("UBMSK", "USGXT", "UPLOP3", "UP2UR", "UR2UP", "UVIADD", "UVIMNMX", "UBREV", "UIABS"),
    ),
    "move": ("MOV", "UMOV", "CS2R"),
    "branch": (
        *("BRA", "BRX", "JMP", "JMX", "CALL", "RET", "EXIT", "BSSY", "BSYNC", "BREAK", "BMOV"),
        *("BPT", "KILL", "YIELD"),
    ),
    "barrier": ("BAR", "DEPBAR", "LDGDEPBAR", "MEMBAR", "ERRBAR", "WARPSYNC", "CCTL", "FENCE"),
}
"""Opcodes (before their first point) by kind; all others are "other": kernel parameters (LDC), the
numbers of threads and blocks (S2R), shuffles and atomics."""

OTHER = "other"
_KIND = {root: kind for kind, roots in KINDS.items() for root in roots}
_FLOPS = {"FADD": 1, "FMUL": 1, "FFMA": 2, "DADD": 1, "DMUL": 1, "DFMA": 2}
_MOVE = re.compile(r"IMAD\.MOV\b|HFMA2\S* \w+, -RZ, RZ,")
"""Moves and constants by the units of other opcodes."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``@!P0 LDG.E.128 R4, [R2.64]`` at ``address``, in bytes.

    ``target`` is where a branch goes, unless that is known only when it runs.
    """

    address: int
    text: str
    target: int | None = None

    @cached_property
    def opcode(self) -> str:
        """``LDG.E.128``."""
        words = self.text.split()
        return words[1] if words[0].startswith("@") else words[0]

    @cached_property
    def root(self) -> str:
        """``LDG``."""
        return self.opcode.partition(".")[0]

    @property
    def kind(self) -> str:
        """One of ``KINDS``, or "other"; so is what no thread ever does (``@!PT``)."""
        if self.text.startswith(("@!PT ", "@!UPT ")):
            return OTHER
        return "move" if _MOVE.search(self.text) else _KIND.get(self.root, OTHER)

    @property
    def width(self) -> int:
        """Bytes that each thread loads or stores."""
        if self.root == "LDSM":
            return 4 * int(self.opcode.rpartition(".")[2])  # so many matrices, a register of each
        for part in self.opcode.split(".")[1:]:
            if part in _WIDTHS:
                return _WIDTHS[part]
        return 4

    @property
    def flops(self) -> int:
        """Floating-point operations of a whole warp, a multiplication and an addition being two."""
        if self.root == "HMMA":
            shape = self.opcode.split(".")[1]  # 16816: 16 rows, 8 columns, 16 terms
            return 2 * 16 * 8 * int(shape[len("168") :])
        return 32 * _FLOPS.get(self.root, 0)


_WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}

# -- disassembly ----------------------------------------------------------------------------------


def disassembler() -> Path | None:
    """``nvdisasm`` on the PATH or from the package nvidia-cuda-nvdisasm."""
    if path := shutil.which("nvdisasm"):
        return Path(path)
    packages = Path(sysconfig.get_path("purelib"))
    return next(packages.glob("nvidia/*/bin/nvdisasm"), None)


def machine_code(cubin: Path) -> dict[str, list[Instruction]]:
    """The instructions of every kernel in ``cubin``, in order.

    Raises BuildError if there is no disassembler, or it cannot read the file.
    """
    program = disassembler()
    if program is None:
        raise BuildError("nvdisasm: not found; install the package nvidia-cuda-nvdisasm")
    result = subprocess.run([str(program), "-c", str(cubin)], capture_output=True, text=True)
    if result.returncode != 0:
        raise BuildError(f"{cubin.name}: nvdisasm refuses it: {result.stderr.strip()}")
    return parse(result.stdout)


_SECTION = re.compile(r"^\t?\.section", re.MULTILINE)
_KERNEL = re.compile(r"^\.text\.(\w+):", re.MULTILINE)
_LINE = re.compile(r"^(?:(?P<label>\.L\w+):|\s+/\*(?P<address>[0-9a-f]+)\*/\s+(?P<text>.*?)\s*;)")
_BRANCH = re.compile(r"\bBRA\b.*`\((\.L\w+)\)")


def parse(disassembly: str) -> dict[str, list[Instruction]]:
    """The kernels in what ``nvdisasm -c`` writes: labels on lines of their own, and lines like

    ``        /*0690*/              @!P3 BRA `(.L_x_3234) ;``
    """
    kernels = {}
    for section in _SECTION.split(disassembly):
        if name := _KERNEL.search(section):
            kernels[name[1]] = _instructions(section)
    return kernels


def _instructions(section: str) -> list[Instruction]:
    labels: dict[str, int] = {}
    waiting: list[str] = []
    lines: list[tuple[int, str]] = []
    for line in section.splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        if found["label"]:
            waiting.append(found["label"])
        else:
            lines.append((int(found["address"], 16), found["text"]))
            labels.update(dict.fromkeys(waiting, lines[-1][0]))
            waiting.clear()

    def target(text: str) -> int | None:
        branch = _BRANCH.search(text)
        return labels.get(branch[1]) if branch else None

    return [Instruction(address, text, target(text)) for address, text in lines]


# -- loops ----------------------------------------------------------------------------------------


_LEAVES = re.compile(r"BRA(\.\w+)* `|(EXIT|RET|JMP|BRX)\b")
"""What the next instruction never follows; a condition stands before the opcode or the target."""


def loops(code: Sequence[Instruction]) -> list[frozenset[int]]:
    """The loops of a kernel, each the numbers of its instructions; a nested one lies in another.

    These are natural loops: from a branch backwards, all that leads to it without passing its
    target, if that is the only way in, and there is one. Branches to one target make one loop.
    Where a branch goes that has no known target, nothing follows; a BSYNC stands right before the
    place it leads to.
    """
    number = {instruction.address: i for i, instruction in enumerate(code)}
    before: list[list[int]] = [[] for _ in code]
    backward: dict[int, list[int]] = {}
    for i, instruction in enumerate(code):
        if instruction.target is not None:
            to = number[instruction.target]
            before[to].append(i)
            if to <= i:
                backward.setdefault(to, []).append(i)
        if not _LEAVES.match(instruction.text) and i + 1 < len(code):
            before[i + 1].append(i)
    found = []
    for head, tails in backward.items():
        body, waiting = {head}, list(tails)
        while waiting:
            i = waiting.pop()
            if i not in body:
                body.add(i)
                waiting += before[i]
        if head == 0 or (0 not in body and not body.issuperset(before[head])):
            found.append(frozenset(body))
    return found
