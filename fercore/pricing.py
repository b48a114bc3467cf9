"""A recorded step as a list with prices: what each call, kernel and buffer costs at least."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fercore import costs
from fercore.backends.accesses import operands
from fercore.backends.sketch import Launch, SketchBackend
from fercore.costs import Limits
from fercore.step import Call, Plan, Recording
from fercore.streams import UPDATES


@dataclass(frozen=True)
class Launched:
    """A kernel that a call launches: its blocks, and the work of its problem.

    Where a block computes a tile of the result: its ``rows x columns``, and how often the blocks
    fill the GPU (``waves``).
    """

    kernel: str
    grid: tuple[int, int, int]
    threads: int
    precision: str
    flops: int
    bytes: int
    tile: tuple[int, int] | None = None
    waves: float | None = None


@dataclass(frozen=True)
class Priced:
    """A backend call and the least that it takes.

    Attributes:
        label: layer and direction.
        method: of the backend.
        buffers: name -> shape and dtype.
        flops: of its product.
        bytes: each buffer once.
        floor: seconds.
        bound: what takes them: "FLOPs" or "bytes".
        kernels: on devices.
        stream: 0, or 1 beside it.
        waits: the call of the other stream that it waits for, if it waits for one.
    """

    label: str
    method: str
    buffers: dict[str, str]
    flops: int
    bytes: int
    floor: float
    bound: str
    kernels: tuple[Launched, ...] = ()
    stream: int = 0
    waits: int | None = None


@dataclass(frozen=True)
class Placed:
    """A buffer of the arena: where it lies, and the first and last call (from 0) that use it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    bytes: int
    first: int
    last: int


def price(plan: Plan, limits: Limits, sketch: SketchBackend | None = None) -> list[Priced]:
    """What each call costs; with the kernels that it launches if it was recorded on ``sketch``."""
    priced, order = [], plan.recording.order
    for number, (call, bound) in enumerate(zip(plan.recording.calls, plan.calls, strict=True)):
        given = _operands(call)
        kernels = () if sketch is None else _launched(sketch, bound)
        precision = kernels[0].precision if kernels else "fp32"
        flops, moved = costs.product(call.method, given)[0], costs.traffic(given)
        floor = limits.floor(flops, moved, precision)
        priced.append(
            Priced(
                call.label,
                call.method,
                {name: describe(value) for name, value in given.items() if _holds_buffers(value)},
                flops,
                moved,
                floor,
                "FLOPs" if floor > limits.floor(0, moved, precision) else "bytes",
                kernels,
                order.streams[number],
                order.waits[number],
            )
        )
    return priced


def _launched(sketch: SketchBackend, call: Call) -> tuple[Launched, ...]:
    sketch.take_launches()
    getattr(sketch, call.method)(*call.args, **call.kwargs)
    return tuple(_describe(sketch, one) for one in sketch.take_launches())


def _describe(sketch: SketchBackend, launch: Launch) -> Launched:
    kernel, tile = launch.kernel, launch.kernel.tile
    return Launched(
        kernel.name,
        launch.grid,
        kernel.threads,
        kernel.precision,
        launch.problem.flops,
        launch.problem.bytes,
        (tile.rows, tile.columns) if tile else None,
        sketch.waves(launch),
    )


def arena(recording: Recording) -> list[Placed]:
    """The buffers of the arena by the call that uses them first, which names them."""
    return [
        Placed(
            _name(recording, one),
            one.shape,
            str(one.dtype),
            one.offset,
            one.nbytes,
            one.first,
            one.last,
        )
        for one in sorted(recording.allocations, key=lambda one: (one.first, one.offset))
    ]


def _name(recording: Recording, allocation: Any) -> str:
    """``conv1_1 forward: out``."""
    call = recording.calls[allocation.first]
    for name, operand in _operands(call).items():
        for buffer in operand if isinstance(operand, list) else [operand]:
            if buffer is allocation or getattr(buffer, "owner", None) is allocation:
                return f"{call.label}: {name}"
    return "result"


