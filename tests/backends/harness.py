"""Calling one backend method the way a hostile step would, and measuring what comes back.

Every buffer lies in an arena of its own whose every other byte is 0xFF: NaN in any floating dtype,
-1 in an integer. So an output that is not wholly written, an input read beyond its end and a write
outside an output all show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fercore.backends.interface import Backend

POISON = 0xFF
GUARD = 256  # bytes before and after each buffer


@dataclass(frozen=True)
class Out:
    """An output to be allocated, poisoned, and returned; the backend's dtype unless given."""

    shape: tuple[int, ...]
    dtype: Any = None

    def __init__(self, *shape: int, dtype: Any = None) -> None:
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", dtype)


@dataclass(frozen=True)
class InPlace:
    """A buffer that the method modifies, with what it holds before; returned."""

    array: np.ndarray


class _Guarded:
    """One argument in its arena, and what must be true of it after the call."""

    def __init__(self, backend: Backend, argument: np.ndarray | InPlace | Out) -> None:
        self.backend = backend
        self.returned = not isinstance(argument, np.ndarray)
        if isinstance(argument, Out):
            shape = argument.shape
            dtype = np.dtype(backend.dtype if argument.dtype is None else argument.dtype)
            content = np.full(shape, POISON, np.uint8).repeat(dtype.itemsize).view(dtype)
            content = content.reshape(shape)
        else:
            array = argument.array if isinstance(argument, InPlace) else argument
            content = in_dtype(backend, array)
        size = content.nbytes
        self.before = np.full(GUARD + size + GUARD, POISON, np.uint8)
        self.before[GUARD : GUARD + size] = np.frombuffer(content.tobytes(), np.uint8)
        self.arena = backend.from_host(self.before)
        self.buffer = backend.view(self.arena, GUARD, content.shape, content.dtype)
        self.inside = slice(GUARD, GUARD + size)

    def check(self) -> None:
        after = self.backend.to_host(self.arena)
        changed = after != self.before
        if self.returned:
            changed[self.inside] = False
            assert not changed.any(), "wrote outside an output"
        else:
            assert not changed.any(), "modified an input, or wrote outside it"


def in_dtype(backend: Backend, array: np.ndarray) -> np.ndarray:
    """``array`` as the backend holds it: float32 is its dtype in tests; float64 stays float64."""
    return array.astype(backend.dtype) if array.dtype == np.float32 else array


def call(backend: Backend, method: str, *arguments: Any, **options: Any) -> Any:
    """Run ``method`` and return its outputs as NumPy arrays, in order; one output stands alone.

    Arrays are inputs: float32 stands for the backend's dtype, all others are passed as they are.
    ``Out`` and ``InPlace`` are outputs. A list is passed as a list of inputs.
    """
    guarded: list[_Guarded] = []

    def prepare(argument: Any) -> Any:
        if isinstance(argument, list):
            return [prepare(item) for item in argument]
        if isinstance(argument, np.ndarray | InPlace | Out):
            guarded.append(_Guarded(backend, argument))
            return guarded[-1].buffer
        return argument

    positional = [prepare(argument) for argument in arguments]
    assert getattr(backend, method)(*positional, **options) is None, "methods return nothing"
    outputs = [backend.to_host(one.buffer) for one in guarded if one.returned]
    for one in guarded:
        one.check()
    return outputs[0] if len(outputs) == 1 else outputs


# -- numbers ------------------------------------------------------------------------------------


def small_integers(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Entries in -2..2, whose products and sums are exact in float32."""
    return random.integers(-2, 3, shape).astype(np.float32)


def normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape, dtype=np.float32)


def relu(x: np.ndarray) -> np.ndarray:
    """``x`` where it is positive or NaN, else 0."""
    return np.where(x <= 0, 0, x).astype(x.dtype)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """``||actual - expected|| / ||expected||``; infinite where either holds a NaN."""
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    expected = expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = float(np.linalg.norm((actual - expected).ravel()))
    size = float(np.linalg.norm(expected.ravel()))
    if not np.isfinite(distance) or not np.isfinite(size):
        return float("inf")
    return distance / size if size > 0 else (0.0 if distance == 0 else float("inf"))


def gate(backend: Backend, terms: int = 1) -> float:
    """The largest relative error allowed to sums of ``terms`` products of unrounded inputs."""
    unit = 2e-6 if np.dtype(backend.dtype) == np.float32 else 1e-12
    return unit * max(1.0, (terms / 4608) ** 0.5)


def assert_close(
    backend: Backend, actual: np.ndarray, expected: np.ndarray, terms: int = 1
) -> None:
    error = relative_error(actual, expected)
    assert error <= gate(backend, terms), f"relative error {error:.3g} > {gate(backend, terms):.3g}"


def assert_exact(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal to ``expected`` (float64) rounded once to the dtype of ``actual``."""
    np.testing.assert_array_equal(actual, expected.astype(actual.dtype), strict=True)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
