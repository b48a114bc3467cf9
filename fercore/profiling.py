"""A training step on made-up images, and the time of each of its calls.

The step is the one that training replays: from images, or, where the frozen layers below see the
same views again, from the features that were kept of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from fercore.backends.interface import Backend
from fercore.backends.sketch import SketchBackend
from fercore.data.dataset import Dataset
from fercore.features import FeatureStore
from fercore.memory import Workload, blank_images, noise
from fercore.step import Plan
from fercore.timing import Clock, HostEvent, Run, measure_each, random_batch
from fercore.training import Stepper


class Step:
    """One training step on made-up images, ready to be listed or run.

    On a ``SketchBackend`` nothing is drawn, and nothing but the list is there.
    """

    def __init__(self, workload: Workload, backend: Backend) -> None:
        size, recipe = workload.recipe.batch_size, workload.recipe
        self.workload, self.backend = workload, backend
        sketched = isinstance(backend, SketchBackend)
        self.model = workload.build(backend, None if sketched else 0)
        self.optimizer = workload.optimizer(self.model, backend)
        images = blank_images if sketched else random_images
        self.stepper = Stepper(
            self.model,
            self.optimizer,
            images(workload.images),
            recipe,
            backend,
            FeatureStore().shelf(),
            two_streams=workload.two_streams,
        )
        self.starts_from = "images" if self.stepper.frozen is None else "features"
        self.plan: Plan
        if self.stepper.frozen is None:
            self.plan = self.stepper.from_images(size)
        else:
            output = self.stepper.frozen.output
            features = backend.empty((size, *output.shape[1:]), output.dtype)  # of one batch
            if not sketched:
                backend.write(features, np.random.default_rng(0).random(features.shape, np.float32))
            self.plan = self.stepper.from_features(size, features)

    @property
    def frozen_flops(self) -> int:
        """Operations of the layers whose features are kept, on one view of an image."""
        if self.stepper.frozen is None:
            return 0
        return self.model.flops(slice(self.model.frozen_layers()))

    def prepare(self) -> None:
        """Lay down an epoch, of which the next run of the plan's calls is the first step."""
        first = self.optimizer.steps
        rates = self.optimizer.schedule([self.workload.recipe.learning_rate])
        schedule = np.repeat(rates, self.stepper.steps, axis=0)
        rows = np.arange(self.workload.images) % self.workload.recipe.batch_size
        self.stepper.feed.start(rows, schedule, first)

    def runs(self) -> list[Run]:
        """Each call; where there are no events to time it by, it returns when its work is done."""
        runs = self.plan.runs()
        return runs if self.backend.name != "numba" else [self._waiting(run) for run in runs]

    def _waiting(self, run: Run) -> Run:
        def run_and_wait() -> None:
            run()
            self.backend.to_host(self.stepper.statistics)

        return run_and_wait

    @property
    def runtime(self) -> Any:
        """What marks points in its queue and records graphs; None where there is no queue."""
        runtime = getattr(self.backend, "runtime", None)
        return runtime if hasattr(runtime, "capture") else None

    def clock(self) -> Clock:
        """What its calls are timed with."""
        if self.runtime is None:
            return Clock(fewest=3)
        return Clock.of(self.backend, emulated=self.backend.name == "emulated")


def random_images(count: int) -> Dataset:
    """A training set of noise."""
    return noise(*random_batch(count))


# -- measuring ------------------------------------------------------------------------------------

AHEAD = 16
"""Flushes before a round on a GPU: a millisecond of work, in which the host gets ahead."""


@dataclass(frozen=True)
class Measured:
    """Medians over rounds of a whole step.

    Attributes:
        calls: seconds of each call, in order.
        step: seconds of the step, call after call.
        gaps: seconds of each call in which a GPU waited for its launch; None without a queue.
        graph: seconds of the step as one graph; None without a queue.
        rounds: how many.
    """

    calls: np.ndarray
    step: float
    gaps: np.ndarray | None
    graph: float | None
    rounds: int


def measure(step: Step, seconds: float) -> Measured:
    """Run a step over and over and time its calls, for ``seconds``, warm-up apart.

    On a device a call takes what it takes as a graph of its own, queued behind other work; what it
    takes longer when it is launched kernel by kernel is its gap.
    """
    clock, runtime, runs = step.clock(), step.runtime, step.runs()
    share = seconds if runtime is None else seconds / 3
    launched = measure_each(runs, replace(clock, flush=lambda: None), share, before=step.prepare)
    each, whole = np.median(launched, axis=0), float(np.median(launched.sum(axis=1)))
    if runtime is None:
        return Measured(each, whole, None, None, len(launched))

    def flush() -> None:
        for _ in range(AHEAD):
            clock.flush()

    ahead = replace(clock, flush=flush)
    step.prepare()
    step.plan.call()  # the second stream allocates scratch, too
    graphs = [_captured(step.backend, run) for run in runs]
    alone = measure_each(graphs, ahead, share, before=step.prepare)
    graph = measure_each(
        [_captured(step.backend, step.plan.call)], ahead, share, before=step.prepare
    )
    busy = np.median(alone, axis=0)
    gaps = np.maximum(each - busy, 0.0)
    return Measured(busy, whole, gaps, float(np.median(graph)), len(alone))


def _captured(backend: Backend, run: Run) -> Callable[[], None]:
    graph = backend.capture(run)
    assert graph is not None  # it has a queue
    return graph


@dataclass(frozen=True)
class Span:
    """When a call of one traced step ran: seconds from the step's begin, for the host (which waits
    for it on a CPU and queues it on a device) and, with a queue, on the device."""

    host: tuple[float, float]
    device: tuple[float, float] | None


def spans(step: Step) -> list[Span]:
    """One step, call by call, after one to warm up."""
    step.prepare()
    runs, runtime = step.runs(), step.runtime
    for run in runs:
        run()
    step.prepare()
    if runtime is not None:
        runtime.synchronize()
    event = HostEvent if runtime is None else runtime.event
    first, marks, times = HostEvent(), [event()], []
    for run in runs:
        begin = HostEvent().seconds_since(first)
        run()
        times.append((begin, HostEvent().seconds_since(first)))
        marks.append(event())
    if runtime is None:
        return [Span(host, None) for host in times]
    points = [mark.seconds_since(marks[0]) for mark in marks]
    return [Span(host, device) for host, device in zip(times, pairwise(points), strict=True)]
