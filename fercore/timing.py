"""How long things take: clocks, medians, and the rates that a machine reaches.

A device is timed by events in its queue, with work before each run that keeps it busy while the
host queues the run, so that launches cost nothing; a processor by the steady clock.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fercore.backends.interface import Backend
from fercore.data.dataset import BASIC

FLUSH_BYTES = 256 << 20  # twice the largest L2 cache there is
ROUND = 5  # runs between two looks at the clock
FEWEST, MOST = 10, 300  # runs
WARM_UP = 0.03  # seconds: a GPU that was idle needs as long to reach its clocks
PRECISE = 0.003  # of the median: its standard error where measuring stops
COPIED = 1 << 30  # bytes: far more than any GPU's cache holds
COPIED_BY_CPU = 1 << 27
EDGE, EDGE_OF_CPU = 8192, 1024  # of the square matrices whose product is the rate

Run = Callable[[], None]


@dataclass(frozen=True)
class Timing:
    """The median of ``runs`` and their interquartile range as a share of it."""

    seconds: float
    spread: float
    runs: int


class HostEvent:
    """A point in time, where calls return when they are done."""

    def __init__(self) -> None:
        self.time = time.perf_counter()

    def seconds_since(self, earlier: HostEvent) -> float:
        return self.time - earlier.time


def _nothing() -> None: ...


@dataclass(frozen=True)
class Clock:
    """A queue of work whose points can be marked, and what to queue before each timed run."""

    event: Callable[[], Any] = HostEvent
    flush: Run = _nothing
    fewest: int = FEWEST
    warm_up: float = WARM_UP

    @classmethod
    def of(cls, backend: Any, *, emulated: bool) -> Clock:
        """A device's; the emulator has no cache worth flushing, and no noise worth ten runs."""
        if emulated:
            return cls(backend.runtime.event, fewest=1, warm_up=0.0)
        scratch = backend.empty((FLUSH_BYTES // 4,), np.float32)
        return cls(backend.runtime.event, lambda: backend.fill(scratch, 1.0))


def measure(run: Run, clock: Clock, seconds: float) -> Timing:
    """Time ``run`` until its median is known, or for ``seconds``.

    The flush keeps the device busy while the host queues the run, so that launches cost nothing.
    """
    begin, started = time.perf_counter(), clock.event()
    while True:
        run()
        clock.event().seconds_since(started)  # waits
        if time.perf_counter() >= begin + clock.warm_up:
            break
    times: list[float] = []
    end = time.perf_counter() + seconds
    while True:
        marks = []
        for _ in range(min(ROUND, clock.fewest)):
            clock.flush()
            start = clock.event()
            run()
            marks.append((start, clock.event()))
        times += [stop.seconds_since(start) for start, stop in marks]
        timing = summarise(times)
        enough = timing.runs >= clock.fewest and (
            timing.spread / math.sqrt(timing.runs) < PRECISE or time.perf_counter() > end
        )
        if enough or timing.runs >= MOST:
            return timing


def summarise(times: list[float]) -> Timing:
    median = statistics.median(times)
    low, high = np.percentile(times, (25, 75))
    return Timing(median, float(high - low) / median, len(times))


def least_times(turns: Mapping[str, Run], seconds: float) -> dict[str, float]:
    """The shortest time of each call, in turns, of at least three."""
    least = dict.fromkeys(turns, float("inf"))
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < 3:
        rounds += 1
        for name, call in turns.items():
            start = time.perf_counter()
            call()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def measure_each(
    calls: Sequence[Run], clock: Clock, seconds: float, *, before: Run = _nothing
) -> np.ndarray:
    """Seconds of each of ``calls``, made in order, over and over: ``[rounds, calls]``.

    ``before`` runs before each round, untimed. A round warms up; at least ``clock.fewest`` count.
    """
    rounds: list[list[float]] = []
    end = math.inf
    while len(rounds) <= clock.fewest or (time.perf_counter() < end and len(rounds) < MOST):
        before()
        clock.flush()
        marks = [clock.event()]
        for call in calls:
            call()
            marks.append(clock.event())
        pairs = zip(marks[1:], marks[:-1], strict=True)
        rounds.append([stop.seconds_since(start) for stop, start in pairs])
        end = min(end, time.perf_counter() + seconds)  # begins after the warm-up
    return np.array(rounds[1:])


def random_batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 images ``[size, 48, 48]`` and labels; never zeros, which compute faster."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (size, 48, 48), dtype=np.uint8)
    return images, generator.integers(0, BASIC, size).astype(np.int32)


# -- rates ----------------------------------------------------------------------------------------


def product_rate(backend: Backend, seconds: float) -> float:
    """Operations a second of a square product by the backend: a processor's multiply-adds."""
    generator = np.random.default_rng(0)
    a, b = (
        backend.from_host(generator.standard_normal((EDGE_OF_CPU,) * 2, dtype=np.float32))
        for _ in range(2)
    )
    out = backend.empty((EDGE_OF_CPU,) * 2)
    times = least_times({"product": lambda: backend.linear_forward(a, b, None, out)}, seconds)
    return 2.0 * EDGE_OF_CPU**3 / times["product"]


def copy_rate(seconds: float) -> float:
    """Bytes a second, read and written ones together, of a copy in the host's memory."""
    a, b = (np.ones(COPIED_BY_CPU, np.uint8) for _ in range(2))
    times = least_times({"copy": lambda: np.copyto(b, a)}, seconds)
    return 2.0 * COPIED_BY_CPU / times["copy"]


def device_rates(backend: Any, clock: Clock, *, product: bool = True) -> dict[str, float]:
    """Bytes a second of a copy on a device, and operations a second of a product in fp32."""
    a, b = (backend.empty((COPIED // 4,), np.float32) for _ in range(2))
    random = np.random.default_rng(0)
    backend.write(a, np.resize(random.standard_normal(1 << 20, np.float32), a.shape))

    def copy() -> None:
        with backend.runtime.queue():
            b[...] = a

    rates = {"copy": 2 * COPIED / measure(copy, clock, 1.0).seconds}
    if product:
        parts = a, a[EDGE * EDGE :], b
        left, right, out = (part[: EDGE * EDGE].reshape(EDGE, EDGE) for part in parts)

        def multiply() -> None:
            with backend.runtime.queue():
                left.dot(right, out=out)

        rates["fp32"] = 2 * EDGE**3 / measure(multiply, clock, 1.0).seconds
    return rates
