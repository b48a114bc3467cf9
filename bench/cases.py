"""What there is to measure: every call of a training step, with its shapes, as it was recorded.

Nothing here names a layer or a kernel. A step of the network is recorded on a backend that knows
shapes alone, and each of its calls is a case; the kernels that a case launches are found in the
registry, with all their versions and precisions.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.recipe import Recipe
from fercore import models
from fercore.autograd import backward
from fercore.backends.device import BF16, DeviceBackend
from fercore.backends.interface import Augmentation, Backend
from fercore.backends.reference import ReferenceBackend
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.nn import Context
from fercore.optim import Optimizer
from fercore.step import Call, record

CLASSES, SIZE = 7, 48


@dataclass(frozen=True)
class Operand:
    """A buffer of a case; one of uint16 holds bf16."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Case:
    """One call of a backend's method in a training step, its arguments by name.

    ``operands`` are ``Operand``, a list of them, or ``None``; ``options`` are everything else.
    """

    number: int
    """Which one of the step: the same at every batch size."""
    label: str
    method: str
    operands: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def narrow(self) -> frozenset[str]:
        """The operands that are bf16, by name."""
        operands = self.operands.items()
        return frozenset(n for n, o in operands if isinstance(o, Operand) and o.dtype == BF16)

    @property
    def layer(self) -> str:
        return self.label.partition(" ")[0]

    @property
    def product(self) -> tuple[int, int]:
        """Floating-point operations of its product, and terms a sum; (0, 1) if it has none."""
        weight = self.operands.get("weight") or self.operands.get("grad_weight")
        if weight is None or not self.method.startswith(("conv2d", "linear")):
            return 0, 1
        image = self.operands.get("x") or self.operands["grad_x"]
        rows = image.shape[0]
        if len(weight.shape) == 4:
            (h, w), (kh, kw) = image.shape[1:3], weight.shape[1:3]
            stride, twice = self.options["stride"], 2 * self.options["padding"]
            rows *= ((h + twice - kh) // stride + 1) * ((w + twice - kw) // stride + 1)
        by_weight = weight.size // weight.shape[0]
        terms = {"forward": by_weight, "input_gradient": weight.size // weight.shape[-1]}
        return 2 * rows * weight.size, terms.get(self.method.partition("_")[2], rows)

    @property
    def bytes(self) -> int:
        """Least traffic: all buffers once, those changed in place twice."""
        total = 0
        for name, operand in self.operands.items():
            for one in operand if isinstance(operand, list) else [operand]:
                if one is not None:
                    total += one.size * one.dtype.itemsize * (2 if name in IN_PLACE else 1)
        return total

    def __str__(self) -> str:
        shapes = (o.shape for o in self.operands.values() if isinstance(o, Operand))
        return f"{self.label} {self.method} {' '.join('x'.join(map(str, s)) for s in shapes)}"


IN_PLACE = {
    *("total", "parameter", "velocity", "first", "second"),
    *("statistics", "running_mean", "running_variance"),
}


# -- recording ------------------------------------------------------------------------------------


class _Shapes(ReferenceBackend):
    """Buffers that have a shape and take no memory."""

    def __init__(self, compute_dtype: Any) -> None:
        super().__init__("float32")
        self._compute_dtype = np.dtype(compute_dtype)

    @property
    def compute_dtype(self) -> np.dtype:
        return self._compute_dtype

    def empty(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype or self.dtype), tuple(shape))

    def from_host(self, array: np.ndarray) -> np.ndarray:
        return self.empty(array.shape, self.dtype if array.dtype.kind == "f" else array.dtype)

    def view(self, buffer: Any, offset: int, shape: Any, dtype: Any) -> np.ndarray:
        return self.empty(shape, dtype)

    def write(self, buffer: Any, array: np.ndarray) -> None: ...

    def fill(self, buffer: Any, value: float) -> None: ...


def cases(model: str, batch: int, *, narrow: bool = False) -> list[Case]:
    """Every call of a step of ``model`` at one batch size, in float32 or (``narrow``) in bf16.

    A second step, with normalisation and Adam, adds the methods that the first does not call.
    """
    dtype = BF16 if narrow else np.float32
    plain = _record(model, batch, Recipe(clip_norm=1.0), dtype)
    normalised = _record(f"{model.partition('-')[0]}-bn", batch, Recipe(optimizer="adam"), dtype)
    called = {call.method for call in plain}
    every = [*plain, *(call for call in normalised if call.method not in called)]
    return [_case(number, call) for number, call in enumerate(every)]


def distinct(every: Sequence[Case]) -> list[Case]:
    """One of those that do the same, products first, the largest first."""
    by_shapes = {str(case).partition(" ")[2] + str(case.options): case for case in reversed(every)}
    return sorted(by_shapes.values(), key=lambda case: (-case.product[0], -case.bytes))


def _record(model: str, batch: int, recipe: Recipe, compute_dtype: Any) -> Sequence[Call]:
    backend = _Shapes(compute_dtype)
    net = models.build(model, classes=CLASSES, backend=backend)
    optimizer = Optimizer(net.parameters(), recipe, backend)
    images, labels = backend.empty((batch, SIZE, SIZE), "uint8"), backend.empty((batch,), "int32")
    rng, statistics = backend.empty((4,), "uint32"), backend.empty((4,), "float64")

    def program(recorder: Backend) -> list[Any]:
        with recorder.scope("epoch start"):
            recorder.fill(statistics, 0.0)
        x, y = augment(recorder, images, labels, labels, rng, Augmentation())
        logits = net(x, Context(training=True, rng=rng, dropout=recipe.dropout))
        gradients = backward(SoftmaxCrossEntropy(statistics)(logits, y))
        optimizer.update(recorder, gradients)
        parameter, gradient = list(gradients.items())[-1]
        with recorder.scope("reuse backward"):  # a step with a parameter that is used twice
            recorder.fill(parameter.data, 0.0)
            recorder.accumulate(parameter.data, gradient)
        return []

    return record(backend, program).calls


def _case(number: int, call: Call) -> Case:
    bound = inspect.signature(getattr(Backend, call.method)).bind(None, *call.args, **call.kwargs)
    bound.apply_defaults()
    operands, options = {}, {}
    for name, value in list(bound.arguments.items())[1:]:  # but `self`
        if value is None or isinstance(value, np.ndarray | list):
            operands[name] = _operand(value)
        else:
            options[name] = value
    return Case(number, call.label, call.method, operands, options)


def _operand(value: Any) -> Any:
    if isinstance(value, list):
        return [_operand(one) for one in value]
    return None if value is None else Operand(value.shape, value.dtype)


# -- carrying out ---------------------------------------------------------------------------------

VALUES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "argmax": lambda random, shape: random.integers(0, 4, shape),
    "images": lambda random, shape: random.integers(0, 256, shape),
    "labels": lambda random, shape: random.integers(0, CLASSES, shape),
    "indices": lambda random, shape: random.permutation(shape[0]),
    "moving": lambda random, shape: np.ones(shape),
    "rates": lambda random, shape: np.array([1e-3, 0.1, 1e-3, 1.0]),
    "rng": lambda random, shape: np.arange(4),
    "y": lambda random, shape: np.zeros(shape),
    **{
        name: lambda random, shape: random.uniform(0.5, 1.5, shape)
        for name in ("inverse_std", "running_variance", "second", "statistics", "buffer")
    },
}
"""What buffers hold whose values are not any number, by name."""

PERIOD = 1_000_003  # random numbers, repeated: a prime, so that no two images are the same


def contents(case: Case, seed: int = 0) -> dict[str, Any]:
    """Random NumPy arrays for the operands, outputs included; those of bf16 are not rounded."""
    random = np.random.default_rng(seed)

    def content(name: str, operand: Any) -> Any:
        if isinstance(operand, list):
            return [content(name, one) for one in operand]
        if operand is None:
            return None
        dtype = np.dtype(np.float32) if operand.dtype == BF16 else operand.dtype
        if name in VALUES:
            return VALUES[name](random, operand.shape).astype(dtype)
        numbers = random.standard_normal(min(PERIOD, operand.size), np.float32)
        return np.resize(numbers, operand.shape).astype(dtype, copy=False)

    return {name: content(name, operand) for name, operand in case.operands.items()}


def carry_out(case: Case, backend: DeviceBackend, buffers: Mapping[str, Any]) -> None:
    """Queue the case on ``buffers``; specs.UnsuitableError where no kernel suits."""
    getattr(backend, case.method)(**buffers, **case.options)
