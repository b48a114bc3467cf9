"""The same training step in PyTorch, in each of its configurations on one kind of device."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bench.recipe import Recipe
from bench.torch_kernels import set_precision
from fercore.models import ARCHITECTURES


@dataclass(frozen=True)
class Configuration:
    """One way to run PyTorch."""

    precision: str = "fp32"
    memory: str = "channels_last"
    compiled: bool = False
    graphed: bool = False

    @property
    def name(self) -> str:
        words = ("torch", self.precision, self.memory)
        return " ".join([*words, *["compile"] * self.compiled, *["graph"] * self.graphed])


CPU = [Configuration(memory="contiguous"), Configuration()]
GPU = [
    Configuration(precision, compiled=compiled, graphed=graphed)
    for graphed, compiled in ((True, False), (True, True), (False, True), (False, False))
    for precision in ("bf16", "tf32", "fp32")
]
"""Fast ones that are soon built come first, for when time runs out."""


class TorchStep:
    """One recorded configuration, from our initial weights, with its data on the device."""

    def __init__(
        self,
        configuration: Configuration,
        model_name: str,
        state: Mapping[str, np.ndarray],
        images: np.ndarray,
        labels: np.ndarray,
        recipe: Recipe,
        device: str,
    ) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.configuration, self.recipe, self.device = configuration, recipe, device
        self.format = getattr(
            torch, configuration.memory.replace("contiguous", "contiguous_format")
        )
        model = build(model_name, dropout=recipe.dropout)
        copy_weights(state, model)
        self.model = model.to(device, memory_format=self.format)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=device == "cuda",
        )
        self.images = torch.from_numpy(images).to(device)
        self.labels = torch.from_numpy(labels).long().to(device)
        self.indices = torch.arange(len(images), device=device)
        self._loss = self._loss_of_batch
        if configuration.compiled:
            self._loss = torch.compile(self._loss_of_batch)
        self._run: Callable[[], None] | None = None

    def loss(self) -> float:
        """Of the batch, without augmentation and dropout."""
        set_precision(self.configuration.precision)
        self.model.eval()
        with torch.no_grad():
            loss = self._loss_of_batch(augmented=False).item()
        self.model.train()
        return loss

    def run(self, steps: int) -> None:
        """So many steps; returns when they are done."""
        set_precision(self.configuration.precision)
        if self._run is None:
            self._run = self._graph() if self.configuration.graphed else self._step
        for _ in range(steps):
            self._run()
        if self.device == "cuda":
            torch.cuda.synchronize()

    def infer(self, steps: int) -> None:
        """So many forward passes with their losses, as in an evaluation."""
        for _ in range(steps):
            self.loss()

    def _loss_of_batch(self, augmented: bool = True) -> torch.Tensor:
        x = ((self.images[self.indices].float() / 255 - 0.5) / 0.25).unsqueeze(1)
        if augmented:
            x = augment(x, self.recipe)
        narrow = self.configuration.precision == "bf16"
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=narrow):
            logits = self.model(x.contiguous(memory_format=self.format))
            return nn.functional.cross_entropy(logits, self.labels[self.indices])

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._loss().backward()
        self.optimizer.step()

    def _graph(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(4):  # compiles, chooses algorithms and makes the optimizer's state
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay


def augment(x: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Images mirrored, turned, zoomed and shifted at random, by one bilinear lookup."""
    n, _, height, width = x.shape
    flip, angle, zoom, right, down = 2 * torch.rand(5, n, device=x.device) - 1
    angle = angle * math.radians(recipe.rotation)
    zoom = 1 + zoom * recipe.scale
    mirror = torch.where(flip < 2 * recipe.flip - 1, -1.0, 1.0)
    cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
    right, down = (2 * recipe.shift / side * by for side, by in ((width, right), (height, down)))
    rows = [mirror * cosine, -sine, right, mirror * sine, cosine, down]
    theta = torch.stack(rows, dim=1).view(n, 2, 3)
    grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def free_memory() -> None:
    """Give back what configurations that are gone have held."""
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# -- the network ----------------------------------------------------------------------------------


def build(model_name: str, classes: int = 7, dropout: float = 0.5) -> nn.Sequential:
    """The architecture of the same name, in PyTorch's layers."""
    base, _, normalised = model_name.partition("-")
    architecture = ARCHITECTURES[base]
    layers: list[nn.Module] = []
    size, channels = 48, 1
    for block in architecture.blocks:
        for _ in range(block.convolutions):
            layers.append(
                nn.Conv2d(
                    channels,
                    block.channels,
                    block.kernel,
                    padding=block.padding,
                    bias=not normalised,
                )
            )
            if normalised:
                layers.append(nn.BatchNorm2d(block.channels))
            layers.append(nn.ReLU(inplace=True))
            channels = block.channels
            size += 2 * block.padding - block.kernel + 1
        layers.append(nn.MaxPool2d(2))
        size //= 2
    layers.append(nn.Flatten())
    features = size * size * channels
    for hidden in architecture.hidden:
        layers += [nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        features = hidden
    return nn.Sequential(*layers, nn.Linear(features, classes))


def copy_weights(state: dict[str, np.ndarray], model: nn.Sequential) -> None:
    """Our initial weights in PyTorch's order: NHWC kernels and ``fc1`` columns permuted to NCHW."""
    weights = [array for name, array in state.items() if name.endswith("weight")]
    layers = [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    channels = 1
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            value = torch.from_numpy(np.ascontiguousarray(weight))
            if value.ndim == 4:
                value = value.permute(0, 3, 1, 2)
                channels = len(value)
            elif value.ndim == 2 and channels:
                value = value.reshape(len(value), -1, channels).permute(0, 2, 1).flatten(1)
                channels = 0  # only the first fully connected layer sees maps
            layer.weight.copy_(value)
            if layer.bias is not None:
                layer.bias.zero_()
