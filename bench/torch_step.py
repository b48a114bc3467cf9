"""The same training step in PyTorch, fp32 on a CPU, in both memory formats."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fercore.config import Recipe
from fercore.models import ARCHITECTURES


def torch_steps(
    model_name: str, images: np.ndarray, labels: np.ndarray, recipe: Recipe
) -> dict[str, Callable[[], None]]:
    """PyTorch's step with contiguous and with channels-last tensors, on every core, by name."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return {
        f"torch fp32 {name}": _step(model_name, images, labels, recipe, memory_format)
        for name, memory_format in (
            ("contiguous", torch.contiguous_format),
            ("channels_last", torch.channels_last),
        )
    }


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


def _step(
    model_name: str,
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    memory_format: torch.memory_format,
) -> Callable[[], None]:
    model = build(model_name, dropout=recipe.dropout).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    loss_function = nn.CrossEntropyLoss()
    stored = torch.from_numpy(images)
    targets = torch.from_numpy(labels).long()
    indices = torch.arange(len(images))

    def step() -> None:
        x = ((stored[indices].float() / 255 - 0.5) / 0.25).unsqueeze(1)
        loss = loss_function(model(x.contiguous(memory_format=memory_format)), targets[indices])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    return step
