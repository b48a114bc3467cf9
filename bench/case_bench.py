"""One call of a step at one size: which kernels can do it, are they right, how fast are they."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bench import checks
from bench.cases import Case, carry_out, contents
from cuda_kernels import specs
from cuda_kernels.noting import NotingRuntime
from cuda_kernels.runtime import Runtime
from cuda_kernels.specs import Kernel, Precision, UnsuitableError
from fercore.backends.device import TENSOR_CORES, DeviceBackend
from fercore.errors import FercoreError
from fercore.timing import measure

if TYPE_CHECKING:
    from bench.kernels import Sweep

CHECKED_BATCH = 2  # images of the comparison with float64
Row = dict[str, Any]


class MeasuredBackend(DeviceBackend):
    """The kernels on any runtime, in any precision."""

    name = "device"


class CaseBench:
    """One case, in float32 or in bf16: its operands on the device, made once for all versions.

    ``small`` is the same case at ``CHECKED_BATCH``; one in bf16 takes its numbers from ``wide``,
    the same in float32.
    """

    def __init__(
        self, sweep: Sweep, case: Case, small: Case, batch: int, wide: CaseBench | None = None
    ) -> None:
        self.sweep, self.runtime = sweep, sweep.runtime
        self.case, self.small, self.batch, self.wide = case, small, batch, wide

    def candidates(self) -> list[Kernel]:
        """All versions of the case's main operation: of those it launches, the one with most.

        In bf16 those in bf16, in float32 all others.
        """
        given, narrow = self.sweep.arguments, bool(self.case.narrow)
        launched = _would_launch(self.runtime, self.small, "bf16" if narrow else "fp32")
        versions = {
            one.operation: [
                kernel
                for kernel in specs.kernels()
                if kernel.operation == one.operation and (kernel.precision == "bf16") == narrow
            ]
            for one in launched
        }
        main = max(versions, key=lambda name: len(versions[name]))
        if given.operation and not {main, self.case.method} & set(given.operation):
            return []
        return [
            kernel
            for kernel in versions[main]
            if (not given.precision or kernel.precision in given.precision)
            and (not given.version or kernel.version in given.version)
        ]

    def row(self, kernel: Kernel) -> Row:
        """A measurement, or why there is none."""
        self.runtime.pins = {kernel.operation: kernel.version}
        try:
            return self._check(kernel) or self._time(kernel)
        except FercoreError as error:  # the precision is not for this GPU
            return {"refused": str(error)}
        except UnsuitableError as error:
            # Of the reasons of all that share its version, its own.
            own = (part for part in str(error).split("; ") if f"({kernel.name})" in part)
            return {"refused": next(own, str(error))}
        except Exception as error:  # one kernel's failure is a row, not the end of the sweep
            return {"failed": f"{type(error).__name__}: {error}"}
        finally:
            self.runtime.pins = {}

    def run_once(self, kernel: Kernel) -> list[str]:
        """Queue the case once; the kernels that it launched."""
        self.runtime.pins = {kernel.operation: kernel.version}
        buffers = checks.on_device(self.runtime, self.given, self.case.narrow)
        launched: list[str] = []
        self.runtime.on_launch = lambda one, grid: launched.append(one.name)
        with self.runtime.range(self.case.label):
            carry_out(self.case, self.sweep.backend(kernel.precision), buffers)
        self.runtime.synchronize()
        self.runtime.on_launch = None
        return launched

    def _check(self, kernel: Kernel) -> Row:
        """Nothing if results are right, at both batches, and there is something to be timed."""
        narrow, backend = self.case.narrow, self.sweep.backend(kernel.precision)
        buffers = checks.on_device(self.runtime, self.small_given, narrow)
        carry_out(self.small, backend, buffers)
        host = {name: _to_host(self.runtime, buffer) for name, buffer in buffers.items()}
        self.error, name = checks.error(host, self.wanted, narrow)
        wanted = self.wanted.get(name)
        allowed = checks.gate(self.small, kernel.precision, narrow, name, wanted)
        if not self.error <= allowed:
            return _wrong(self.error, allowed, name, f"float64 at batch {CHECKED_BATCH}")
        if self.sweep.arguments.check:
            return {"error": self.error}
        self.buffers = checks.on_device(self.runtime, self.given, narrow)
        if self.batch == CHECKED_BATCH:
            return {}
        carry_out(self.case, backend, self.buffers)
        with self.runtime.queue():
            distance, name = checks.error(self.buffers, self.simplest, narrow)
        # Here the simplest kernel's inputs are not rounded, whatever the other's are.
        allowed = 2 * checks.gate(self.case, kernel.precision, frozenset(), name)
        return {} if distance <= allowed else _wrong(distance, allowed, name, "the simplest kernel")

    @functools.cached_property
    def small_given(self) -> dict[str, Any]:
        return contents(self.small, seed=1)

    @functools.cached_property
    def wanted(self) -> dict[str, Any]:
        """What they become, by the definition."""
        return checks.expected(self.small, self.small_given, self.case.narrow)

    @functools.cached_property
    def given(self) -> dict[str, Any]:
        """The operands at the whole batch, in host memory."""
        return self.wide.given if self.wide else contents(self.case)

    @functools.cached_property
    def simplest(self) -> dict[str, Any]:
        """What they become, by the first version of the kernel in float32."""
        if self.wide:
            return self.wide.simplest
        buffers = checks.on_device(self.runtime, self.given, frozenset())
        pins, self.runtime.pins = self.runtime.pins, dict.fromkeys(self.runtime.pins, 1)
        try:
            carry_out(self.case, self.sweep.backend("fp32"), buffers)
        finally:
            self.runtime.pins = pins
        return buffers

    def _time(self, kernel: Kernel) -> Row:
        seconds, clock = self.sweep.arguments.seconds, self.sweep.clock
        backend = self.sweep.backend(kernel.precision)
        launched: list[str] = []
        self.runtime.on_launch = lambda one, grid: launched.append(one.name)
        # Once before the capture, so that scratch memory is there.
        carry_out(self.case, backend, self.buffers)
        self.runtime.on_launch = None
        with self.runtime.capture() as graph:
            carry_out(self.case, backend, self.buffers)
        timing, again = (measure(graph.replay, clock, seconds) for _ in range(2))
        flops, moved = self.case.product[0], self.case.bytes
        row: Row = {
            "kernels": launched,
            "error": self.error,
            "emulated_us" if self.sweep.emulated else "us": timing.seconds * 1e6,
            "spread": timing.spread,
            "again": again.seconds / timing.seconds - 1,
            "runs": timing.runs,
        }
        if not self.sweep.emulated:
            row |= {"TFLOP_s": flops / timing.seconds / 1e12, "GB_s": moved / timing.seconds / 1e9}
            row |= _against_floor(timing.seconds, flops, moved, kernel, self.sweep.rates)
        return row | self._opponent(kernel)

    def _opponent(self, kernel: Kernel) -> Row:
        if not self.sweep.opponent:
            return {}
        seconds, emulated = self.sweep.arguments.seconds, self.sweep.emulated
        try:
            row: Row = self.sweep.opponent.row(self.case, kernel.precision, seconds, emulated)
        except Exception as error:  # its failure does not undo our measurement
            return {"torch_failed": f"{type(error).__name__}: {error}"}
        return row


def _would_launch(runtime: Runtime, case: Case, precision: Precision = "fp32") -> list[Kernel]:
    """The kernels of a case, found by running it where launches are only noted."""
    noting = NotingRuntime(max(runtime.arch, TENSOR_CORES))  # which ones suit is seen later

    def sketch(operand: Any) -> Any:
        if isinstance(operand, list):
            return [sketch(one) for one in operand]
        return operand and noting.empty(operand.shape, operand.dtype)

    buffers = {name: sketch(operand) for name, operand in case.operands.items()}
    carry_out(case, MeasuredBackend(noting, precision=precision), buffers)
    return [launch.kernel for launch in noting.launches]


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
