"""Does training give the same bits however its steps run: eagerly, recorded, as a graph, again?

Each way trains the same network on the same batches for some steps; a digest of all weights and
moments is printed for each. Exit status 1 if any two differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable

import numpy as np

from bench import machine
from bench.step import LOSS_GATES, FercoreStep, get_backend
from fercore import backends, models
from fercore.backends.interface import Backend
from fercore.timing import random_batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=backends.NAMES)
    parser.add_argument("--model", default="svgg10", choices=models.NAMES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=LOSS_GATES)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    backend = get_backend(arguments.device, arguments.precision)
    found = {
        name: digest(backend, arguments.model, arguments.batch, arguments.steps, way)
        for name, way in WAYS.items()
    }
    found = {name: value for name, value in found.items() if value}
    same = len(set(found.values())) == 1
    names = ("device", "model", "batch", "precision", "steps")
    result = {
        "benchmark": "repeat",
        **{name: getattr(arguments, name) for name in names},
        "same": same,
        "digests": found,
        "machine": machine.describe(),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in found.items():
            print(f"{name:<16}{value}")
    if not same:
        raise SystemExit("bench repeat: the same training gave different bits")


def eager(step: FercoreStep) -> Callable[[], None]:
    def run() -> None:
        step.program(step.backend)

    return run


def recorded(step: FercoreStep) -> Callable[[], None]:
    return step.plan.call


def graph(step: FercoreStep) -> Callable[[], None] | None:
    """None where a backend has no graphs."""
    return step.backend.capture(step.plan.call)


WAYS: dict[str, Callable[[FercoreStep], Callable[[], None] | None]] = {
    "eager": eager,
    "recorded": recorded,
    "graph": graph,
    "graph again": graph,
}
"""How a step can run; each time on a network and in memory of its own."""


def digest(
    backend: Backend,
    model: str,
    batch: int,
    steps: int,
    way: Callable[[FercoreStep], Callable[[], None] | None],
) -> str | None:
    """Of weights and moments after ``steps``, the first of them recorded, the others that way.

    (The first step builds kernels and allocates scratch memory, which a graph cannot.)
    """
    step = FercoreStep(backend, model, *random_batch(batch))
    run: Callable[[], None] | None = step.plan.call
    random = np.random.default_rng(1)
    for number in range(steps):
        backend.write(step.rng, np.array([0, 0, number // 10, number], np.uint32))
        step.start(random.integers(0, batch, batch))
        run()
        if number == 0 and (run := way(step)) is None:
            return None
    hashed = hashlib.sha256()
    for name, array in sorted((step.model.state() | step.optimizer.state()).items()):
        hashed.update(name.encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()
