"""Testing a network: its answers on a set of images, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation, Backend, Buffer
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.nn import Model
from fercore.step import record

BATCH = 128
KEPT_BYTES = 2**28
"""The most memory that an Evaluator spends on the features of frozen layers."""


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
    an image has the same features at each call: they are computed at the first one and kept, if
    they take no more than ``KEPT_BYTES``. So masks, and weights that they hold still, must not
    change between calls.
    """

    def __init__(
        self, model: Model, images: np.ndarray, labels: np.ndarray, backend: Backend
    ) -> None:
        self.backend = backend
        self.count = len(images)
        size = max(min(BATCH, self.count), 1)
        self.indices = backend.from_host(np.zeros(size, dtype=np.int32))
        self.statistics = backend.empty((4,), "float64")
        stored_images = backend.from_host(images)
        stored_labels = backend.from_host(labels.astype(np.int32))
        rng = backend.from_host(np.zeros(4, dtype=np.uint32))
        frozen = model.frozen_layers()

        def below(recorder: Backend) -> Sequence[Buffer]:
            x, y = augment(
                recorder, stored_images, stored_labels, self.indices, rng, Augmentation()
            )
            return model(x, layers=slice(frozen)).data, y.data

        self.below = record(backend, below)

        def above(recorder: Backend) -> Sequence[Buffer]:
            features, y = (Tensor(recorder, output) for output in self.below.outputs)
            logits = model(features, layers=slice(frozen, None))
            SoftmaxCrossEntropy(self.statistics)(logits, y)
            return [logits.data]

        self.above = record(backend, above)
        features = self.below.outputs[0]
        image_bytes = math.prod(features.shape[1:]) * features.dtype.itemsize
        self.keeps = frozen > 0 and self.count * image_bytes <= KEPT_BYTES
        self.kept: list[list[np.ndarray]] = []  # of each batch: features and labels

    def __call__(self) -> Evaluation:
        self.backend.fill(self.statistics, 0.0)
        (output,) = self.above.outputs
        logits = np.empty((self.count, output.shape[1]), output.dtype)
        for number, rows in enumerate(batches(np.arange(self.count), len(self.indices))):
            self._prepare(number, rows)
            self.above.replay()
            logits[rows] = self.backend.to_host(output)[: len(rows)]
        loss, weight, correct, _ = self.backend.to_host(self.statistics)
        with np.errstate(invalid="ignore"):
            return Evaluation(logits, float(correct / self.count), float(loss / weight))

    def _prepare(self, number: int, rows: np.ndarray) -> None:
        """Bring a batch's features and labels to where ``above`` finds them."""
        if number < len(self.kept):
            for buffer, array in zip(self.below.outputs, self.kept[number], strict=True):
                self.backend.write(buffer, array)
            return
        # A short last batch is filled up with -1: rows that count for nothing.
        padded = np.full(len(self.indices), -1, dtype=np.int32)
        padded[: len(rows)] = rows
        self.backend.write(self.indices, padded)
        self.below.replay()
        if self.keeps:
            self.kept.append([self.backend.to_host(buffer) for buffer in self.below.outputs])


def predict_logits(model: Model, images: np.ndarray, *, backend: Backend) -> np.ndarray:
    """Logits (``[N, classes]``, the backend's dtype) of uint8 images ``[N, 48, 48]``."""
    return Evaluator(model, images, np.zeros(len(images)), backend)().logits


def batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """``order`` in pieces of ``size``, the last of which may be smaller."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
