"""Training fully connected layers above frozen convolutions, against PyTorch in the same run.

Ours is ``fercore.training`` itself: after an epoch in which every image is new, steps start from
kept features. PyTorch runs its frozen trunk without gradients in every step, or starts from
features that it has kept too. Both draw batches in a random order, with dropout, and update by SGD
with momentum and weight decay. They take turns, an epoch each; figures are medians over epochs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import machine
from fercore import backends, freeze, models, training
from fercore.config import Recipe
from fercore.profiling import random_images

OURS = "fercore"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--model", default="svgg10", choices=models.NAMES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=6, help="after the first")
    parser.add_argument(
        "--against", choices=["torch"], help="the opponent, which must be installed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    backend = backends.get(arguments.device)
    model = models.build(arguments.model, backend=backend)
    freeze.apply(model, "FC")
    images = random_images(arguments.images)
    recipe = Recipe(
        epochs=1 + arguments.epochs,
        batch_size=arguments.batch,
        views=1,
        flip=0.0,
        shift=0.0,
        rotation=0.0,
        scale=0.0,
    )
    opponents: dict[str, Callable[[], None]] = {}
    if arguments.against:
        from bench.torch_frozen import contestants

        opponents = contestants(arguments.model, model.state(), images, recipe)
    rates: dict[str, list[float]] = {}

    def after_epoch(line: dict[str, Any]) -> None:
        name = f"{OURS}, first epoch" if line["epoch"] == 1 else OURS
        rates.setdefault(name, []).append(line["images_per_s"])
        for opponent, epoch in opponents.items():
            start = time.perf_counter()
            epoch()
            if line["epoch"] > 1:  # as ours, they begin with an epoch that does not count
                seconds = time.perf_counter() - start
                rates.setdefault(opponent, []).append(len(images) / seconds)

    with tempfile.TemporaryDirectory() as folder:
        training.train(
            model,
            images,
            {"noise": images.select(range(1))},
            recipe,
            choose_on=("noise",),
            backend=backend,
            seed=0,
            run=0,
            folder=Path(folder),
            on_epoch=after_epoch,
        )
    result = summarise({name: statistics.median(values) for name, values in rates.items()})
    if arguments.json:
        facts = {"model": arguments.model, "batch": arguments.batch, "images": arguments.images}
        print(json.dumps({"benchmark": "frozen", **facts, **result, "machine": machine.describe()}))
        return
    for name, rate in result["images_per_s"].items():
        print(f"{name:<34}{rate:>12.1f} images/s")
    for name, ratio in result["ratios"].items():
        print(f"ratio to {name:<25}{ratio:>12.2f}")


def summarise(rates: dict[str, float]) -> dict[str, Any]:
    """Images per second by name, and ours as a multiple of each opponent's."""
    return {
        "images_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "ratios": {
            name: round(rates[OURS] / rate, 2)
            for name, rate in rates.items()
            if not name.startswith(OURS)
        },
    }
