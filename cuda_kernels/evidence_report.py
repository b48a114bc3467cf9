"""Evidence for people and programs: ``python -m cuda_kernels evidence``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from cuda_kernels.evidence import ACCESSES, CHUNK, Evidence, Loop
from cuda_kernels.machine_code import KINDS

Row = tuple[str, ...]


def to_json(found: Iterable[Evidence]) -> str:
    """One JSON object: a list, in which sizes are bytes, and operations those of a warp."""
    return json.dumps({"kernels": [_plain(one) for one in found]}) + "\n"


def _plain(one: Evidence) -> dict[str, Any]:
    loop = one.loop and {
        **asdict(one.loop),
        "products": one.loop.products,
        "flops_an_instruction": one.loop.flops / one.loop.instructions,
    }
    return {
        "kernel": one.kernel.name,
        "target": one.target,
        "threads": one.kernel.threads,
        **asdict(one.resources),
        "dynamic_shared": one.kernel.shared_bytes,
        **one.occupancy._asdict(),
        "instructions": one.instructions,
        "local": one.local,
        "accesses": one.accesses,
        "loop": loop,
        "broken": one.broken,
    }


# -- tables ---------------------------------------------------------------------------------------

_TAKEN = (
    *("kernel", "registers", "local", "static", "dynamic", "threads"),
    *("blocks", "warps", "limit", "code"),
)
_SHOWN = {"integer": "int", "barrier": "wait", "LDGSTS": "copy"}
_KINDS = (*(kind for kind in KINDS if kind != "local"), "other")
_TRIP = ("kernel", "trip", *(_SHOWN.get(kind, kind) for kind in _KINDS))
_WORK = (
    *("kernel", "HMMA", "FLOPs", "each"),
    *("loads", "16 B", "stores", "16 B", "shared", "16 B", "stores", "16 B", "local"),
)


def to_text(found: Sequence[Evidence]) -> str:
    """Three tables of at most 120 columns, then a line for each budget that is broken."""
    loops = [(one, one.loop) for one in found if one.loop]
    tables = {
        "registers, and bytes of local and shared memory; what a multiprocessor runs at once, and "
        "what limits it": [_TAKEN, *map(_taken, found)],
        "instructions of one trip through the main loop": [
            _TRIP,
            *(_trip(one.kernel.name, loop) for one, loop in loops),
        ],
        "products of that trip; accesses of the whole kernel to global, then to shared memory": [
            _WORK,
            *map(_work, found),
        ],
    }
    parts = [f"{title}\n{_aligned(rows)}" for title, rows in tables.items() if len(rows) > 1]
    broken = [f"{one.kernel.name} {line}\n" for one in found for line in one.broken]
    return "\n".join([*parts, "".join(broken) or "every budget is kept\n"])


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _taken(one: Evidence) -> Row:
    taken, resident = one.resources, one.occupancy
    numbers = (
        *(taken.registers, taken.stack, taken.shared, one.kernel.shared_bytes, one.kernel.threads),
        *(resident.blocks, resident.warps, resident.limit, one.instructions),
    )
    return (one.kernel.name, *map(str, numbers))


def _trip(name: str, loop: Loop) -> Row:
    return (name, str(loop.instructions), *(str(loop.kinds[kind] or "-") for kind in _KINDS))


def _work(one: Evidence) -> Row:
    products = ("-", "-", "-")
    if one.loop and one.loop.flops:
        each = one.loop.flops / one.loop.instructions
        share = f"{one.loop.products:.1%}" if one.loop.kinds["HMMA"] else "-"
        products = (share, str(one.loop.flops), f"{each:.0f}")
    accesses = (cell for name in ACCESSES for cell in _widths(one.accesses[name]))
    return (one.kernel.name, *products, *accesses, str(one.local))


def _widths(counts: dict[int, int]) -> Row:
    """How many accesses, and which part of them are of 16 bytes a thread."""
    total = sum(counts.values())
    return (str(total), f"{counts.get(CHUNK, 0) / total:.0%}") if total else ("-", "-")
