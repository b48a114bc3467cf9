"""What each fusion saves: a step with it and without it, in turns, beside the bytes that it saves.

On a device both are graphs. The first row compares the step with itself: its difference is noise.
Times that are predicted are those of the saved bytes at the rate of a copy: of the second stream,
which fills what others leave idle and saves no byte, none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.step import get_backend
from fercore import backends, models, pricing
from fercore.backends.interface import Backend
from fercore.config import Recipe
from fercore.freeze import STRATEGIES
from fercore.fusions import FUSIONS
from fercore.memory import Workload
from fercore.profile_command import limits
from fercore.profiling import AHEAD, Step
from fercore.timing import measure_each

NOTHING = "nothing"
PRECISIONS = ("fp32", "tf32", "bf16", "bf16x3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=backends.NAMES)
    parser.add_argument("--model", default="svgg10", choices=models.NAMES)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--fusion", nargs="+", default=[], choices=FUSIONS, help="only these")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row (4)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="written row by row")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    backend = get_backend(arguments.device, arguments.precision)
    recipe = Recipe(batch_size=arguments.batch)
    workload = Workload(arguments.model, STRATEGIES["BL"], recipe, images=arguments.batch)
    copy = limits(None, backend.name, backend).copy
    names = ("device", "model", "batch", "precision")
    result: dict[str, Any] = {
        "benchmark": "ablation",
        **{name: getattr(arguments, name) for name in names},
        "copy": copy,
        "machine": machine.describe(),
        "rows": [],
    }
    columns = f"{'ms with':>10}{'without':>10}{'saves us':>10}{'MB':>9}{'predicted us':>14}"
    print(f"{'without':<20}{columns}")
    fusions = arguments.fusion or list(FUSIONS)
    for row in rows(workload, backend, [NOTHING, *fusions], arguments.seconds):
        row["predicted_seconds"] = row["bytes"] / copy
        result["rows"].append(row)
        print(line(row), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def line(row: dict[str, Any]) -> str:
    """Of the table that is printed."""
    ours, theirs, saved = row["seconds"], row["seconds_without"], row["saved_seconds"]
    return (
        f"{row['without']:<20}{ours * 1e3:>10.3f}{theirs * 1e3:>10.3f}{saved * 1e6:>10.1f}"
        f"{row['bytes'] / 1e6:>9.1f}{row['predicted_seconds'] * 1e6:>14.1f}"
    )


def rows(
    workload: Workload, backend: Backend, names: list[str], seconds: float
) -> Iterator[dict[str, Any]]:
    """One for each fusion; ``NOTHING`` leaves none out."""
    whole = Step(workload, backend)
    call = ready(whole)
    for name in names:
        without = () if name == NOTHING else (name,)
        other = Step(replace(workload, without=without), backend)
        times = in_turns((whole, other), (call, ready(other)), seconds)
        mine, theirs = np.median(times, axis=0)
        yield {
            "without": name,
            "seconds": float(mine),
            "seconds_without": float(theirs),
            "saved_seconds": float(np.median(times[:, 1] - times[:, 0])),
            "rounds": len(times),
            "bytes": pricing.step_bytes(other.plan.recording)
            - pricing.step_bytes(whole.plan.recording),
        }


def ready(step: Step) -> Callable[[], None]:
    """The step as it runs fastest: as a graph where there are graphs, warm."""
    step.prepare()
    step.plan.call()
    return step.backend.capture(step.plan.call) or step.plan.call


def in_turns(
    steps: tuple[Step, Step], calls: tuple[Callable[[], None], ...], seconds: float
) -> np.ndarray:
    """Seconds ``[rounds, 2]`` of two steps, one after the other, over and over."""
    clock = steps[0].clock()

    def prepare() -> None:
        for step in steps:
            step.prepare()

    def flush() -> None:
        for _ in range(AHEAD):
            clock.flush()

    return measure_each(calls, replace(clock, flush=flush), seconds, before=prepare)
