"""Testing a network: its answers on a set of images, and how good they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fercore.autograd import Tensor
from fercore.backends.interface import Backend, Buffer
from fercore.features import FeatureStore, FrozenLayers, Shelf
from fercore.feed import Feed
from fercore.functions import SoftmaxCrossEntropy, augment, gather
from fercore.nn import Model
from fercore.step import Plan, record


@dataclass(frozen=True)
class Evaluation:
    """How a network does on a set; accuracy and loss of no images are NaN."""

    logits: np.ndarray  # [N, classes], in the backend's dtype
    accuracy: float  # 0..1
    loss: float  # mean cross-entropy, in nats

    @property
    def n(self) -> int:
        return len(self.logits)


class Evaluator:
    """Tests a network on one set, as often as it is called, while training moves what it may.

    The set is uint8 ``images [N, 48, 48]`` and integer ``labels [N]``. Below every trainable layer
    an image has the same features at each call: they are taken from ``shelf``. So masks, and
    weights that they hold still, must not change between calls.
    """

    def __init__(
        self,
        model: Model,
        images: np.ndarray,
        labels: np.ndarray,
        backend: Backend,
        shelf: Shelf | None = None,
    ) -> None:
        self.model, self.backend = model, backend
        self.count = len(images)
        self.below = FrozenLayers(model, images, backend, shelf or FeatureStore().shelf())
        self.feed = Feed(backend, self.count)
        self.labels = backend.from_host(labels.astype(np.int32))
        self.logits = backend.empty((self.count, model.classes))
        self.statistics = backend.empty((4,), "float64")
        self.plans: dict[bool, Plan] = {}  # by whether they begin with features

    def __call__(self) -> Evaluation:
        features = self.below.held()
        plan = self.from_images() if features is None else self.from_features(features)
        self.backend.fill(self.statistics, 0.0)
        self.feed.start(np.arange(self.count))
        for _ in range(0, self.count, self.below.size):
            self.feed.run(plan)
        logits = self.backend.to_host(self.logits)
        loss, weight, correct, _ = self.backend.to_host(self.statistics)
        with np.errstate(invalid="ignore"):
            return Evaluation(logits, float(correct / self.count), float(loss / weight))

    def from_images(self) -> Plan:
        """The test of the next batch of images, the whole network being computed."""

        def program(recorder: Backend) -> list[Buffer]:
            indices = self.feed.next(recorder, self.below.size)
            inputs = self.below.stored_images, self.labels, indices, self.below.rng
            x, y = augment(recorder, *inputs, self.below.augmentation)
            return self._test(recorder, indices, x, y, slice(None))

        return self._recorded(False, program)

    def from_features(self, features: Buffer) -> Plan:
        """The test of the next batch of images by their ``features [N, ...]``."""

        def program(recorder: Backend) -> list[Buffer]:
            indices = self.feed.next(recorder, self.below.size)
            x, y = gather(recorder, features, self.labels, indices)
            return self._test(recorder, indices, x, y, slice(self.below.depth, None))

        return self._recorded(True, program)

    def _recorded(self, above: bool, program: Callable[[Backend], list[Buffer]]) -> Plan:
        """Recorded at first use; they run one at a time, and never beside the frozen layers."""
        if above not in self.plans:
            plans = [*self.plans.values(), *([self.below.plan] if self.below.depth else [])]
            arenas = [plan.arena for plan in plans]
            self.plans[above] = record(self.backend, program, arenas=arenas)
        return self.plans[above]

    def _test(
        self, recorder: Backend, indices: Buffer, x: Tensor, y: Tensor, layers: slice
    ) -> list[Buffer]:
        logits = self.model(x, layers=layers)
        SoftmaxCrossEntropy(self.statistics)(logits, y)
        with recorder.scope("keep logits"):
            recorder.scatter(logits.data, indices, self.logits)
        return []


def predict_logits(
    model: Model, images: np.ndarray, *, backend: Backend, shelf: Shelf | None = None
) -> np.ndarray:
    """Logits (``[N, classes]``, the backend's dtype) of uint8 images ``[N, 48, 48]``."""
    return Evaluator(model, images, np.zeros(len(images)), backend, shelf)().logits
