"""Every version of every kernel at the shapes of a training step: right first, then how fast.

Kernels come from the registry: all versions and precisions of what a step launches. A row says
which call of the step was measured, and in ``kernels`` what it launched. Results are compared with
float64 at a small batch and with the simplest kernel at the whole one before anything is timed.
The floor is the larger of operations / rate of a large product and bytes / rate of a copy; both
rates are measured first. Data are random, the cache is flushed before each run, a time is a median,
and all is timed twice: ``again`` is how much longer the second time took, as a share.
On the emulator, times are those of the emulator and tell nothing about a GPU.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import machine
from bench.case_bench import CHECKED_BATCH, CaseBench, MeasuredBackend, Row
from bench.cases import cases, distinct
from cuda_kernels import specs
from cuda_kernels.emulated import EmulatedRuntime
from cuda_kernels.gpu import CupyRuntime
from cuda_kernels.runtime import Runtime, UnavailableError
from cuda_kernels.specs import UnsuitableError
from fercore import models
from fercore.timing import Clock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda", choices=("cuda", "emulated"))
    parser.add_argument("--model", choices=models.NAMES, help="svgg10; emulated: tiny")
    parser.add_argument("--batch", type=int, nargs="+", help="1024; emulated: 1")
    for name, kind in (("operation", str), ("layer", str), ("precision", str), ("version", int)):
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=[], help="only these")
    parser.add_argument("--seconds", type=float, default=0.3, help="for one kernel, at most (0.3)")
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds for everything")
    parser.add_argument("--against", choices=["torch"], help="PyTorch beside it, same process")
    parser.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="NAME=TERA",
        help="a rate to take for measured, such as bf16=790 (TFLOP/s) or copy=4.3 (TB/s)",
    )
    parser.add_argument("--check", action="store_true", help="compare with float64 and no more")
    parser.add_argument("--profile", metavar="KERNEL", help="launch it once, after set-up")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="written row by row")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    try:
        emulated = arguments.device == "emulated"
        runtime: Runtime = EmulatedRuntime() if emulated else CupyRuntime()
        if arguments.profile:
            specs.kernel(arguments.profile)
    except (UnavailableError, ValueError) as error:
        machine.cannot(f"bench kernels: {error}")
    model = arguments.model or ("tiny" if emulated else "svgg10")
    batches = arguments.batch or [1 if emulated else 1024]
    sweep = Sweep(runtime, arguments, emulated)
    if arguments.profile:
        print(sweep.profile(model, batches[0], arguments.profile))
        return
    result: dict[str, Any] = {
        "benchmark": "kernels",
        "device": arguments.device,
        "emulated": emulated,
        "model": model,
        "machine": machine.describe(),
        "rates": sweep.rates,
        "rows": [],
    }
    for name, rate in sweep.rates.items():
        unit = "TB/s, a copy" if name == "copy" else "TFLOP/s, a product"
        print(f"{name:<7}{rate / 1e12:>8.4g} {unit}")
    for row in sweep.rows(model, batches):
        result["rows"].append(row)
        print(describe(row, emulated), flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if bad := sum("wrong" in row or "failed" in row for row in result["rows"]):
        raise SystemExit(f"bench kernels: {bad} of {len(result['rows'])} are wrong or failed")


class Sweep:
    """What the rows of one invocation share."""

    def __init__(self, runtime: Runtime, arguments: argparse.Namespace, emulated: bool) -> None:
        self.runtime, self.arguments, self.emulated = runtime, arguments, emulated
        self.backend = functools.cache(lambda one: MeasuredBackend(runtime, precision=one))
        self.end = time.perf_counter() + arguments.budget
        self.opponent: Any = None
        if arguments.against == "torch":
            from bench import torch_kernels

            self.opponent = torch_kernels
        given = dict(rate.split("=") for rate in arguments.rate)
        self.rates = {name: float(tera) * 1e12 for name, tera in given.items()}
        if arguments.check and not emulated:
            # Each buffer by itself, so that a memory checker sees where it ends.
            importlib.import_module("cupy").cuda.set_allocator(None)
        elif not arguments.profile:
            self.clock = Clock.of(self.backend("fp32"), emulated=emulated)
            if not emulated:
                self.rates = (
                    machine.rates(self.backend("fp32"), self.clock, self.opponent) | self.rates
                )

    def rows(self, model: str, batches: list[int]) -> Iterator[Row]:
        for batch in batches:
            for bench in self._benches(model, batch, CHECKED_BATCH):
                case = bench.case
                for kernel in bench.candidates():
                    row: Row = {
                        "operation": kernel.operation,
                        "layer": case.layer,
                        "call": case.method,
                        "precision": kernel.precision,
                        "version": kernel.version,
                        "batch": batch,
                    }
                    yield row | (bench.row(kernel) if self.left() else {"refused": "budget spent"})

    def left(self) -> bool:
        return time.perf_counter() < self.end

    def _benches(self, model: str, batch: int, small: int) -> Iterator[CaseBench]:
        """Of the cases wanted, each in float32 and in bf16; checked at the batch ``small``."""
        layers = self.arguments.layer
        every, few = cases(model, batch), cases(model, small)
        narrow, narrow_few = (cases(model, size, narrow=True) for size in (batch, small))
        for case in distinct([one for one in every if not layers or one.layer in layers]):
            wide = CaseBench(self, case, few[case.number], batch)
            yield wide
            if narrow[case.number].narrow:
                yield CaseBench(
                    self, narrow[case.number], narrow_few[case.number], batch, wide=wide
                )

    def profile(self, model: str, batch: int, name: str) -> str:
        """Set a kernel's first case up and launch it once; says which."""
        kernel = specs.kernel(name)
        self.arguments.operation, self.arguments.version = [kernel.operation], [kernel.version]
        for bench in self._benches(model, batch, batch):
            if kernel in bench.candidates():
                try:
                    launched = bench.run_once(kernel)
                except UnsuitableError:
                    continue
                return f"{bench.case.label}, batch {batch}: launched {', '.join(launched)}"
        raise SystemExit(f"bench kernels: no call of a step of {model} launches {name}")


def describe(row: Row, emulated: bool) -> str:
    """One line."""
    what = f"{row['layer']:<14}{row['operation']:<26}{row['precision']:<7}v{row['version']:<3}"
    for reason in ("refused", "failed", "wrong"):
        if reason in row:
            return f"{what}{row['batch']:>6}  {reason}: {row[reason]}"
    if "runs" not in row:
        return f"{what}{CHECKED_BATCH:>6}  right: relative error {row['error']:.2g}"
    if emulated:
        return f"{what}{row['batch']:>6}{row['emulated_us']:>12.0f} us emulated"
    text = f"{what}{row['batch']:>6}{row['us']:>10.1f} us{row['TFLOP_s']:>8.1f} TFLOP/s"
    text += f"{row['GB_s']:>8.0f} GB/s"
    text += f"{row['again']:>+7.1%} again"
    if "percent_of_floor" in row:
        text += f"{row['percent_of_floor']:>5.0f} % of the floor"
    return text + (f"  PyTorch {row['torch_us']:.1f} us" if "torch_us" in row else "")
