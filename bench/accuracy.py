"""Do two trainers of the same network and recipe learn equally well?

Splits, batches, augmentation, initial weights and learning rates are fercore's. With ``pytorch``
forward, backward, dropout and update are PyTorch's; with ``auto``, ``direct`` and ``winograd`` all
is ours, convolutions computed in that way. The best epoch is chosen on validation, as in ``fit``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fercore import backends, checkpoint, evaluation, metrics, models, training
from fercore.config import Recipe, with_settings
from fercore.data import load, parse_spec
from fercore.data.dataset import Dataset
from fercore.data.splits import split

TRAINERS = ("pytorch", "auto", "direct", "winograd")


class Best(NamedTuple):
    """The epoch with the best validation accuracy, and what its network scores."""

    epoch: int
    validation: float
    test: float


Parts = tuple[Dataset, Dataset, Dataset]
"""To train on, to validate, and to test."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="NAME=PATH")
    parser.add_argument("--model", default="tiny", choices=models.NAMES)
    parser.add_argument("--trainer", default="pytorch", choices=TRAINERS)
    parser.add_argument(
        "--seed", type=int, default=0, help="of everything but the split, which is 0's"
    )
    parser.add_argument(
        "--recipe", default="{}", help="settings that differ, as JSON: '{\"epochs\": 20}'"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    recipe = with_settings(Recipe(), json.loads(arguments.recipe), "--recipe")
    dataset = load(parse_spec(arguments.data))
    parts = split(dataset, "paper", 0)
    sets = tuple(dataset.select(rows) for rows in (parts.train, parts.validation, parts.test))
    best = trainer(arguments.trainer)(arguments.model, sets, recipe, arguments.seed)
    _, validation, test = sets
    print(
        f"{arguments.trainer} {arguments.model}, seed {arguments.seed}: best epoch {best.epoch}, "
        f"validation {best.validation:.4f} (n = {len(validation)}), "
        f"test {best.test:.4f} (n = {len(test)})"
    )


def trainer(name: str) -> Callable[[str, Parts, Recipe, int], Best]:
    """What trains a network, by name."""
    if name == "pytorch":
        from bench.torch_training import train  # needs PyTorch

        return train

    def train_ours(model_name: str, sets: Parts, recipe: Recipe, seed: int) -> Best:
        images, validation, test = sets
        backend = backends.get("cpu", convolution=name)
        model = models.build(model_name, seed=seed, backend=backend)
        with tempfile.TemporaryDirectory() as folder:
            outcome = training.train(
                model,
                images,
                {"source": validation},
                recipe,
                choose_on=("source",),
                backend=backend,
                seed=seed,
                run=0,
                folder=Path(folder),
                on_epoch=lambda line: print(
                    f"epoch {line['epoch']}: loss {line['train_loss']:.4f}, validation "
                    f"{line['validation']['source']['accuracy']:.4f}, {line['seconds']:.1f} s",
                    flush=True,
                ),
            )
            model = checkpoint.load_model(Path(folder) / "best.safetensors", backend)
        logits = evaluation.predict_logits(model, test.images, backend=backend)
        correct = (metrics.predict(logits) == test.labels).mean()
        return Best(outcome.best_epoch, outcome.best_accuracy, float(correct))

    return train_ours
