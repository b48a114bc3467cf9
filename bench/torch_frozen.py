"""Epochs of PyTorch above frozen convolutions, whose features are computed or kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from bench.torch_step import build, copy_weights
from fercore.config import Recipe
from fercore.data.dataset import Dataset


def contestants(
    model_name: str, state: Mapping[str, np.ndarray], images: Dataset, recipe: Recipe
) -> dict[str, Callable[[], None]]:
    """One epoch of each way, by name."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pixels = torch.from_numpy(images.images)
    labels = torch.from_numpy(images.labels).long()

    def split() -> tuple[nn.Sequential, nn.Sequential]:
        model = build(model_name, dropout=recipe.dropout)
        copy_weights(dict(state), model)
        cut = next(i for i, layer in enumerate(model) if isinstance(layer, nn.Flatten))
        trunk = model[:cut].to(memory_format=torch.channels_last).eval().requires_grad_(False)
        return trunk, model[cut:]

    def features(trunk: nn.Sequential, rows: torch.Tensor) -> torch.Tensor:
        x = ((pixels[rows].float() / 255 - 0.5) / 0.25).unsqueeze(1)
        with torch.no_grad():
            return trunk(x.contiguous(memory_format=torch.channels_last))

    trunk, head = split()
    optimizer = _sgd(head, recipe)

    def from_images() -> None:
        for rows in torch.randperm(len(pixels)).split(recipe.batch_size):
            _step(head, optimizer, features(trunk, rows), labels[rows])

    cached_trunk, cached_head = split()
    cached_optimizer = _sgd(cached_head, recipe)
    kept = torch.cat([features(cached_trunk, rows) for rows in torch.arange(len(pixels)).split(64)])
    kept = kept.flatten(1).contiguous()

    def from_features() -> None:
        for rows in torch.randperm(len(pixels)).split(recipe.batch_size):
            _step(cached_head, cached_optimizer, kept[rows], labels[rows])

    return {"PyTorch, frozen trunk": from_images, "PyTorch, kept features": from_features}


def _sgd(head: nn.Sequential, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        head.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _step(
    head: nn.Sequential, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> None:
    optimizer.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(head(x), y).backward()
    optimizer.step()
