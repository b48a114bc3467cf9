"""What is fused in a training step, each of which can be undone, to measure what it saves.

A network whose epilogues are layers of their own computes the same, and so do epilogues' gradients
that are calls of their own and an update that is given gradients summed; only the steps read and
write more memory. One stream reads and writes the same; only it leaves multiprocessors idle. (In
bf16, what dropout keeps is rounded once more where it is a layer, unless 1 / (1 - rate) is a power
of two.)
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

from fercore import functions
from fercore.autograd import Tensor
from fercore.backends.interface import Epilogue
from fercore.errors import FercoreError, did_you_mean
from fercore.nn import BatchNorm, Context, Conv2d, Dropout, Layer, Linear, MaxPool, Model

FUSIONS = {
    "relu": "ReLU, with the bias or normalisation before it",
    "relu_pool": "2x2 max-pool, with the ReLU before it",
    "dropout": "dropout, with the product and ReLU before it",
    "epilogue_gradient": "gradient of an epilogue, with the product that it comes from",
    "update": "the sum of a weight gradient's slices, with the update",
    "side_stream": "a weight gradient and its update, beside the input gradient of their layer",
}
"""What can be switched off, and what it is."""


class Relu(Layer):
    """ReLU by itself."""

    kind = "relu"

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return functions.Relu(self.name)(x)

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x


def separate(model: Model, without: Collection[str]) -> Model:
    """``model`` without some of ``FUSIONS``; it shares the parameters, and their masks.

    Those that are no epilogues leave it as it is: ``update`` is the optimizer's, and
    ``side_stream`` the step's.

    Raises FercoreError for an unknown fusion.
    """
    for name in without:
        if name not in FUSIONS:
            raise FercoreError(f"there is no fusion {name!r}; {did_you_mean(name, FUSIONS)}")
    layers = [part for layer in model.layers for part in _parts(layer, without)]
    return Model(model.name, layers, model.input_shape, model.classes)


def _parts(layer: Layer, without: Collection[str]) -> Iterator[Layer]:
    if not isinstance(layer, Conv2d | BatchNorm | Linear):
        yield layer
        return
    epilogue: Epilogue = layer.epilogue
    pooled = epilogue == "relu_pool" and "relu_pool" in without
    if pooled:
        epilogue = "relu"
    alone = epilogue == "relu" and "relu" in without
    first = copy.copy(layer)
    first.epilogue = "none" if alone else epilogue
    first.fuse_gradient = "epilogue_gradient" not in without
    number = None
    if isinstance(first, Linear) and (alone or "dropout" in without):
        number, first.dropout = first.dropout, None
    yield first
    if alone:
        yield Relu(f"{layer.name}.relu")
    if number is not None:
        yield Dropout(f"dropout{number}", number=number)
    if pooled:
        yield MaxPool(f"{layer.name}.pool")
