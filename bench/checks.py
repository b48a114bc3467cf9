"""Is a result right? Against float64 at a small batch, against the simplest kernel at the whole.

Every buffer of a case starts from the same random numbers on both sides, outputs included, and all
are compared afterwards: an entry that was not written, and an input that was, show as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bench.cases import Case
from cuda_kernels import linear
from cuda_kernels.runtime import Runtime
from cuda_kernels.specs import Precision
from fercore.backends.reference import ReferenceBackend

GATES: dict[Precision, float] = {"fp32": 2e-6, "bf16x3": 2e-5, "tf32": 1e-3, "bf16": 6e-3}
"""Largest relative error of a product of unrounded float32 inputs."""
ROUNDED_INPUTS, ROUNDED_OUTPUT = 1e-5, 2.5e-3
"""Of bf16 inputs, where they are no further rounded, with a float32 and with a bf16 output."""

Narrow = frozenset[str]
"""The operands that are bf16, by name."""


def expected(case: Case, contents: Mapping[str, Any], narrow: Narrow) -> dict[str, Any]:
    """What every operand holds after the case, in float64, by the definition."""
    reference = ReferenceBackend()

    def exact(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [exact(name, one) for one in value]
        if name in narrow:
            value = linear.from_bf16(linear.to_bf16(value))
        return None if value is None else reference.from_host(value)

    buffers = {name: exact(name, value) for name, value in contents.items()}
    getattr(reference, case.method)(**buffers, **case.options)
    return buffers


def on_device(runtime: Runtime, contents: Mapping[str, Any], narrow: Narrow) -> dict[str, Any]:
    """Buffers with ``contents``, float32 where the definition has float64."""

    def copy(name: str, value: Any) -> Any:
        if value is None or isinstance(value, list):
            return value and [copy(name, one) for one in value]
        array = linear.to_bf16(value) if name in narrow else value
        buffer = runtime.empty(array.shape, array.dtype)
        runtime.copy_in(buffer, array)
        return buffer

    return {name: copy(name, value) for name, value in contents.items()}


def error(
    actual: Mapping[str, Any], wanted: Mapping[str, Any], narrow: Narrow
) -> tuple[float, str]:
    """The largest relative error among operands of floating dtype, and whose it is.

    Works where the arrays are, CuPy's or NumPy's; infinite where there is a NaN. Integers must be
    equal, but for the places of maxima, which rounding may move.
    """
    worst = (0.0, "")
    for name, mine, theirs in _pairs(actual, wanted):
        if mine.dtype.kind in "ui" and name not in narrow:
            distance = 0.0 if name == "argmax" or (mine == theirs).all() else float("inf")
        else:
            distance = _distance(_wide(mine), _wide(theirs))
        worst = max(worst, (distance, name))
    return worst


def gate(
    case: Case, precision: Precision, narrow: Narrow, name: str, wanted: Any | None = None
) -> float:
    """The largest error allowed to operand ``name``; of ``wanted`` rounding takes its own share."""
    if name in narrow:
        if wanted is None:
            return ROUNDED_OUTPUT
        # Of few entries, rounding alone may make more than the gate's share.
        rounded = linear.from_bf16(linear.to_bf16(wanted.astype(np.float32)))
        return max(ROUNDED_OUTPUT, 1.05 * _distance(rounded, wanted))
    if narrow:
        return ROUNDED_INPUTS
    return GATES[precision] * max(1.0, (case.product[1] / 4608) ** 0.5)


def _pairs(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, mine in actual.items():
        theirs = wanted[name]
        several = (mine, theirs) if isinstance(mine, list) else ([mine], [theirs])
        for one, other in zip(*several, strict=True):
            if one is not None:
                yield name, one, other


def _wide(array: Any) -> Any:
    """bf16 bits as float32."""
    return array if array.dtype.kind == "f" else (array.astype("uint32") << 16).view("float32")


def _distance(mine: Any, theirs: Any) -> float:
    distance = float(((mine - theirs) ** 2).sum(dtype="float64")) ** 0.5
    size = float((theirs.astype("float64") ** 2).sum()) ** 0.5
    if not np.isfinite(distance) or not np.isfinite(size):
        return float("inf")
    return distance / size if size > 0 else (float("inf") if distance else 0.0)
