"""The real networks at a few channels, and a training step around them that can run both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

from fercore import freeze, models
from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation, Backend
from fercore.config import Recipe
from fercore.freeze import Strategy
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.masks import GradientMask
from fercore.models import Architecture, Block
from fercore.nn import Context, Model
from fercore.optim import Optimizer
from fercore.step import Plan, record
from tests.backends.harness import relative_error

ARCHITECTURES = {
    "tiny": Architecture((Block(4, 2), Block(5, 2), Block(6, 3), Block(8, 3)), hidden=(12, 10)),
    "svgg5": Architecture(
        (Block(4, 2, kernel=2, padding=0), Block(6, 3, padding=0)), hidden=(12, 10)
    ),
}


def narrow(name: str, backend: Any, **options: Any) -> Model:
    """The network of that name (``tiny``, ``svgg5``, also ``-bn``) at a few channels."""
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        return models.build(name, backend=backend, **options)


PARTIAL = Strategy(
    "channels", trainable=("fc2.*",), channels={"conv4_3.*": (0, 5), "conv2_1.weight": (1,)}
)


def freeze_elements(model: Model) -> None:
    """Masks with one entry an element, on top of which everything but fc3 is frozen."""
    random = np.random.default_rng(5)
    freeze.apply(model, Strategy("elements", trainable=("fc3.*",)))
    for name in ("conv1_2.weight", "conv4_1.weight", "fc1.weight", "fc3.bias"):
        parameter = model.parameters()[name]
        entries = random.integers(0, 2, parameter.shape)
        entries.flat[:2] = 0, 1
        parameter.mask = GradientMask.of(entries, parameter.shape)


MASKS: dict[str, Callable[[Model], None]] = {
    **{name: partial(freeze.apply, strategy=name) for name in freeze.STRATEGIES},
    "channels": partial(freeze.apply, strategy=PARTIAL),
    "elements": freeze_elements,
}


VARIED = Augmentation(flip=0.5, shift=2.0, rotation=10.0, scale=0.1, cutout=8)


class Training:
    """A network, an optimizer and images; steps run eagerly or as recorded plans."""

    IMAGES = 16

    def __init__(
        self,
        backend: Backend,
        model: Model,
        recipe: Recipe,
        augmentation: Augmentation = VARIED,
        *,
        two_streams: bool = False,
        **options: Any,
    ) -> None:
        random = np.random.default_rng(1)
        self.backend, self.model = backend, model
        self.augmentation, self.two_streams = augmentation, two_streams
        self.optimizer = Optimizer(model.parameters(), recipe, backend, **options)
        self.images = backend.from_host(
            random.integers(0, 256, (self.IMAGES, 48, 48)).astype(np.uint8)
        )
        self.labels = backend.from_host(
            random.integers(0, model.classes, self.IMAGES).astype(np.int32)
        )
        self.multi_target = False
        self.rng = backend.from_host(np.zeros(4, np.uint32))
        self.statistics = backend.empty((4,), "float64")
        backend.fill(self.statistics, 0.0)
        self.indices: dict[int, Any] = {}
        self.plans: dict[int, Plan] = {}
        self.order = random.permutation(self.IMAGES).astype(np.int32)

    def teach_shares(self, *, multi_target: bool) -> None:
        """Shares of two classes of every image take the place of its label."""
        random = np.random.default_rng(2)
        shares = np.zeros((self.IMAGES, self.model.classes), np.float32)
        for row in shares:
            row[random.permutation(self.model.classes)[:2]] = 0.75, 0.25
        self.labels, self.multi_target = self.backend.from_host(shares), multi_target

    def program(self, backend: Any, size: int) -> list[Any]:
        """One step on ``backend``, the real one or a recorder; returns the logits."""
        x, y = augment(
            backend, self.images, self.labels, self.indices[size], self.rng, self.augmentation
        )
        logits = self.model(x, Context(training=True, rng=self.rng))
        loss = SoftmaxCrossEntropy(self.statistics, multi_target=self.multi_target)(logits, y)
        self.optimizer.minimise(backend, loss)
        return [logits.data]

    def prepare(self, size: int) -> None:
        """Write what changes from step to step."""
        step = self.optimizer.steps
        rows = np.roll(self.order, 3 * step)[:size]
        if size not in self.indices:
            self.indices[size] = self.backend.from_host(rows)
        self.backend.write(self.indices[size], rows)
        self.backend.write(self.rng, np.array([7, 1, 2, step], dtype=np.uint32))
        start_step(self.optimizer, 0.05 / (1 + step))

    def record(self, size: int) -> Plan:
        self.indices.setdefault(size, self.backend.from_host(self.order[:size]))
        self.plans[size] = record(
            self.backend,
            lambda backend: self.program(backend, size),
            two_streams=self.two_streams,
        )
        return self.plans[size]

    def step(self, size: int = 4, *, recorded: bool = False, backend: Any = None) -> np.ndarray:
        """One update from ``size`` images; the logits."""
        if recorded:
            plan = self.plans.get(size) or self.record(size)
            self.prepare(size)
            plan.replay()
            return self.backend.to_host(plan.outputs[0])
        self.prepare(size)
        (logits,) = self.program(backend or self.backend, size)
        return self.backend.to_host(logits)

    def steps(self, sizes: Sequence[int], *, recorded: bool = False) -> list[np.ndarray]:
        return [self.step(size, recorded=recorded) for size in sizes]

    def everything(self) -> dict[str, bytes]:
        """All that training changes, bit for bit."""
        tensors = {**self.model.state(), **self.optimizer.state()}
        tensors["statistics"] = self.backend.to_host(self.statistics)
        tensors["rates"] = self.backend.to_host(self.optimizer.rates)
        return {name: array.tobytes() for name, array in tensors.items()}


def start_step(optimizer: Optimizer, learning_rate: float) -> None:
    """Write the rates of one step, as an epoch's feed would."""
    optimizer.backend.write(optimizer.rates, optimizer.schedule([learning_rate])[0])


