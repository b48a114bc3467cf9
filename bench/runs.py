"""How many small runs a device carries out at once: images a second of all, by their number.

Each run trains a network of its own in a thread, as a study's do. All have built their kernels and
captured their steps when the clock starts. ``--dry-run`` does the same with next to no work on the
emulator, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from bench import machine
from fercore import backends, freeze, models
from fercore.backends.interface import Backend
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.features import FeatureStore
from fercore.optim import Optimizer
from fercore.plan import Run
from fercore.profiling import random_images
from fercore.progress import Listener
from fercore.results import Record
from fercore.side_by_side import carry_out
from fercore.training import Stepper

WARM_UP = 2  # epochs: of calls, and of the capture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda", choices=backends.NAMES)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--model", default="tiny-bn", choices=models.NAMES)
    parser.add_argument("--strategy", default="BL", choices=freeze.STRATEGIES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="an epoch")
    parser.add_argument("--epochs", type=int, default=5, help="that are timed")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8], metavar="RUNS")
    parser.add_argument("--dry-run", action="store_true", help="tiny, emulated: does it work?")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        little = {"device": "emulated", "batch": 1, "steps": 1, "epochs": 1, "at_once": [1, 2]}
        vars(arguments).update(little)
    try:
        backend = backends.get(arguments.device, precision=arguments.precision)
    except FercoreError as error:
        machine.cannot(f"bench runs: {error}")
    rates = {number: images_per_s(backend, arguments, number) for number in arguments.at_once}
    if arguments.json:
        settings = {k: v for k, v in vars(arguments).items() if k != "run"}
        found = {"benchmark": "runs", **settings, "images_per_s": rates}
        print(json.dumps(found | {"machine": machine.describe()}))
        return
    for number, rate in rates.items():
        print(f"{number} at once{rate:>14.1f} images/s{rate / rates[min(rates)]:>8.2f} x")


def images_per_s(backend: Backend, arguments: argparse.Namespace, number: int) -> float:
    """Of ``number`` runs together, from when all have warmed up until the last has ended."""
    begun: list[float] = []
    ready = threading.Barrier(number, action=lambda: begun.append(time.perf_counter()))

    def execute(one: Run, listener: Listener) -> list[Record]:
        try:
            stepper = make_stepper(backend, arguments)
            for epoch in range(1, WARM_UP + 1):
                run_epoch(stepper, one.number, epoch)
            ready.wait()
        except threading.BrokenBarrierError:  # another has failed, and tells why
            return []
        except BaseException:
            ready.abort()
            raise
        for epoch in range(WARM_UP + 1, WARM_UP + 1 + arguments.epochs):
            run_epoch(stepper, one.number, epoch)
        return []

    runs: list[Any] = [
        SimpleNamespace(id=f"run {i}", starts_from=None, number=i) for i in range(number)
    ]
    carry_out(cast(list[Run], runs), execute, backend, Listener(), jobs=number)
    images = number * arguments.epochs * arguments.steps * arguments.batch
    return images / (time.perf_counter() - begun[0])


def make_stepper(backend: Backend, arguments: argparse.Namespace) -> Stepper:
    """Of one run, with one view of its images."""
    model = models.build(arguments.model, backend=backend)
    freeze.apply(model, arguments.strategy)
    recipe = Recipe(batch_size=arguments.batch, flip=0.0, shift=0.0, rotation=0.0, scale=0.0)
    optimizer = Optimizer(model.parameters(), recipe, backend)
    images = random_images(arguments.steps * arguments.batch)
    return Stepper(model, optimizer, images, recipe, backend, FeatureStore().shelf())


def run_epoch(stepper: Stepper, number: int, epoch: int) -> None:
    stepper.start_epoch(0, number, epoch, [1e-3] * stepper.steps)
    for _ in range(stepper.steps):
        stepper.step(stepper.recipe.batch_size)
    stepper.finish_epoch()
