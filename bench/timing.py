"""Time on a device: events around single runs, the cache flushed before each, until it is known."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuda_kernels import elementwise
from cuda_kernels.runtime import Runtime

FLUSH_BYTES = 256 << 20  # twice the largest L2 cache there is
ROUND = 5  # runs between two looks at the clock
FEWEST, MOST = 10, 300  # runs
WARM_UP = 0.03  # seconds: a GPU that was idle needs as long to reach its clocks
PRECISE = 0.003  # of the median: its standard error where measuring stops


@dataclass(frozen=True)
class Timing:
    """The median of ``runs`` and their interquartile range as a share of it."""

    seconds: float
    spread: float
    runs: int


@dataclass(frozen=True)
class Clock:
    """A queue of work whose points can be marked, and what to queue before each timed run."""

    event: Callable[[], Any]
    flush: Callable[[], None]
    fewest: int = FEWEST
    warm_up: float = WARM_UP

    @classmethod
    def of(cls, runtime: Runtime, *, emulated: bool) -> Clock:
        """The emulator has no cache worth flushing, and no noise worth ten runs."""
        if emulated:
            return cls(runtime.event, lambda: None, fewest=1, warm_up=0.0)
        scratch = runtime.empty((FLUSH_BYTES // 4,), np.float32)
        return cls(runtime.event, lambda: elementwise.fill(runtime, scratch, 1.0))


def measure(run: Callable[[], None], clock: Clock, seconds: float) -> Timing:
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
