"""How long runs will take, from the speeds measured so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRAINING = 3
"""Operations of a training step for each of its forward pass: there are two gradients."""


@dataclass(frozen=True)
class Work:
    """Operations of a forward pass over an image: in the frozen layers below, and in the others."""

    below: float
    above: float


@dataclass(frozen=True)
class Job:
    """The work in one run.

    Attributes:
        run: id of the run.
        kind: what is trained; runs of one kind train equally fast.
        work: of its network.
        images: training images an epoch.
        epochs, steps: in the whole run, if it does not stop early.
        views: epochs after which the frozen layers have seen everything; 0: never.
        followed: validation images an epoch.
        tested: images at the end.
    """

    run: str
    kind: str
    work: Work
    images: int
    epochs: int
    steps: int
    views: int
    followed: int
    tested: int

    def is_new(self, epoch: int) -> bool:
        """Whether the frozen layers see new views in an epoch, counted from 1."""
        return not 0 < self.views < epoch

    def operations(self, new: bool) -> float:
        """Of training on one image, in a view that is new to the frozen layers or is not."""
        return TRAINING * self.work.above + (self.work.below if new else 0)

    @property
    def operations_a_step(self) -> float:
        """In the mean, where the frozen layers have seen the views."""
        return self.operations(new=False) * self.images * self.epochs / max(self.steps, 1)


class Forecast:
    """Time that jobs will take, from the speeds seen so far."""

    def __init__(self) -> None:
        # (kind, whether views were new) -> operations a second
        self.speeds: dict[tuple[str, bool], float] = {}

    def observe(self, job: Job, epoch: int, images_per_s: float) -> None:
        """An epoch of training ran at so many images a second."""
        new = job.is_new(epoch)
        self.speeds[job.kind, new] = images_per_s * job.operations(new)

    def seconds(self, job: Job, done: int = 0) -> float | None:
        """What is left of a job after ``done`` epochs; None while no speed has been seen."""
        if not self.speeds:
            return None
        all_new = min(job.views, job.epochs) if job.views else job.epochs
        new = max(all_new - done, 0)
        again = job.epochs - done - new
        operations = job.images * new * job.operations(True)
        testing = job.followed * (job.epochs - done) + job.tested
        operations += testing * job.work.above
        if done == 0:
            operations += job.followed * job.work.below
        time = operations / self._speed(job, True)
        return time + job.images * again * job.operations(False) / self._speed(job, False)

    def _speed(self, job: Job, new: bool) -> float:
        # What has not been seen is taken to be as slow as the slowest that has been.
        for known in ((job.kind, new), (job.kind, not new)):
            if known in self.speeds:
                return self.speeds[known]
        return min(self.speeds.values())

    def total(self, done: Mapping[Job, int]) -> float | None:
        """What is left of several jobs, each with the epochs that are done of it."""
        times = [self.seconds(job, epochs) for job, epochs in done.items()]
        return None if None in times else sum(time for time in times if time is not None)


def duration(seconds: float) -> str:
    """A time for people: ``45 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
