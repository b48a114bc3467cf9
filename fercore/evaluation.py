"""Testing a network: its answers on a set of images, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fercore.autograd import Tensor
from fercore.backends.interface import Backend, Buffer
from fercore.features import FeatureStore, FrozenLayers, Shelf, batches, padded
from fercore.functions import SoftmaxCrossEntropy
from fercore.nn import Model
from fercore.step import record


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
        self.backend = backend
        self.labels = labels.astype(np.int32)
        self.below = FrozenLayers(model, images, backend, shelf or FeatureStore().shelf())
        self.size = len(self.below.indices)
        self.batch_labels = backend.from_host(np.zeros(self.size, dtype=np.int32))
        self.statistics = backend.empty((4,), "float64")

        def above(recorder: Backend) -> Sequence[Buffer]:
            features, y = (Tensor(recorder, b) for b in (self.below.output, self.batch_labels))
            logits = model(features, layers=slice(self.below.depth, None))
            SoftmaxCrossEntropy(self.statistics)(logits, y)
            return [logits.data]

        self.above = record(backend, above)

    def __call__(self) -> Evaluation:
        self.backend.fill(self.statistics, 0.0)
        (output,) = self.above.outputs
        count = len(self.labels)
        logits = np.empty((count, output.shape[1]), output.dtype)
        kept = self.below.kept()
        for rows in batches(np.arange(count), self.size):
            if kept is None:
                self.below.compute(rows)
            else:
                self.backend.write(self.below.output, padded(kept[rows], self.size, 0))
            self.backend.write(self.batch_labels, padded(self.labels[rows], self.size, -1))
            self.above.replay()
            logits[rows] = self.backend.to_host(output)[: len(rows)]
        loss, weight, correct, _ = self.backend.to_host(self.statistics)
        with np.errstate(invalid="ignore"):
            return Evaluation(logits, float(correct / count), float(loss / weight))


def predict_logits(
    model: Model, images: np.ndarray, *, backend: Backend, shelf: Shelf | None = None
) -> np.ndarray:
    """Logits (``[N, classes]``, the backend's dtype) of uint8 images ``[N, 48, 48]``."""
    return Evaluator(model, images, np.zeros(len(images)), backend, shelf)().logits
