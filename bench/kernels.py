"""Every version of every kernel at the shapes of a training step: right first, then how fast.

Kernels come from the registry: all versions and precisions of what a step launches. A row says
which call of the step was measured, and in ``kernels`` what it launched. Results are compared with
float64 at a small batch and with the simplest kernel at the whole one before anything is timed.
The floor is the larger of operations / rate of a large product and bytes / rate of a copy.
On the emulator, times are those of the emulator and tell nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import checks, machine
from bench.cases import Case, carry_out, cases, contents, distinct
from bench.timing import Clock, measure
from cuda_kernels import specs
from cuda_kernels.emulated import EmulatedRuntime
from cuda_kernels.gpu import CupyRuntime
from cuda_kernels.runtime import Runtime, UnavailableError
from cuda_kernels.specs import Kernel, UnsuitableError
from fercore import models
from fercore.backends.device import DeviceBackend

CHECKED_BATCH = 2  # images of the comparison with float64
Row = dict[str, Any]


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
        raise SystemExit(f"bench kernels: {error}") from error
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
    for row in sweep.rows(model, batches):
        result["rows"].append(row)
        print(describe(row, emulated), flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")


class Sweep:
    """What the rows of one invocation share."""

    def __init__(self, runtime: Runtime, arguments: argparse.Namespace, emulated: bool) -> None:
        self.runtime, self.arguments, self.emulated = runtime, arguments, emulated
        self.backend = DeviceBackend(runtime)
        self.end = time.perf_counter() + arguments.budget
        self.opponent: Any = None
        if arguments.against == "torch":
            from bench import torch_kernels

            self.opponent = torch_kernels
        given = dict(rate.split("=") for rate in arguments.rate)
        self.rates = {name: float(tera) * 1e12 for name, tera in given.items()}
        if not arguments.profile:
            self.clock = Clock.of(runtime, emulated=emulated)
            if not emulated:
                self.rates = machine.rates(runtime, self.clock, self.opponent) | self.rates

    def rows(self, model: str, batches: list[int]) -> Iterator[Row]:
        for batch in batches:
            small = cases(model, CHECKED_BATCH)
            for case in self._wanted(model, batch):
                bench = _Bench(self, case, small[case.number], batch)
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

    def _wanted(self, model: str, batch: int) -> list[Case]:
        layers = self.arguments.layer
        every = [case for case in cases(model, batch) if not layers or case.layer in layers]
        return distinct(every)

    def profile(self, model: str, batch: int, name: str) -> str:
        """Set a kernel's first case up and launch it once; says which."""
        kernel = specs.kernel(name)
        self.arguments.operation, self.arguments.version = [kernel.operation], [kernel.version]
        for case in self._wanted(model, batch):
            bench = _Bench(self, case, case, batch)
            if kernel in bench.candidates():
                try:
                    launched = bench.run_once(kernel)
                except UnsuitableError:
                    continue
                return f"{case.label}, batch {batch}: launched {', '.join(launched)}"
        raise SystemExit(f"bench kernels: no call of a step of {model} launches {name}")


