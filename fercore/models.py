"""The networks: two readings of the paper's "simplified VGG", and a small one.

The paper gives 48x48 gray images, 19.2 M parameters and dropout 0.5 after the first two fully
connected layers, but no layer table. ``svgg10`` and ``svgg5`` both fit that; ``tiny`` is ``svgg10``
at a quarter of its width. Each exists with batch normalisation too (``svgg10-bn``).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from fercore import backends
from fercore.backends.interface import Backend, Epilogue
from fercore.data.dataset import BASIC
from fercore.errors import FercoreError, did_you_mean
from fercore.nn import (
    BatchNorm,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Model,
    Parameter,
)

INPUT_SHAPE = (48, 48, 1)


@dataclass(frozen=True)
class Block:
    """Convolutions of one width; a 2x2 max-pool follows the last one."""

    channels: int
    convolutions: int
    kernel: int = 3
    padding: int = 1


@dataclass(frozen=True)
class Architecture:
    """Blocks of convolutions, then hidden fully connected layers, then the classes."""

    blocks: tuple[Block, ...]
    hidden: tuple[int, ...]


ARCHITECTURES = {
    "svgg10": Architecture(
        (Block(64, 2), Block(128, 2), Block(256, 3), Block(512, 3)), hidden=(2048, 1024)
    ),
    "svgg5": Architecture(
        (Block(64, 2, kernel=2, padding=0), Block(128, 3, padding=0)), hidden=(2048, 1024)
    ),
    "tiny": Architecture(
        (Block(16, 2), Block(32, 2), Block(64, 3), Block(128, 3)), hidden=(512, 256)
    ),
}
NAMES = tuple(name + suffix for name in ARCHITECTURES for suffix in ("", "-bn"))


def build(
    name: str,
    classes: int = BASIC,
    seed: int | None = 0,
    *,
    backend: Backend | None = None,
) -> Model:
    """A freshly initialised network.

    Weights are drawn from N(0, 2 / fan_in) (He et al., 2015), the classifier's from N(0, 1 /
    fan_in); biases are 0. Each parameter has its own random stream, keyed by ``seed`` and its name,
    so that two networks that share a layer start with the same one.

    Args:
        name: one of ``NAMES``.
        classes: outputs of the classifier.
        seed: 0 to 2**32 - 1; None leaves all weights 0, for whoever reads them from elsewhere.
        backend: where it lives; the CPU's by default.

    Raises:
        FercoreError: there is no such network.
    """
    if name not in NAMES:
        raise FercoreError(f"there is no model {name!r}; {did_you_mean(name, NAMES)}")
    backend = backend or backends.get("cpu")
    base, _, normalised = name.partition("-")
    architecture = ARCHITECTURES[base]
    factory = _Factory(backend, seed)
    layers: list[Layer] = []
    height, width, channels = INPUT_SHAPE
    for number, block in enumerate(architecture.blocks, start=1):
        for index in range(1, block.convolutions + 1):
            last = index == block.convolutions
            layers += factory.convolution(
                f"conv{number}_{index}", channels, block, last, bool(normalised)
            )
            channels = block.channels
            height = height + 2 * block.padding - block.kernel + 1
            width = width + 2 * block.padding - block.kernel + 1
        height, width = height // 2, width // 2
    layers.append(Flatten("flatten"))
    features = height * width * channels
    for number, hidden in enumerate(architecture.hidden, start=1):
        layers.append(factory.hidden(number, features, hidden))
        features = hidden
    layers.append(factory.logits(f"fc{len(architecture.hidden) + 1}", features, classes))
    return Model(name, layers, INPUT_SHAPE, classes)


class _Factory:
    """Makes initialised layers on one backend."""

    def __init__(self, backend: Backend, seed: int | None) -> None:
        self.backend = backend
        self.seed = seed

    def convolution(
        self, name: str, channels: int, block: Block, last: bool, normalised: bool
    ) -> list[Layer]:
        shape = (block.channels, block.kernel, block.kernel, channels)
        weight = self._normal(f"{name}.weight", shape, gain=2.0)
        if not normalised:
            epilogue: Epilogue = "relu_pool" if last else "relu"
            bias = self._zeros(block.channels)
            return [Conv2d(name, weight, bias, padding=block.padding, epilogue=epilogue)]
        layers: list[Layer] = [
            Conv2d(name, weight, None, padding=block.padding, epilogue="none"),
            BatchNorm(f"{name}.norm", block.channels, self.backend),
        ]
        if last:
            layers.append(MaxPool(name.replace("conv", "pool")))
        return layers

    def hidden(self, number: int, inputs: int, outputs: int) -> Linear:
        name = f"fc{number}"
        weight = self._normal(f"{name}.weight", (outputs, inputs), gain=2.0)
        return Linear(name, weight, self._zeros(outputs), epilogue="relu", dropout=number)

    def logits(self, name: str, inputs: int, outputs: int) -> Linear:
        weight = self._normal(f"{name}.weight", (outputs, inputs), gain=1.0)
        return Linear(name, weight, self._zeros(outputs), logits=True)

    def _normal(self, name: str, shape: tuple[int, ...], gain: float) -> Parameter:
        if self.seed is None:
            return Parameter(self.backend, np.zeros(shape))
        key = np.array([self.seed, zlib.crc32(name.encode())], dtype=np.uint64)
        stream = np.random.Generator(np.random.Philox(key=key))
        fan_in = math.prod(shape[1:])
        return Parameter(self.backend, stream.standard_normal(shape) * math.sqrt(gain / fan_in))

    def _zeros(self, size: int) -> Parameter:
        return Parameter(self.backend, np.zeros(size))
