"""Layers and the networks made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fercore import functions
from fercore.autograd import Tensor
from fercore.backends.interface import Backend, Buffer, Epilogue
from fercore.errors import FercoreError
from fercore.functions.conv2d import conv2d_shape, pool_shape
from fercore.masks import TRAINABLE, GradientMask


class Parameter(Tensor):
    """A leaf that training may move, as far as its ``mask`` allows.

    ``data`` is what moves. Where a backend computes in another dtype, a weight (everything with
    more than one axis) has a ``copy`` in that, which products read.
    """

    def __init__(self, backend: Backend, array: np.ndarray) -> None:
        super().__init__(backend, backend.from_host(array))
        self._mask = TRAINABLE
        self.mask_buffer: Buffer | None = None
        self.copy: Buffer | None = None
        if backend.compute_dtype != backend.dtype and array.ndim > 1:
            self.copy = backend.empty(array.shape, backend.compute_dtype)
            backend.write(self.copy, array)

    @property
    def operand(self) -> Buffer:
        return self.data if self.copy is None else self.copy

    def overwrite(self, array: np.ndarray) -> None:
        super().overwrite(array)
        if self.copy is not None:
            self.backend.write(self.copy, array)

    @property
    def mask(self) -> GradientMask:
        return self._mask

    @mask.setter
    def mask(self, mask: GradientMask) -> None:
        self._mask = mask
        entries = mask.entries
        self.mask_buffer = None if entries is None else self.backend.from_host(entries)

    @property
    def wanted(self) -> bool:
        return self._mask.kind != "frozen"

    def num_trainable(self) -> int:
        """How many entries may move."""
        size = math.prod(self.shape)
        if self._mask.entries is None:
            return size if self.wanted else 0
        return int(self._mask.entries.sum()) * size // self._mask.entries.size


@dataclass(frozen=True)
class Context:
    """What a forward pass needs beside its input; ``rng`` (uint32 ``[4]``) only in training."""

    training: bool = False
    rng: Buffer | None = None
    dropout: float = 0.5


class Layer:
    """A named step of a network. Shapes are those of one batch, ``[N, ...]``."""

    kind: ClassVar[str]
    fuse_gradient = True
    """Whether its epilogue's gradient may be computed with the product that it comes from."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parameters: dict[str, Parameter] = {}
        self.statistics: dict[str, Tensor] = {}

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        raise NotImplementedError

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that ``x`` becomes; ValueError if it does not fit."""
        raise NotImplementedError

    def flops(self, x: tuple[int, ...]) -> int:
        """Multiplications and additions of a forward pass over a batch of shape ``x``."""
        return 0


class Conv2d(Layer):
    """Convolution with bias and its epilogue; or with neither, before a BatchNorm."""

    kind = "conv"

    def __init__(
        self,
        name: str,
        weight: Parameter,
        bias: Parameter | None,
        *,
        stride: int = 1,
        padding: int = 0,
        epilogue: Epilogue = "relu",
    ) -> None:
        super().__init__(name)
        self.parameters["weight"] = weight
        if bias is not None:
            self.parameters["bias"] = bias
        self.geometry = {"stride": stride, "padding": padding}
        self.epilogue = epilogue

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        convolve = functions.Conv2d(
            **self.geometry,
            epilogue=self.epilogue,
            fuse_gradient=self.fuse_gradient,
            layer=self.name,
        )
        return convolve(x, self.parameters["weight"], self.parameters.get("bias"))

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        before = conv2d_shape(x, self.parameters["weight"].shape, **self.geometry)
        return pool_shape(before, 2, 2) if self.epilogue == "relu_pool" else before

    def flops(self, x: tuple[int, ...]) -> int:
        weight = self.parameters["weight"].shape
        n, p, q, _ = conv2d_shape(x, weight, **self.geometry)
        return 2 * n * p * q * math.prod(weight)


class BatchNorm(Layer):
    """Batch normalisation of the convolution before it, whose name it shares (``conv1_1.norm``)."""

    kind = "norm"

    def __init__(
        self, name: str, channels: int, backend: Backend, *, epilogue: Epilogue = "relu"
    ) -> None:
        super().__init__(name)
        self.epilogue = epilogue
        self.parameters["weight"] = Parameter(backend, np.ones(channels))
        self.parameters["bias"] = Parameter(backend, np.zeros(channels))
        for statistic, value in (("running_mean", np.zeros), ("running_variance", np.ones)):
            self.statistics[statistic] = Tensor(backend, backend.from_host(value(channels)))
        self._every_channel = backend.from_host(np.ones(channels, dtype=np.uint8))

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        weight = self.parameters["weight"]
        moving = None
        if context.training and weight.wanted:
            moving = self._every_channel if weight.mask_buffer is None else weight.mask_buffer
        normalise = functions.BatchNorm(
            self.statistics["running_mean"],
            self.statistics["running_variance"],
            moving,
            epilogue=self.epilogue,
            fuse_gradient=self.fuse_gradient,
            layer=self.name,
        )
        return normalise(x, weight, self.parameters["bias"])

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x

    def flops(self, x: tuple[int, ...]) -> int:
        return 2 * math.prod(x)


class MaxPool(Layer):
    """Max-pooling; the networks here use it after a BatchNorm, else the convolution's epilogue."""

    kind = "pool"

    def __init__(self, name: str, *, window: int = 2, stride: int = 2) -> None:
        super().__init__(name)
        self.geometry = {"window": window, "stride": stride}

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return functions.MaxPool(**self.geometry, layer=self.name)(x)

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return pool_shape(x, **self.geometry)


