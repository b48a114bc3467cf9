"""Nothing waits for the host: an epoch is laid down once, and its steps are launches alone."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from cuda_kernels.emulated import EmulatedGraph
from fercore import backends, features, freeze
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.evaluation import Evaluator
from fercore.features import FeatureStore
from fercore.feed import IN_FLIGHT, Feed
from fercore.functions import SoftmaxCrossEntropy, augment
from fercore.nn import Context
from fercore.optim import Optimizer
from fercore.training import Stepper, permutation
from tests.narrow import narrow, start_step
from tests.small_data import striped

RECIPE = Recipe(
    epochs=3, batch_size=4, optimizer="adamw", clip_norm=1.0, flip=0.5, shift=1.0, rotation=5.0
)
SEED, RUN = 5, 7


@pytest.fixture(params=["cpu", "emulated"])
def backend(request):
    return get(request.param)


@pytest.fixture
def emulated():
    return get("emulated")


def get(name):
    try:
        return backends.get(name)
    except FercoreError as error:
        pytest.skip(str(error))


def make(backend, strategy="BL", images=10, shelf=None, **changes):
    """A narrow network and what trains it."""
    recipe = msgspec.structs.replace(RECIPE, **changes)
    model = narrow("tiny", backend)
    freeze.apply(model, strategy)
    optimizer = Optimizer(model.parameters(), recipe, backend)
    shelf = shelf or FeatureStore().shelf()
    stepper = Stepper(model, optimizer, striped(images), recipe, backend, shelf)
    return SimpleNamespace(model=model, optimizer=optimizer, stepper=stepper, recipe=recipe)


def run_epoch(one, epoch):
    """As training does; mean loss and accuracy."""
    steps, size = one.stepper.steps, one.recipe.batch_size
    rates = [0.01 / (1 + epoch + step) for step in range(steps)]
    one.stepper.start_epoch(SEED, RUN, epoch, rates)
    for step in range(steps):
        one.stepper.step(min(size, one.stepper.count - step * size))
    return one.stepper.finish_epoch()


def everything(one):
    tensors = {**one.model.state(), **one.optimizer.state()}
    return {name: array.tobytes() for name, array in tensors.items()}


def epoch_by_hand(one, epoch):
    """The same steps, each told by the host what it needs, one call after another."""
    stepper, backend = one.stepper, one.stepper.backend
    backend.fill(stepper.statistics, 0.0)
    order = permutation(stepper.count, SEED, RUN, epoch).astype(np.int32)
    view = np.array([SEED, RUN, epoch, 0], np.uint32)
    for step in range(stepper.steps):
        size = one.recipe.batch_size
        rows = backend.from_host(order[step * size : (step + 1) * size])
        rng = np.array([SEED, RUN, epoch, one.optimizer.steps], np.uint32)
        start_step(one.optimizer, 0.01 / (1 + epoch + step))
        x, y = augment(
            *(backend, stepper.images, stepper.labels, rows),
            *(backend.from_host(view), stepper.augmentation),
        )
        context = Context(training=True, rng=backend.from_host(rng), dropout=one.recipe.dropout)
        loss = SoftmaxCrossEntropy(stepper.statistics)(one.model(x, context), y)
        one.optimizer.minimise(backend, loss)
    return stepper.finish_epoch()


def test_steps_that_feed_themselves_compute_what_the_host_would_tell_them(backend):
    """Order, dropout's counters, rates, and the batch of two that is left over."""
    mine, by_hand = make(backend), make(backend)
    for epoch in (1, 2):
        assert run_epoch(mine, epoch) == epoch_by_hand(by_hand, epoch)
    assert mine.optimizer.steps == by_hand.optimizer.steps == 6
    assert everything(mine) == everything(by_hand)


def test_a_run_continues_with_the_steps_that_follow(backend):
    """The cursor's number of the step is that of the run, not of the epoch or the process."""
    whole, first, second = (make(backend) for _ in range(3))
    for epoch in (1, 2):
        run_epoch(whole, epoch)
    run_epoch(first, 1)
    second.model.load_state(first.model.state())
    second.optimizer.load_state(first.optimizer.state(), first.optimizer.steps)
    run_epoch(second, 2)
    assert everything(second) == everything(whole)