def logits_of(model: Model, backend: Any, x: np.ndarray, context: Context = Context()) -> Any:
    return backend.to_host(model(Tensor(backend, backend.from_host(x)), context).data)


GRADIENT_GATE = 1e-5
"""Of a whole net's gradients in float32, against float64."""


def assert_same_step(mine: Training, definition: Training, size: int = 4) -> None:
    """One clipped step from the same weights on a float32 backend and on the reference.

    Compares logits, loss, clipping factor, and of each tensor its velocity, which is its gradient.
    """
    backend = mine.backend
    definition.model.load_state(before := mine.model.state())
    logits, expected = mine.step(size), definition.step(size)
    assert relative_error(logits, expected) <= GRADIENT_GATE
    for buffer, wanted in (
        (mine.statistics, definition.statistics),
        (mine.optimizer.rates, definition.optimizer.rates),
    ):
        assert relative_error(backend.to_host(buffer), wanted) <= GRADIENT_GATE
    assert definition.optimizer.rates[3] < 1, "the step tries clipping"
    velocities, wanted = mine.optimizer.state(), definition.optimizer.state()
    assert velocities.keys() == wanted.keys()
    for tensor, velocity in velocities.items():
        error = relative_error(velocity, wanted[tensor])
        assert error <= GRADIENT_GATE, f"{tensor}: relative error {error:.2g}"
    after, expected_state = mine.model.state(), definition.model.state()
    for tensor, array in after.items():
        if np.array_equal(expected_state[tensor], before[tensor]):
            assert array.tobytes() == before[tensor].tobytes(), f"{tensor} is frozen, and moved"
        else:
            # What begins at 0 is nothing but the step.
            gate = 2e-6 if before[tensor].any() else GRADIENT_GATE
            assert relative_error(array, expected_state[tensor]) <= gate, tensor
            assert array.tobytes() != before[tensor].tobytes(), f"{tensor} did not move"