class _Bench:
    """One case: its operands on the device, made once for all versions."""

    def __init__(self, sweep: Sweep, case: Case, small: Case, batch: int) -> None:
        self.sweep, self.runtime = sweep, sweep.runtime
        self.case, self.small, self.batch = case, small, batch

    def candidates(self) -> list[Kernel]:
        """All versions of the case's main operation: of those it launches, the one with most."""
        given = self.sweep.arguments
        operations = self._operations()
        versions = {
            name: [kernel for kernel in specs.kernels() if kernel.operation == name]
            for name in operations
        }
        main = max(operations, key=lambda name: len(versions[name]))
        if given.operation and not {main, self.case.method} & set(given.operation):
            return []
        return [
            kernel
            for kernel in versions[main]
            if (not given.precision or kernel.precision in given.precision)
            and (not given.version or kernel.version in given.version)
        ]

    def _operations(self) -> list[str]:
        """What the case launches in fp32, in order, without launching it."""
        return list(dict.fromkeys(k.operation for k in _would_launch(self.runtime, self.small)))

    def row(self, kernel: Kernel) -> Row:
        """A measurement, or why there is none."""
        self.runtime.pins = {kernel.operation: kernel.version}
        try:
            return self._check(kernel) or self._time(kernel)
        except UnsuitableError as error:
            return {"refused": str(error)}
        except Exception as error:  # one kernel's failure is a row, not the end of the sweep
            return {"failed": f"{type(error).__name__}: {error}"}
        finally:
            self.runtime.pins = {}

    def run_once(self, kernel: Kernel) -> list[str]:
        """Queue the case once; the kernels that it launched."""
        self.runtime.pins = {kernel.operation: kernel.version}
        buffers = checks.on_device(self.runtime, contents(self.case), _narrow(kernel))
        launched: list[str] = []
        self.runtime.on_launch = lambda one, grid: launched.append(one.name)
        with self.runtime.range(self.case.label):
            carry_out(self.case, self.sweep.backend, buffers, kernel.precision)
        self.runtime.synchronize()
        self.runtime.on_launch = None
        return launched

    def _check(self, kernel: Kernel) -> Row:
        """Nothing if results are right, at both batches."""
        narrow = _narrow(kernel)
        given = contents(self.small, seed=1)
        buffers = checks.on_device(self.runtime, given, narrow)
        carry_out(self.small, self.sweep.backend, buffers, kernel.precision)
        host = {name: _to_host(self.runtime, buffer) for name, buffer in buffers.items()}
        wanted = checks.expected(self.small, given, narrow)
        self.error, name = checks.error(host, wanted, narrow)
        allowed = checks.gate(self.small, kernel.precision, narrow, name)
        if not self.error <= allowed:
            return _wrong(self.error, allowed, name, f"float64 at batch {CHECKED_BATCH}")
        self.buffers = checks.on_device(self.runtime, contents(self.case), narrow)
        if self.batch == CHECKED_BATCH or self.sweep.emulated:
            return {}
        simplest = checks.on_device(self.runtime, contents(self.case), frozenset())
        carry_out(self.case, self.sweep.backend, self.buffers, kernel.precision)
        self.runtime.pins = {kernel.operation: 1}
        carry_out(self.case, self.sweep.backend, simplest, "fp32")
        self.runtime.pins = {kernel.operation: kernel.version}
        with self.runtime.queue():
            distance, name = checks.error(self.buffers, simplest, narrow)
        # Here the simplest kernel's inputs are not rounded, whatever the other's are.
        allowed = 2 * checks.gate(self.case, kernel.precision, frozenset(), name)
        return {} if distance <= allowed else _wrong(distance, allowed, name, "the simplest kernel")

    def _time(self, kernel: Kernel) -> Row:
        seconds, clock = self.sweep.arguments.seconds, self.sweep.clock
        launched: list[str] = []
        self.runtime.on_launch = lambda one, grid: launched.append(one.name)
        # Once before the capture, so that scratch memory is there.
        carry_out(self.case, self.sweep.backend, self.buffers, kernel.precision)
        self.runtime.on_launch = None
        with self.runtime.capture() as graph:
            carry_out(self.case, self.sweep.backend, self.buffers, kernel.precision)
        timing = measure(graph.replay, clock, seconds)
        flops, moved = self.case.product[0], self.case.bytes(_narrow(kernel))
        row: Row = {
            "kernels": launched,
            "error": self.error,
            "emulated_us" if self.sweep.emulated else "us": timing.seconds * 1e6,
            "spread": timing.spread,
            "runs": timing.runs,
        }
        if not self.sweep.emulated:
            row |= {"TFLOP_s": flops / timing.seconds / 1e12, "GB_s": moved / timing.seconds / 1e9}
            row |= _against_floor(timing.seconds, flops, moved, kernel, self.sweep.rates)
        if self.sweep.opponent:
            row |= self.sweep.opponent.row(
                self.case, kernel.precision, seconds, self.sweep.emulated
            )
        return row


def _would_launch(runtime: Runtime, case: Case) -> list[Kernel]:
    """The kernels of a case in fp32, found by running it where launches are only noted."""
    launched: list[Kernel] = []
    noting = _Noting(arch=runtime.arch)
    noting.on_launch = lambda kernel, grid: launched.append(kernel)
    carry_out(
        case, DeviceBackend(noting), checks.on_device(noting, contents(case), frozenset()), "fp32"
    )
    return launched


class _Noting(EmulatedRuntime):
    """Launches nothing."""

    def _launch(self, *arguments: Any) -> None: ...


def _narrow(kernel: Kernel) -> checks.Narrow:
    return frozenset(
        p.name for p in kernel.parameters if p.kind != "number" and p.dtype.name == "uint16"
    )


def _to_host(runtime: Runtime, buffer: Any) -> Any:
    if isinstance(buffer, list):
        return [_to_host(runtime, one) for one in buffer]
    return None if buffer is None else runtime.copy_out(buffer)


def _wrong(error: float, allowed: float, name: str, oracle: str) -> Row:
    return {"wrong": f"relative error {error:.2g} > {allowed:.2g} of {name} against {oracle}"}


def _against_floor(
    seconds: float, flops: int, moved: int, kernel: Kernel, rates: dict[str, float]
) -> Row:
    if "copy" not in rates or (flops and kernel.precision not in rates):
        return {}
    floor = max(moved / rates["copy"], flops and flops / rates[kernel.precision])
    return {"floor_us": floor * 1e6, "percent_of_floor": 100 * floor / seconds}


def describe(row: Row, emulated: bool) -> str:
    """One line."""
    what = f"{row['layer']:<14}{row['operation']:<26}{row['precision']:<7}v{row['version']:<3}"
    for reason in ("refused", "failed", "wrong"):
        if reason in row:
            return f"{what}{row['batch']:>6}  {reason}: {row[reason]}"
    if emulated:
        return f"{what}{row['batch']:>6}{row['emulated_us']:>12.0f} us emulated"
    text = f"{what}{row['batch']:>6}{row['us']:>10.1f} us{row['TFLOP_s']:>8.1f} TFLOP/s"
    text += f"{row['GB_s']:>8.0f} GB/s"
    if "percent_of_floor" in row:
        text += f"{row['percent_of_floor']:>5.0f} % of the floor"
    return text + (f"  PyTorch {row['torch_us']:.1f} us" if "torch_us" in row else "")