@pytest.fixture
def traffic(emulated, monkeypatch):
    """What goes between host and device: copies, launches by themselves, and whole graphs."""
    counted: Counter[str] = Counter()
    runtime = emulated.runtime

    def count(owner, name):
        method = getattr(owner, name)

        def counting(*args, **kwargs):
            counted[name] += 1
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for name in ("copy_in", "copy_out", "launch", "synchronize"):
        count(runtime, name)
    count(EmulatedGraph, "replay")
    return counted


@pytest.mark.parametrize("strategy", ["BL", "FC"])
def test_an_epoch_is_one_upload_and_one_readback_however_many_steps_it_has(
    emulated, traffic, strategy
):
    for batch_size, steps in ((5, 2), (2, 5)):
        one = make(emulated, strategy, batch_size=batch_size, views=2)
        for epoch in (1, 2, 3, 4):  # of two views: calls, then captured, of each
            run_epoch(one, epoch)
        assert (one.stepper.features is not None) == (strategy == "FC")
        traffic.clear()
        run_epoch(one, 5)
        # The view, the first step's random state, order, rates and cursor; then the statistics,
        # whose filling is the only launch that is not a step's.
        assert traffic == {"copy_in": 5, "copy_out": 1, "launch": 1, "replay": steps}


@pytest.mark.parametrize("strategy", ["BL", "FC"])
def test_a_test_is_read_once_however_many_batches_it_takes(
    emulated, traffic, monkeypatch, strategy
):
    for batch, batches in ((5, 2), (2, 4)):
        monkeypatch.setattr(features, "BATCH", batch)
        model = narrow("tiny", emulated)
        freeze.apply(model, strategy)
        images = striped(7)
        evaluator = Evaluator(model, images.images, images.labels, emulated)
        before = [evaluator() for _ in range(2)]
        traffic.clear()
        after = evaluator()
        # Order and cursor; the logits and the statistics.
        assert traffic == {"copy_in": 2, "copy_out": 2, "launch": 1, "replay": batches}
        assert all(one.logits.tobytes() == after.logits.tobytes() for one in before)
        # The last batch is not full, and nothing is counted that is no image.
        logits = after.logits.astype(np.float64)
        assert after.accuracy == np.mean(logits.argmax(axis=1) == images.labels)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = -log_p[np.arange(7), images.labels].mean()
        assert after.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("room", [0, 2**40], ids=["no room", "room"])
def test_features_that_a_device_has_no_room_for_change_nothing(emulated, monkeypatch, room):
    from_images = make(emulated, "FC", views=1, shelf=FeatureStore(memory=0).shelf())
    mine = make(emulated, "FC", views=1)
    monkeypatch.setattr(emulated.runtime, "free_memory", lambda: room)
    for epoch in (1, 2):
        assert run_epoch(mine, epoch) == run_epoch(from_images, epoch)
        assert (mine.stepper.features is None) == (room == 0)
    assert everything(mine) == everything(from_images)


def test_no_more_is_held_than_its_part_of_the_memory(emulated, monkeypatch):
    free = 4096
    monkeypatch.setattr(emulated.runtime, "free_memory", lambda: free)
    first = emulated.hold(np.zeros(600, np.uint8))
    free -= 600
    assert first is not None
    assert emulated.hold(np.zeros(425, np.uint8)) is None
    second = emulated.hold(np.zeros(424, np.uint8))
    assert second is not None
    del first
    free += 600
    assert emulated.hold(np.zeros(600, np.uint8)) is not None


def test_the_host_is_never_far_ahead(backend, monkeypatch):
    """However many steps are asked for, the host waits for them again and again."""
    asked, waits = [], []
    monkeypatch.setattr(backend, "synchronize", lambda: waits.append(len(asked)))
    feed = Feed(backend, 1)
    step = SimpleNamespace(replay=lambda: asked.append(1))
    for _ in range(3 * IN_FLIGHT + 1):
        feed.run(step)
    assert waits == [IN_FLIGHT, 2 * IN_FLIGHT, 3 * IN_FLIGHT]
