"""Operands and results in each precision: how they are stored, and how exact they have to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cuda_kernels import linear
from cuda_kernels.runtime import Runtime
from cuda_kernels.specs import Precision
from tests.backends.harness import relative_error, small_integers
from tests.cuda_kernels.harness import poisoned, to_device

RAW_GATES = {"tf32": 1e-3, "bf16x3": 2e-5}
"""Relative errors of products of float32 numbers that were not rounded before."""

PRECISIONS = ("fp32", "bf16")
"""Those in which buffers differ."""


def rounded(array: np.ndarray, precision: Precision) -> np.ndarray:
    """``array`` as a buffer holds it, in float32."""
    return linear.from_bf16(linear.to_bf16(array)) if precision == "bf16" else array


def stored(runtime: Runtime, array: np.ndarray | None, precision: Precision) -> Any:
    """A buffer of ``array``, float32 or bf16."""
    narrow = array is not None and precision == "bf16"
    return to_device(runtime, linear.to_bf16(array) if narrow else array)


def to_store(runtime: Runtime, *shape: int, precision: Precision) -> Any:
    """A poisoned buffer, float32 or bf16."""
    return poisoned(runtime, *shape, dtype=np.uint16 if precision == "bf16" else np.float32)


def numbers_in(runtime: Runtime, buffer: Any) -> np.ndarray:
    """What a buffer holds, in float32 if its entries are bf16."""
    host = runtime.copy_out(buffer)
    return linear.from_bf16(host) if host.dtype == np.uint16 else host


def gate_of(expected: np.ndarray, precision: Precision, fp32: float) -> float:
    """The largest relative error of a result, given that of float32."""
    if precision == "fp32":
        return fp32
    share = relative_error(rounded(expected.astype(np.float32), "bf16"), expected)
    return max(2.5e-3, 1.05 * share)  # of few entries, rounding alone may make more


class Numbers:
    """Draws operands and checks results, on one runtime, in one precision and version."""

    def __init__(
        self,
        runtime: Runtime,
        precision: Precision,
        version: int,
        draw: Callable[..., np.ndarray],
        random: np.random.Generator | None = None,
    ) -> None:
        if version == 2 and runtime.arch < 80:
            pytest.skip("tensor cores need sm_80")
        self.runtime, self.precision, self.draw = runtime, precision, draw
        self.random = random or np.random.default_rng(0)
        operations = ("forward", "forward_pool", "input_gradient", "weight_gradient")
        for layer in ("linear", "conv2d"):
            runtime.pins |= {f"{layer}_{operation}": version for operation in operations}
        self.version = version

    @property
    def narrow(self) -> bool:
        return self.precision == "bf16"

    def operand(self, array: np.ndarray) -> tuple[Any, np.ndarray]:
        """A buffer, and its content in float64."""
        if not self.narrow:
            return to_device(self.runtime, array), array.astype(np.float64)
        bits = linear.to_bf16(array)
        return to_device(self.runtime, bits), linear.from_bf16(bits).astype(np.float64)

    def drawn(self, *shape: int) -> tuple[Any, np.ndarray]:
        return self.operand(self.draw(self.random, *shape))

    def output(self, *shape: int) -> Any:
        return poisoned(self.runtime, *shape, dtype=np.uint16 if self.narrow else np.float32)

    def check(self, buffer: Any, expected: np.ndarray, terms: int) -> None:
        """A result against float64: bit for bit, or at the gate of sums of ``terms`` products."""
        actual = self.runtime.copy_out(buffer)
        exact = expected.astype(np.float32)
        narrow = actual.dtype == np.uint16
        if narrow:
            actual, exact = linear.from_bf16(actual), rounded(exact, "bf16")
        if self.draw is small_integers:
            return np.testing.assert_array_equal(actual, exact, strict=True)
        if narrow:
            gate = gate_of(expected, "bf16", 0.0)
        elif self.narrow:
            gate = 1e-5
        elif self.version == 2:
            gate = RAW_GATES[self.precision]
        else:
            gate = 2e-6 * max(1, (terms / 4608) ** 0.5)
        error = relative_error(actual, expected)
        assert error <= gate, f"relative error {error:.3g} > {gate:.3g}"
        return None

    def check_sums(self, buffer: Any, expected: np.ndarray, terms: int) -> None:
        """Sums of ``terms`` numbers, which are not multiplied: those of float32, whatever the
        precision of products."""
        if self.draw is small_integers:
            return self.check(buffer, expected, terms)
        error = relative_error(self.runtime.copy_out(buffer), expected)
        gate = 2e-6 * max(1, (terms / 4608) ** 0.5)
        assert error <= gate, f"relative error {error:.3g} > {gate:.3g}"
        return None