class Flatten(Layer):
    """Feature maps to vectors, in NHWC order."""

    kind = "flatten"

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return functions.Flatten(self.name)(x)

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x[0], math.prod(x[1:])


class Linear(Layer):
    """Fully connected layer; the last one gives the ``logits``.

    ``dropout``, the number of a ``Dropout``, is one that follows the epilogue, ``relu``.
    It is as active as that: while training, where something is trainable here or below.
    """

    kind = "linear"

    def __init__(
        self,
        name: str,
        weight: Parameter,
        bias: Parameter,
        *,
        epilogue: Epilogue = "none",
        logits: bool = False,
        dropout: int | None = None,
    ) -> None:
        super().__init__(name)
        self.parameters.update(weight=weight, bias=bias)
        self.epilogue, self.logits, self.dropout = epilogue, logits, dropout

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        drop, inputs = None, (x, *self.parameters.values())
        active = context.training and context.dropout > 0 and any(one.wanted for one in inputs)
        if self.dropout is not None and active:
            drop = functions.Drop(context.rng, context.dropout, self.dropout)
        connect = functions.Linear(
            epilogue=self.epilogue,
            logits=self.logits,
            drop=drop,
            fuse_gradient=self.fuse_gradient,
            layer=self.name,
        )
        return connect(x, self.parameters["weight"], self.parameters["bias"])

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x[0], self.parameters["weight"].shape[0]

    def flops(self, x: tuple[int, ...]) -> int:
        return 2 * x[0] * math.prod(self.parameters["weight"].shape)


class Dropout(Layer):
    """Dropout while training, where something below it is trainable; otherwise the identity."""

    kind = "dropout"

    def __init__(self, name: str, *, number: int) -> None:
        super().__init__(name)
        self.number = number

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        if not (context.training and x.wanted and context.dropout > 0):
            return x
        drop = functions.Dropout(
            context.rng, rate=context.dropout, number=self.number, layer=self.name
        )
        return drop(x)

    def output_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x


