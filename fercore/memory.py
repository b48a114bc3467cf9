"""How much memory a training takes, known before it starts.

What training would allocate is what the same code allocates on a backend without memory: network,
optimizer, images, every step and every test that it records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import msgspec
import numpy as np

from fercore import freeze, models
from fercore.backends.interface import Backend, Buffer
from fercore.backends.sketch import LAUNCHING, SketchBackend
from fercore.config import Recipe
from fercore.data.dataset import BASIC, SIZE, Dataset
from fercore.errors import FercoreError
from fercore.evaluation import Evaluator
from fercore.features import DISK, FeatureStore, FrozenLayers
from fercore.freeze import Strategy
from fercore.fusions import separate
from fercore.nn import Model
from fercore.optim import Optimizer
from fercore.step import Plan
from fercore.training import Stepper


@dataclass(frozen=True)
class Workload:
    """A training: of what network, adapted how, on how many images.

    Attributes:
        model: the network's name.
        strategy: what may move.
        recipe: how it is trained; ``batch_size`` images are one step.
        images: in the training set.
        validation: images in each set that is tested after every epoch.
        tested: images in the largest set that is tested at the end.
        without: fusions that are switched off; see ``fercore.fusions``.
        classes: that the network tells apart.
    """

    model: str
    strategy: Strategy
    recipe: Recipe
    images: int
    validation: tuple[int, ...] = ()
    tested: int = 0
    without: tuple[str, ...] = ()
    classes: int = BASIC

    def build(self, backend: Backend, seed: int | None) -> Model:
        """The network, with its masks set; see ``models.build`` for the seed."""
        model = models.build(self.model, self.classes, seed, backend=backend)
        freeze.apply(model, self.strategy)
        return separate(model, self.without)

    def optimizer(self, model: Model, backend: Backend) -> Optimizer:
        """What moves the network."""
        fused = "update" not in self.without
        return Optimizer(model.parameters(), self.recipe, backend, sums_slices=fused)

    @property
    def two_streams(self) -> bool:
        """Whether weight gradients may run beside input gradients."""
        return "side_stream" not in self.without


@dataclass(frozen=True)
class Footprint:
    """Bytes of a backend's memory that a training takes.

    Attributes:
        parts: what they are for while it trains.
        peak: the most at any time, the test at the end included. What libraries and drivers, or
            the cpu's kernels, take for themselves is not counted.
    """

    parts: dict[str, int]
    peak: int


def footprint(workload: Workload, device: str, precision: str = "fp32") -> Footprint:
    """The memory of a training on the backend called ``device``; none of it is allocated."""
    sketch = SketchBackend(precision, device=device)
    parts: dict[str, int] = {}

    def take(part: str, *, of_which: int = 0) -> None:
        parts[part] = sketch.allocated - sum(parts.values()) - of_which

    model = workload.build(sketch, None)
    take("parameters")
    optimizer = workload.optimizer(model, sketch)
    take("moments")
    stepper = Stepper(
        model,
        optimizer,
        blank_images(workload.images),
        workload.recipe,
        sketch,
        FeatureStore().shelf(),
        two_streams=workload.two_streams,
    )
    frozen = [] if stepper.frozen is None else [stepper.frozen.plan]
    below = sum(plan.arena_bytes for plan in frozen)
    take("images", of_which=below)
    steps = list(_steps(stepper, workload))
    take("steps", of_which=below)
    parts["frozen layers"] = below
    evaluators = [_evaluator(model, count, sketch) for count in workload.validation]
    tests = [_tests(one) for one in evaluators]
    take("validation")
    if device in LAUNCHING:  # at their first launch
        _launch(frozen, steps, *tests)
        take("kernels' scratch")
    del stepper, frozen, steps, evaluators, tests, optimizer
    _tests(_evaluator(model, workload.tested, sketch))
    return Footprint(parts, sketch.peak)


def refuse_what_does_not_fit(
    workloads: Iterable[Workload], backend: Backend, precision: str = "fp32"
) -> int:
    """The bytes that the largest training needs.

    Raises FercoreError, with the largest batch that fits, if that is more than there is.
    """
    free = backend.free_memory()
    largest = 0
    for workload in workloads:
        needed = footprint(workload, backend.name, precision).peak
        largest = max(largest, needed)
        if free is None or needed <= free:
            continue
        fits = largest_batch(workload, free, backend.name, precision)
        mend = f"the largest batch_size that fits is {fits}" if fits else "not even 1 fits"
        raise FercoreError(
            f"{workload.strategy.name} of {workload.model} with batch_size "
            f"{workload.recipe.batch_size} takes {gib(needed)} of memory, and "
            f"{backend.name} has {gib(free)} left; {mend}"
        )
    return largest


def largest_batch(workload: Workload, free: int, device: str, precision: str = "fp32") -> int:
    """The most images a step that fit into so many bytes; 0 if there is no such batch."""

    def fits(size: int) -> bool:
        recipe = msgspec.structs.replace(workload.recipe, batch_size=size)
        return footprint(replace(workload, recipe=recipe), device, precision).peak <= free

    low, high = 0, min(workload.recipe.batch_size, workload.images) + 1  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def blank_images(count: int) -> Dataset:
    """A training set that has a size and takes no memory."""
    images = np.broadcast_to(np.zeros((), np.uint8), (count, SIZE, SIZE))
    labels = np.broadcast_to(np.zeros((), np.int32), (count,))
    return noise(images, labels)


def noise(images: np.ndarray, labels: np.ndarray) -> Dataset:
    """Images that come from nowhere, as a dataset."""
    nobody = ("",) * len(labels)
    return Dataset("noise", "noise", images, labels, nobody, nobody, nobody, nobody, nobody)


def gib(size: int) -> str:
    """A size for people: ``1.25 GiB``, ``300 MiB``."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _steps(stepper: Stepper, workload: Workload) -> Iterator[Plan]:
    """Every step that training records: of a whole batch, and of the images that are left over."""
    size = min(workload.recipe.batch_size, workload.images)
    sizes = [size, workload.images % size] if workload.images % size else [size]
    if stepper.frozen is not None:
        features = _features(stepper.frozen)
        for one in sizes:
            yield stepper.from_features(one, features)
        kept = workload.images * stepper.views * stepper.frozen.feature_bytes
        if kept <= DISK:
            return
    for one in sizes:  # there is no room for all the features
        yield stepper.from_images(one)


def _launch(*plans: Iterable[Plan]) -> None:
    """Make every call, so that what is allocated at first use is allocated."""
    for plan in chain(*plans):
        plan.replay()


def _evaluator(model: Model, count: int, backend: Backend) -> Evaluator:
    images = blank_images(count)
    return Evaluator(model, images.images, images.labels, backend)


def _tests(evaluator: Evaluator) -> list[Plan]:
    """What an evaluator records."""
    if not evaluator.below.depth:
        return [evaluator.from_images()]
    return [evaluator.below.plan, evaluator.from_features(_features(evaluator.below))]


def _features(frozen: FrozenLayers) -> Buffer:
    """Of all images; they are held where they leave enough room, and so take none here."""
    output = frozen.output
    shape = (len(frozen.images), *output.shape[1:])
    return frozen.backend.hold(np.broadcast_to(np.zeros((), output.dtype), shape))
