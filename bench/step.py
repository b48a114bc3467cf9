"""Images per second of a whole training step, against PyTorch in the same run.

Both sides hold the uint8 images on the device. In a step they gather a batch by its indices, turn,
shift, zoom and mirror every image anew, normalise it, run forward with dropout and backward, and
update all weights by SGD with momentum and weight decay: ours in one kernel of its own for what is
not a product, PyTorch by ``affine_grid`` and ``grid_sample``, its layers and its fused SGD. Ours
writes the learning rate and the random counters from the host before each step; PyTorch has
nothing to write. Nobody reads a loss back, and evaluation is left out.

Before anything is timed both must give the same loss from the same weights, without augmentation
and dropout. They take turns, so that a machine whose speed drifts slows both; the figure of each is
the median over the rounds, and PyTorch's its best configuration.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bench import machine
from bench.recipe import Recipe
from fercore import backends, models
from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation, Backend, Buffer
from fercore.errors import FercoreError
from fercore.feed import Feed
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.nn import Context, Model
from fercore.optim import Optimizer
from fercore.step import record
from fercore.timing import random_batch

RECIPE = Recipe()
AUGMENTATION = Augmentation(RECIPE.flip, RECIPE.shift, RECIPE.rotation, RECIPE.scale, RECIPE.cutout)
LOSS_GATES = {"fp32": 1e-4, "bf16x3": 1e-4, "tf32": 2e-3, "bf16": 2e-2}
"""Largest relative difference between the two losses, by the less precise side."""
OPPONENT = {"fp32": "fp32", "bf16x3": "fp32", "tf32": "tf32", "bf16": "bf16"}
"""The precision of PyTorch's that rounds as ours does; bf16x3 is of the class of fp32."""
STEPS_OF_A_RUN = 8  # on a GPU, which is kept busy meanwhile; a CPU waits for each step


