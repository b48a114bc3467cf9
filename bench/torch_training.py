"""Training by PyTorch in fercore's order, with its augmentation, initial weights and rates."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import nn

from bench.accuracy import Best, Parts
from bench.torch_step import build, copy_weights
from fercore import backends, models
from fercore.backends.interface import Augmentation, Backend
from fercore.config import Recipe
from fercore.data.dataset import Dataset
from fercore.functions import augment
from fercore.optim import Plateau, learning_rate
from fercore.training import permutation

SUPPORTED = {"optimizer": "sgd", "class_weights": "none", "clip_norm": 0.0, "early_stopping": 0}
"""Settings of which PyTorch's side knows one value alone."""


def train(model_name: str, sets: Parts, recipe: Recipe, seed: int) -> Best:
    """A network of fercore's first weights, trained by PyTorch; what its best epoch scores."""
    _check(recipe)
    images, validation, test = sets
    backend = backends.get("cpu")
    model = build(model_name, dropout=recipe.dropout)
    copy_weights(models.build(model_name, seed=seed, backend=backend).state(), model)
    optimizer = _sgd(model, recipe)
    best, best_loss = Best(0, -1.0, 0.0), math.inf
    for epoch in range(1, recipe.epochs + 1):
        started = time.monotonic()
        loss = train_epoch(model, optimizer, images, recipe, backend, seed, epoch)
        accuracy, validation_loss = evaluate(model, validation, backend)
        print(
            f"epoch {epoch}: loss {loss:.4f}, validation {accuracy:.4f}, "
            f"{time.monotonic() - started:.1f} s",
            flush=True,
        )
        if (accuracy, -validation_loss) > (best.validation, -best_loss):
            best, best_loss = (
                Best(epoch, accuracy, evaluate(model, test, backend)[0]),
                validation_loss,
            )
    return best


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Dataset,
    recipe: Recipe,
    backend: Backend,
    seed: int,
    epoch: int,
) -> float:
    """One pass in fercore's order and augmentation; the mean loss."""
    model.train()
    augmentation = Augmentation(
        recipe.flip, recipe.shift, recipe.rotation, recipe.scale, recipe.cutout
    )
    order = permutation(len(training), seed, 0, epoch)
    steps = recipe.steps_per_epoch(len(training))
    total = 0.0
    for number in range(steps):
        rows = order[number * recipe.batch_size : (number + 1) * recipe.batch_size]
        step = (epoch - 1) * steps + number
        x, y = _batch(training, rows, backend, augmentation, (seed, 0, epoch, step))
        rate = learning_rate(recipe, step, steps, Plateau(1.0, 1))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = nn.functional.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(training)


@torch.no_grad()
def evaluate(model: nn.Module, dataset: Dataset, backend: Backend) -> tuple[float, float]:
    """Accuracy and mean loss."""
    model.eval()
    correct = loss = 0.0
    for start in range(0, len(dataset), 256):
        rows = np.arange(start, min(start + 256, len(dataset)))
        x, y = _batch(dataset, rows, backend, Augmentation(), (0, 0, 0, 0))
        logits = model(x)
        correct += (logits.argmax(dim=1) == y).sum().item()
        loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
    return correct / len(dataset), loss / len(dataset)


def _check(recipe: Recipe) -> None:
    """Refuse what is not done on PyTorch's side, so that never two recipes are compared."""
    for setting, value in SUPPORTED.items():
        if getattr(recipe, setting) != value:
            raise SystemExit(f"accuracy: only recipes with {setting} = {value} are compared")
    if recipe.schedule == "plateau":
        raise SystemExit("accuracy: recipes with schedule = plateau are not compared")


def _sgd(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others}]
    return torch.optim.SGD(groups, lr=0.1, momentum=recipe.momentum, nesterov=recipe.nesterov)


def _batch(
    dataset: Dataset,
    rows: np.ndarray,
    backend: Backend,
    augmentation: Augmentation,
    counters: tuple[int, int, int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    indices = rows.astype(np.int32)
    rng = np.array(counters, dtype=np.uint32)
    x, y = augment(backend, dataset.images, dataset.labels, indices, rng, augmentation)
    images = torch.from_numpy(x.data).permute(0, 3, 1, 2)
    return images, torch.from_numpy(y.data).long()