class Model:
    """A sequence of layers from ``[N, H, W, C]`` images to ``[N, classes]`` logits."""

    def __init__(
        self, name: str, layers: Sequence[Layer], input_shape: tuple[int, int, int], classes: int
    ) -> None:
        self.name = name
        self.layers = tuple(layers)
        self.input_shape = input_shape
        self.classes = classes

    def __call__(
        self, x: Tensor, context: Context = Context(), *, layers: slice = slice(None)
    ) -> Tensor:
        """The output of the last of ``layers`` (all, by default), given the input of the first."""
        for layer in self.layers[layers]:
            x = layer(x, context)
        return x

    def frozen_layers(self) -> int:
        """How many layers lie below the first that holds a parameter that may move."""
        movable = (any(p.wanted for p in layer.parameters.values()) for layer in self.layers)
        return next((i for i, moves in enumerate(movable) if moves), len(self.layers))

    def parameters(self) -> dict[str, Parameter]:
        """``"conv1_1.weight"`` -> parameter, from input to output."""
        return {
            f"{layer.name}.{name}": parameter
            for layer in self.layers
            for name, parameter in layer.parameters.items()
        }

    def num_parameters(self) -> int:
        """How many numbers training can learn; running statistics are not counted."""
        return sum(math.prod(parameter.shape) for parameter in self.parameters().values())

    def flops(self, layers: slice = slice(None)) -> int:
        """Multiplications and additions of ``layers`` in a forward pass over one image."""
        shape: tuple[int, ...] = (1, *self.input_shape)
        counts = []
        for layer in self.layers:
            counts.append(layer.flops(shape))
            shape = layer.output_shape(shape)
        return sum(counts[layers])

    def state(self, layers: slice = slice(None)) -> dict[str, np.ndarray]:
        """Parameters and running statistics of ``layers`` by name, copied to NumPy."""
        tensors = self._tensors(layers)
        return {name: tensor.backend.to_host(tensor.data) for name, tensor in tensors.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Overwrite parameters and statistics.

        Raises FercoreError if a name or a shape differs, or a value is not finite; nothing is
        changed then.
        """
        tensors = self._tensors()
        for what, names in (
            ("lacks", tensors.keys() - state.keys()),
            ("has an unknown", state.keys() - tensors.keys()),
        ):
            if names:
                raise FercoreError(f"the checkpoint {what} {min(names)}: it is not a {self.name}")
        for name, tensor in tensors.items():
            if state[name].shape != tensor.shape:
                raise FercoreError(
                    f"the checkpoint's {name} has shape {state[name].shape}, {self.name} needs "
                    f"{tensor.shape}"
                )
            if not np.isfinite(state[name]).all():
                raise FercoreError(f"the checkpoint's {name} holds NaN or infinity")
        for name, tensor in tensors.items():
            tensor.overwrite(state[name])

    def summary(self) -> str:
        """Layers with output shape, parameters and FLOPs an image; trainable, frozen and total."""
        rows = []
        shape: tuple[int, ...] = (1, *self.input_shape)
        for layer in self.layers:
            flops = layer.flops(shape)
            shape = layer.output_shape(shape)
            count = sum(math.prod(p.shape) for p in layer.parameters.values())
            trainable = sum(p.num_trainable() for p in layer.parameters.values())
            rows.append((layer.name, "x".join(map(str, shape[1:])), count, trainable, flops))
        lines = [f"{'layer':<14}{'output':>12}{'parameters':>13}{'trainable':>13}{'MFLOP':>10}"]
        lines += [
            f"{name:<14}{output:>12}{count:>13,}{trainable:>13,}{flops / 1e6:>10.2f}"
            for name, output, count, trainable, flops in rows
        ]
        total = self.num_parameters()
        trainable = sum(row[3] for row in rows)
        lines.append(
            f"{self.name}: {total:,} parameters, {trainable:,} trainable, {total - trainable:,} "
            f"frozen; {self.flops() / 1e6:,.1f} MFLOP an image, forward"
        )
        return "\n".join(lines)

    def _tensors(self, layers: slice = slice(None)) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for layer in self.layers[layers]:
            values: dict[str, Any] = {**layer.parameters, **layer.statistics}
            tensors.update({f"{layer.name}.{name}": value for name, value in values.items()})
        return tensors
