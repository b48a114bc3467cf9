"""What there is to measure: every call of a training step, with its shapes, as it was recorded.

Nothing here names a layer or a kernel. A step of the network is recorded on a backend that knows
shapes alone, and each of its calls is a case; the kernels that a case launches are found in the
registry, with all their versions and precisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.recipe import Recipe
from cuda_kernels.noting import Sketch
from cuda_kernels.specs import Precision
from fercore import costs, freeze, models
from fercore.autograd import backward
from fercore.backends.accesses import operands
from fercore.backends.device import BF16, DeviceBackend
from fercore.backends.interface import Augmentation, Backend
from fercore.backends.sketch import SketchBackend
from fercore.freeze import Strategy
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.fusions import separate
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
        return costs.product(self.method, {**self.operands, **self.options})

    @property
    def bytes(self) -> int:
        """Least traffic: all buffers once, those changed in place twice."""
        return costs.traffic(self.operands)

    def __str__(self) -> str:
        shapes = (o.shape for o in self.operands.values() if isinstance(o, Operand))
        return f"{self.label} {self.method} {' '.join('x'.join(map(str, s)) for s in shapes)}"


# -- recording ------------------------------------------------------------------------------------


def cases(model: str, batch: int, *, narrow: bool = False) -> list[Case]:
    """Every call of a step of ``model`` at one batch size, in float32 or (``narrow``) in bf16.

    A second step, with normalisation and Adam, adds the methods that the first does not call, one
    whose dropout and epilogues' gradients are calls of their own those, of pooled layers, and one
    whose weights are frozen the gradients of biases alone.
    """
    precision: Precision = "bf16" if narrow else "fp32"
    adam = Recipe(optimizer="adam")
    plain = _record(model, batch, Recipe(clip_norm=1.0), precision)
    normalised = _record(f"{model.partition('-')[0]}-bn", batch, adam, precision)
    apart = _record(model, batch, Recipe(), precision, without=("dropout", "epilogue_gradient"))
    of_biases = _record(model, batch, Recipe(), precision, trainable="*.bias")
    called = {call.method for call in plain}
    every = [*plain, *(call for call in normalised if call.method not in called)]
    every += [
        call
        for call in apart
        if call.method == "dropout"
        or (call.method == "epilogue_gradient" and call.kwargs["epilogue"] == "relu_pool")
    ]
    every += [call for call in of_biases if call.method.endswith("weight_gradient")]
    return [_case(number, call) for number, call in enumerate(every)]


def distinct(every: Sequence[Case]) -> list[Case]:
    """One of those that do the same, products first, the largest first."""
    by_shapes = {str(case).partition(" ")[2] + str(case.options): case for case in reversed(every)}
    return sorted(by_shapes.values(), key=lambda case: (-case.product[0], -case.bytes))


def _record(
    model: str,
    batch: int,
    recipe: Recipe,
    precision: Precision,
    without: Sequence[str] = (),
    trainable: str = "all",
) -> Sequence[Call]:
    backend = SketchBackend(precision)
    net = separate(models.build(model, classes=CLASSES, seed=None, backend=backend), without)
    freeze.apply(net, Strategy("step", trainable=(trainable,)))
    optimizer = Optimizer(net.parameters(), recipe, backend)
    images, labels = backend.empty((batch, SIZE, SIZE), "uint8"), backend.empty((batch,), "int32")
    rng, statistics = backend.empty((4,), "uint32"), backend.empty((4,), "float64")

    def program(recorder: Backend) -> list[Any]:
        with recorder.scope("epoch start"):
            recorder.fill(statistics, 0.0)
        x, y = augment(recorder, images, labels, labels, rng, Augmentation())
        logits = net(x, Context(training=True, rng=rng, dropout=recipe.dropout))
        gradients = backward(SoftmaxCrossEntropy(statistics)(logits, y))
        optimizer.update(recorder, gradients.items())
        parameter, gradient = list(gradients.items())[-1]
        with recorder.scope("reuse backward"):  # a step with a parameter that is used twice
            recorder.fill(parameter.data, 0.0)
            recorder.accumulate(parameter.data, gradient)
        return []

    return record(backend, program).calls


def _case(number: int, call: Call) -> Case:
    given = operands(call.method, call.args, call.kwargs)
    buffers = {n for n, value in given.items() if value is None or _is_buffer(value)}
    return Case(
        number,
        call.label,
        call.method,
        {name: _operand(value) for name, value in given.items() if name in buffers},
        {name: value for name, value in given.items() if name not in buffers},
    )


def _is_buffer(value: Any) -> bool:
    return isinstance(value, Sketch | list)


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