def slice_bytes(recording: Recording) -> int:
    """Of gradients in slices, written by products and read by updates; no others count them."""
    total = 0
    for call in recording.calls:
        given = _operands(call)
        for name, value in given.items():
            if costs.in_slices(name, given):
                total += math.prod(value.shape) * value.dtype.itemsize
    return total


# -- bytes of the whole step ----------------------------------------------------------------------


def step_bytes(recording: Recording, narrow: frozenset[str] = frozenset()) -> int:
    """Of all calls, each buffer once a call; those in ``narrow`` as if they were bf16."""
    return sum(costs.traffic(_operands(call), narrow) for call in recording.calls)


def fused_bytes(recording: Recording, narrow: frozenset[str] = frozenset()) -> float:
    """The least bytes of the same step if everything that can be was fused with a product.

    ``recording`` is of a step whose epilogues' gradients are apart: those say which are sparse.
    What is left are the products themselves, batch normalisation, input and loss, and the state of
    the optimizer. Gradients of parameters stay on the chip: an update follows its product. A pooled
    layer stores its pooled map alone, with two bits an entry for the places of the largest. With
    ``narrow``, an update writes a parameter once more for each of the two products that read it,
    unless it is one of bf16 already, with the copy that it has.
    """
    pooled: dict[int, float] = {}  # gradient before a pool -> bytes of what it comes from
    total = 0.0
    for call in recording.calls:
        given = _operands(call)
        if call.method == "epilogue_gradient" and given["argmax"] is not None:
            here = {"grad": given["grad"]}
            pooled[id(given["grad_before"])] = costs.traffic(here, narrow) + _places(given)
        elif call.method.startswith(("conv2d", "linear")):
            total += _places(given) + pooled.get(id(given.get("grad")), 0.0)
            apart = {"argmax", "grad_weight", "grad_bias"}
            apart |= {"grad"} if id(given.get("grad")) in pooled else set()
            total += costs.traffic(_without(given, apart), narrow)
        elif call.method in UPDATES:
            total += costs.traffic(_without(given, {"gradient"}))
            if narrow and given["copy"] is None:
                total += 2 * 2 * math.prod(given["parameter"].shape)
        elif call.method.startswith(("batch_norm", "augment", "softmax")):
            total += costs.traffic(given, narrow)
    return total


def _places(given: dict[str, Any]) -> float:
    argmax = given.get("argmax")
    return 0.0 if argmax is None else math.prod(argmax.shape) / 4


def _without(given: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


def launches(priced: Iterable[Priced]) -> list[Launched]:
    """All kernels of a step, in order."""
    return [kernel for call in priced for kernel in call.kernels]


MISSING = {
    "update with a weight gradient that is not in slices": (UPDATES, "gradient"),
    "epilogue's gradient with the gradient it comes from": (("epilogue_gradient",), "grad"),
}
"""Fusions that there are not: whose input would never be in memory."""


def missing_fusions(recording: Recording) -> dict[str, int]:
    """What ``MISSING`` would save, in bytes of the step: a buffer written, and read again."""
    saved = dict.fromkeys(MISSING, 0)
    for call in recording.calls:
        for fusion, (methods, name) in MISSING.items():
            if call.method in methods:
                given = _operands(call)
                if not costs.in_slices(name, given):
                    saved[fusion] += 2 * costs.traffic({name: given[name]})
    return saved


def _operands(call: Call) -> dict[str, Any]:
    return operands(call.method, call.args, call.kwargs)


def _holds_buffers(value: Any) -> bool:
    return hasattr(value, "shape") or (isinstance(value, list) and bool(value))


def describe(value: Any) -> str:
    """``1024x48x48x64 float32``."""
    if isinstance(value, list):
        return f"{len(value)} buffers"
    return f"{'x'.join(map(str, value.shape))} {value.dtype}"