@dataclass(frozen=True)
class Contestant:
    """A way to run the step; ``run`` returns when the work is done."""

    name: str
    run: Callable[[], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=backends.NAMES)
    parser.add_argument("--model", default="svgg10", choices=models.NAMES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=LOSS_GATES, help="ours (fp32)")
    parser.add_argument("--seconds", type=float, default=30.0, help="to measure, warm-up apart")
    parser.add_argument("--budget", type=float, default=3600.0, help="no opponent begins after it")
    parser.add_argument(
        "--against", choices=["torch"], help="the opponent, which must be installed"
    )
    parser.add_argument(
        "--opponent-precision",
        default="fp32",
        choices=["fp32", "bf16"],
        help="on a CPU, bf16 by autocast (fp32); on a GPU the opponent has all of its own",
    )
    parser.add_argument(
        "--inference", action="store_true", help="a forward pass instead of a training step"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    end = time.perf_counter() + arguments.budget
    images, labels = random_batch(arguments.batch)
    backend = get_backend(arguments.device, arguments.precision)
    step = FercoreStep(backend, arguments.model, images, labels, inference=arguments.inference)
    steps = STEPS_OF_A_RUN if arguments.device == "cuda" else 1
    # Before anything trains, for both sides begin with the initial weights.
    opponents = _opponents(arguments, step, images, labels, steps) if arguments.against else {}
    ours = step.contestants(steps)
    rates: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    for name, build in opponents.items():
        if time.perf_counter() > end:
            missing[name] = "budget spent"
            continue
        try:
            opponent = Contestant(name, build())
            found = measure(
                [*ours, opponent], arguments.batch * steps, arguments.seconds / len(opponents)
            )
        except Exception as error:  # out of memory, or no compiler: the others go on
            missing[name] = f"{type(error).__name__}: {str(error)[:300]}"
            continue
        for contestant, rate in found.items():
            rates.setdefault(contestant, []).append(rate)
    if not rates:
        found = measure(ours, arguments.batch * steps, arguments.seconds)
        rates = {name: [rate] for name, rate in found.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = summarise(medians, len(ours), arguments) | {"not_measured": missing}
    if arguments.json:
        print(json.dumps(result | {"machine": machine.describe()}))
        return
    for name, rate in medians.items():
        print(f"{name:<44}{rate:>10.1f} images/s")
    for name, reason in missing.items():
        print(f"{name:<44}not measured: {reason}")
    if "ratio" in result:
        print(f"{'ratio to the best opponent':<44}{result['ratio']:>10.2f}")
    if "ratio_at_precision" in result:
        print(f"{'ratio to the best of its precision':<44}{result['ratio_at_precision']:>10.2f}")


def get_backend(device: str, precision: str) -> Backend:
    """Ours, in a precision; SystemExit where it has none, or cannot run here."""
    try:
        return backends.get(device, precision=precision)
    except FercoreError as error:
        machine.cannot(f"bench step: {error}")


class FercoreStep:
    """One recorded training step of ours, or a forward pass with its loss."""

    def __init__(
        self,
        backend: Backend,
        model_name: str,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        inference: bool = False,
    ) -> None:
        self.inference = inference
        self.backend = backend
        self.model: Model = models.build(model_name, backend=backend)
        self.optimizer = Optimizer(self.model.parameters(), RECIPE, backend)
        self.images, self.labels = backend.from_host(images), backend.from_host(labels)
        self.batch = len(images)
        self.rng = backend.from_host(np.zeros(4, dtype=np.uint32))
        self.feed = Feed(
            backend,
            self.batch * STEPS_OF_A_RUN,
            steps=STEPS_OF_A_RUN,
            rng=self.rng,
            rates=self.optimizer.rates,
        )
        self.statistics = backend.empty((4,), "float64")
        backend.fill(self.statistics, 0.0)
        self.plan = record(backend, self.program, two_streams=True)

    def loss(self) -> float:
        """Of the batch, without dropout."""
        statistics = self.backend.empty((4,), "float64")
        self.backend.fill(statistics, 0.0)
        indices = self.backend.from_host(np.arange(self.batch, dtype=np.int32))
        x, y = self._batch(self.backend, indices, Augmentation())
        SoftmaxCrossEntropy(statistics)(self.model(x, Context()), y)
        total, count, *_ = self.backend.to_host(statistics)
        return float(total / count)

    def contestants(self, steps: int) -> list[Contestant]:
        """The plan replayed call by call, and on a device as one graph."""
        calls = self.plan.call
        found = [Contestant(f"fercore {self.backend.name}", partial(self._run, calls, steps))]
        self._run(calls, 1)  # what is allocated at first use is allocated
        if (graph := self.backend.capture(calls)) is not None:
            run = partial(self._run, graph, steps)
            found.append(Contestant(f"fercore {self.backend.name} graph", run))
        return found

    def _batch(
        self, backend: Backend, indices: Buffer, augmentation: Augmentation
    ) -> tuple[Tensor, Tensor]:
        inputs = (self.images, self.labels, indices, self.rng)
        return augment(backend, *inputs, augmentation)

    def start(self, rows: np.ndarray) -> None:
        """Lay down a run's steps, all on the same images, of which ``rows [batch]`` are numbers."""
        first = self.optimizer.steps
        rates = self.optimizer.schedule([RECIPE.learning_rate] * STEPS_OF_A_RUN)
        self.feed.start(np.tile(rows, STEPS_OF_A_RUN), rates, first)

    def program(self, recorder: Backend) -> list[Buffer]:
        """The step's calls, on ``recorder``; on the backend itself they are made at once."""
        augmentation = Augmentation() if self.inference else AUGMENTATION
        x, y = self._batch(recorder, self.feed.next(recorder, self.batch), augmentation)
        if self.inference:
            SoftmaxCrossEntropy(self.statistics)(self.model(x, Context()), y)
            return []
        logits = self.model(x, Context(training=True, rng=self.rng, dropout=RECIPE.dropout))
        loss = SoftmaxCrossEntropy(self.statistics)(logits, y)
        self.optimizer.minimise(recorder, loss)
        return []

    def _run(self, replay: Callable[[], None], steps: int) -> None:
        self.start(np.arange(self.batch))
        for _ in range(steps):
            replay()
        self.backend.to_host(self.statistics)  # waits for the steps


def _opponents(
    arguments: argparse.Namespace,
    ours: FercoreStep,
    images: np.ndarray,
    labels: np.ndarray,
    steps: int,
) -> dict[str, Callable[[], Callable[[], None]]]:
    """PyTorch's configurations by name, built when they are called, and checked."""
    from bench import torch_step

    device = "cuda" if arguments.device == "cuda" else "cpu"
    state, loss = ours.model.state(), ours.loss()

    def build(configuration: torch_step.Configuration) -> Callable[[], None]:
        torch_step.free_memory()
        step = torch_step.TorchStep(
            configuration, arguments.model, state, images, labels, RECIPE, device
        )
        check_losses(loss, step.loss(), arguments.precision, configuration.precision)
        return partial(step.infer if arguments.inference else step.run, steps)

    own = OPPONENT[arguments.precision]
    configurations = sorted(torch_step.GPU, key=lambda one: one.precision != own)
    if device == "cpu":
        precision = arguments.opponent_precision
        configurations = [replace(one, precision=precision) for one in torch_step.CPU]
    return {one.name: partial(build, one) for one in configurations}


def check_losses(ours: float, theirs: float, *precisions: str) -> None:
    """AssertionError unless both sides compute the same thing."""
    gate = max(LOSS_GATES[precision] for precision in precisions)
    difference = abs(ours - theirs) / abs(theirs)
    if not difference <= gate:
        raise AssertionError(f"losses differ: ours {ours:.6f}, PyTorch's {theirs:.6f}")


def measure(contestants: list[Contestant], images: int, seconds: float) -> dict[str, float]:
    """Median images per second of each, in turns of one run, after two runs of warm-up."""
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
    return {name: images / statistics.median(values) for name, values in times.items()}


def summarise(rates: dict[str, float], ours: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The first ``ours`` rates are ours; the ratio is that of both sides' best."""
    items = list(rates.items())
    own, own_rate = max(items[:ours], key=lambda item: item[1])
    result: dict[str, Any] = {
        "benchmark": "inference" if arguments.inference else "step",
        "device": arguments.device,
        "model": arguments.model,
        "batch": arguments.batch,
        "precision": arguments.precision,
        "configuration": own,
        "images_per_s": round(own_rate, 1),
    }
    if others := items[ours:]:
        best, best_rate = max(others, key=lambda item: item[1])
        result |= {
            "opponent": best,
            "opponent_images_per_s": round(best_rate, 1),
            "ratio": round(own_rate / best_rate, 3),
            "opponents": {name: round(rate, 1) for name, rate in others},
        }
        start = f"torch {OPPONENT[arguments.precision]} "
        alike = [rate for name, rate in others if name.startswith(start)]
        if alike:
            result["ratio_at_precision"] = round(own_rate / max(alike), 3)
    return result
