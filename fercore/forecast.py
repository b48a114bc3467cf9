"""How long runs will take, from the speeds measured so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """The work in one run.

    Attributes:
        run: id of the run.
        kind: what is trained; runs of one kind train equally fast.
        images: training images an epoch.
        epochs, steps: in the whole run, if it does not stop early.
        tested: validation images an epoch.
    """

    run: str
    kind: str
    images: int
    epochs: int
    steps: int
    tested: int


class Forecast:
    """Time that jobs will take, from the speeds seen so far."""

    TEST_SPEEDUP = 3.0
    """Testing is a forward pass, about a third of the arithmetic of training every layer."""

    def __init__(self, speeds: Mapping[str, float] = {}) -> None:
        self.speeds = dict(speeds)  # kind -> training images a second

    def observe(self, kind: str, images_per_s: float) -> None:
        self.speeds[kind] = images_per_s

    def seconds(self, job: Job, epochs: int | None = None) -> float | None:
        """Of ``epochs`` epochs (all, if None) of a job; None while no speed has been seen."""
        if not self.speeds:
            return None
        # An unseen kind is taken to be as slow as the slowest seen one.
        speed = self.speeds.get(job.kind, min(self.speeds.values()))
        testing = self.TEST_SPEEDUP * self.speeds.get("all", speed)
        count = job.epochs if epochs is None else epochs
        return count * (job.images / speed + job.tested / testing)

    def total(self, jobs: Sequence[Job]) -> float | None:
        times = [self.seconds(job) for job in jobs]
        return None if None in times else sum(time for time in times if time is not None)


def duration(seconds: float) -> str:
    """A time for people: ``45 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
