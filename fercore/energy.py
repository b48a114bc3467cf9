"""Energy by the machine's own counters: what processor and GPU took while runs were trained.

Nothing is estimated: what no counter told is missing.

**Processor.** Linux has the RAPL counters of Intel's and AMD's processors under
``/sys/class/powercap`` (the kernel's ``Documentation/power/powercap``)::

    intel-rapl:0    package-0        counted: one processor, with its caches
    intel-rapl:0:0  core             a part of package-0, not counted again
    intel-rapl:0:1  dram             memory, which only some servers have: left out everywhere
    intel-rapl:1    package-1        counted
    intel-rapl:2    psys             the whole machine, which has the packages in it: not counted
    intel-rapl-mmio:0  package-0     the first one in another way: not counted again

As a rule only root may read them. They begin anew after 65 kJ or more, which a large processor
takes in two minutes and an epoch may not; so all counters are read every ``PERIOD`` seconds.

**GPU.** NVML counts the millijoules since the driver was loaded, in 64 bits (Volta or newer). Of
several GPUs the one is read that computes, found by its address on the PCI bus.

Both count for everybody: what other programs, or other runs of a study, do at the same time is in
them. Runs of one process that go on side by side share what is used equally.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from fercore.backends.interface import Backend
from fercore.words import listed

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"

PERIOD = 10.0
"""Seconds between two readings."""

MOST_WATTS = 1000.0
"""No package takes more: what was not read for so long that this could have filled a counter (the
process was stopped) is not known."""

Lap = Callable[[], dict[str, float]]
"""Joules since the last call, by source; a source that was not read all the time is left out."""


@dataclass(frozen=True)
class Counter:
    """A number that rises with the energy used.

    Attributes:
        source: "processor" or "gpu".
        name: which one.
        read: the number now; raises OSError or ValueError where it cannot be read.
        unit: joules.
        largest: after it the number begins at 0; None where that does not happen.
    """

    source: str
    name: str
    read: Callable[[], int]
    unit: float
    largest: int | None = None

    def joules_between(self, before: int, now: int, seconds: float) -> float:
        """Energy between two readings; NaN where the number cannot tell."""
        used = now - before
        if self.largest is not None:
            used %= self.largest
            if seconds * MOST_WATTS > self.largest * self.unit:
                return math.nan
        return used * self.unit if used >= 0 else math.nan  # a driver that was loaded anew


class Meter:
    """Reads counters from time to time, and shares out what is used among the runs under way.

    Reads while it is entered, as a context.

    Args:
        counters: to read; none is no error.
        description: what can be read here, and why the rest cannot.
        clock: seconds.
    """

    def __init__(
        self,
        counters: Sequence[Counter],
        description: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters, self.description, self._clock = counters, description, clock
        self._lock = threading.Lock()  # guards all that follows
        # Of each run its joules since the last lap, by source; NaN where they are not known.
        self._under_way: list[dict[str, float]] = []
        self._time = 0.0  # of the last reading
        self._readings: list[int | None] = [None] * len(counters)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, name="energy", daemon=True)

    def __enter__(self) -> Meter:
        if self.counters:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self.counters:
            self._thread.join()

    @contextmanager
    def share(self) -> Iterator[Lap]:
        """A run is under way as long as this context; what it is given tells its part."""
        used = {counter.source: 0.0 for counter in self.counters}
        with self._lock:
            self._read()
            self._under_way.append(used)
        try:
            yield partial(self._lap, used)
        finally:
            with self._lock:
                self._read()
                self._under_way = [other for other in self._under_way if other is not used]

    def _lap(self, used: dict[str, float]) -> dict[str, float]:
        with self._lock:
            self._read()
            known = {source: joules for source, joules in used.items() if not math.isnan(joules)}
            used.update(dict.fromkeys(used, 0.0))
        return known

    def _keep_reading(self) -> None:
        while not self._ended.wait(PERIOD):
            with self._lock:
                self._read()

    def _read(self) -> None:
        """Give the runs under way what was used since the last reading."""
        now = self._clock()
        for number, counter in enumerate(self.counters):
            before, reading = self._readings[number], _reading(counter)
            self._readings[number] = reading
            joules = math.nan
            if before is not None and reading is not None:
                joules = counter.joules_between(before, reading, now - self._time)
            for used in self._under_way:
                used[counter.source] += joules / len(self._under_way)
        self._time = now


def _reading(counter: Counter) -> int | None:
    try:
        return counter.read()
    except (OSError, ValueError):
        return None


# -- what this machine has --------------------------------------------------------------------


def open_meter(backend: Backend, powercap: Path = POWERCAP, nvml: str = NVML) -> Meter:
    """The meter of the processor and, where the backend computes on one, of its GPU."""
    sources: dict[str, Callable[[], list[Counter]]] = {
        "processor": partial(package_counters, powercap)
    }
    if address := backend.build_info().get("pci_bus_id"):
        sources["gpu"] = partial(gpu_counters, address, nvml)
    counters, phrases = [], []
    for source, find in sources.items():
        try:
            found = find()
        except (OSError, ValueError) as error:
            phrases.append(f"{source} not readable: {_why(error)}")
        else:
            counters += found
            phrases.append(f"{source}: {listed([counter.name for counter in found])}")
    return Meter(counters, "; ".join(phrases))


def package_counters(powercap: Path) -> list[Counter]:
    """A counter for each processor package; OSError or ValueError unless all can be read."""
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        name = (zone / "name").read_text().strip()
        if name.startswith("package"):
            read = partial(_number, zone / "energy_uj")
            read()
            largest = _number(zone / "max_energy_range_uj")
            found.append(Counter("processor", name, read, 1e-6, largest))
    if not found:
        raise OSError(f"the kernel shows no counter of it in {powercap}")
    return found


def gpu_counters(address: str, nvml: str) -> list[Counter]:
    """The counter of the GPU at an address on the PCI bus; OSError unless it can be read."""
    library = ctypes.CDLL(nvml)
    library.nvmlErrorString.restype = ctypes.c_char_p

    def call(function: str, *arguments: Any) -> None:
        if not hasattr(library, function):
            raise OSError(f"{nvml} is too old to know {function}")
        if status := getattr(library, function)(*arguments):
            raise OSError(f"{function}: {library.nvmlErrorString(status).decode()}")

    def read() -> int:
        millijoules = ctypes.c_ulonglong()
        call("nvmlDeviceGetTotalEnergyConsumption", gpu, ctypes.byref(millijoules))
        return millijoules.value

    gpu = ctypes.c_void_p()
    call("nvmlInit_v2")
    call("nvmlDeviceGetHandleByPciBusId_v2", address.encode(), ctypes.byref(gpu))
    read()
    return [Counter("gpu", f"NVML at {address}", read, 1e-3)]


def _number(path: Path) -> int:
    return int(path.read_text())


def _why(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{error.filename} needs root"
    return str(error)
