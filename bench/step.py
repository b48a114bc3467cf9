"""Images per second of a whole training step, against PyTorch in the same run.

Both sides gather and normalise uint8 images, run forward and backward with dropout, and update
by SGD with momentum and weight decay, in fp32. They take turns, so that a machine whose speed
drifts slows both; the figure of each is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fercore import backends, models
from fercore.autograd import backward
from fercore.backends.interface import Augmentation, Backend, Buffer
from fercore.config import Recipe
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.nn import Context
from fercore.optim import Optimizer
from fercore.step import record

RECIPE = Recipe(learning_rate=0.001, momentum=0.9, nesterov=False, weight_decay=5e-4)
"""What both sides do in a step."""


@dataclass(frozen=True)
class Contestant:
    """A way to run the step; ``run`` returns when the work is done."""

    name: str
    run: Callable[[], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=backends.NAMES)
    parser.add_argument("--model", default="svgg10", choices=models.NAMES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30.0, help="to measure, warm-up apart")
    parser.add_argument(
        "--against", choices=["torch"], help="the opponent, which must be installed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    images, labels = random_batch(arguments.batch)
    backend = backends.get(arguments.device)
    contestants = [fercore_step(backend, arguments.model, images, labels)]
    if arguments.against == "torch":
        from bench.torch_step import torch_steps

        steps = torch_steps(arguments.model, images, labels, RECIPE)
        contestants += [Contestant(name, step) for name, step in steps.items()]
    rates = measure(contestants, arguments.batch, arguments.seconds)
    result = summarise(rates, arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, rate in rates.items():
        print(f"{name:<28}{rate:>10.1f} images/s")
    if "ratio" in result:
        print(f"{'ratio to the best opponent':<28}{result['ratio']:>10.2f}")


def random_batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 images ``[size, 48, 48]`` and labels; never zeros, which compute faster."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (size, 48, 48), dtype=np.uint8)
    return images, generator.integers(0, 7, size).astype(np.int32)


def fercore_step(
    backend: Backend, model_name: str, images: np.ndarray, labels: np.ndarray
) -> Contestant:
    """One recorded training step of ours."""
    model = models.build(model_name, backend=backend)
    optimizer = Optimizer(model.parameters(), RECIPE, backend)
    stored_images, stored_labels = backend.from_host(images), backend.from_host(labels)
    indices = backend.from_host(np.arange(len(images), dtype=np.int32))
    rng = backend.from_host(np.zeros(4, dtype=np.uint32))
    statistics_buffer = backend.empty((4,), "float64")
    backend.fill(statistics_buffer, 0.0)

    def program(recorder: Backend) -> list[Buffer]:
        x, y = augment(recorder, stored_images, stored_labels, indices, rng, Augmentation())
        logits = model(x, Context(training=True, rng=rng, dropout=RECIPE.dropout))
        gradients = backward(SoftmaxCrossEntropy(statistics_buffer)(logits, y))
        optimizer.update(recorder, gradients)
        return []

    plan = record(backend, program)

    def step() -> None:
        optimizer.start_step(RECIPE.learning_rate)
        plan.replay()
        backend.to_host(statistics_buffer)  # waits for the step

    return Contestant(f"fercore {backend.name}", step)


def measure(contestants: list[Contestant], batch: int, seconds: float) -> dict[str, float]:
    """Median images per second of each, in turns of one step, after two steps of warm-up."""
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for contestant in contestants:
        contestant.run()
        contestant.run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        for contestant in contestants:
            start = time.perf_counter()
            contestant.run()
            times[contestant.name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(values) for name, values in times.items()}


def summarise(rates: dict[str, float], arguments: argparse.Namespace) -> dict[str, Any]:
    own_rate, *_ = rates.values()
    others = list(rates.items())[1:]
    result: dict[str, Any] = {
        "benchmark": "step",
        "device": arguments.device,
        "model": arguments.model,
        "batch": arguments.batch,
        "images_per_s": round(own_rate, 1),
    }
    if others:
        best, best_rate = max(others, key=lambda item: item[1])
        result |= {
            "opponent": best,
            "opponent_images_per_s": round(best_rate, 1),
            "ratio": round(own_rate / best_rate, 3),
            "opponents": {name: round(rate, 1) for name, rate in others},
        }
    return result
