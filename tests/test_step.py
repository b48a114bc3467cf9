"""Recorded steps: the same bits as eager ones, in one arena where nothing that lives overlaps."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercore import backends, freeze
from fercore.backends.reference import ReferenceBackend
from fercore.config import Recipe
from fercore.step import record
from tests.narrow import MASKS, Training, narrow
from tests.spy import Spy

RECIPES = {
    "sgd": Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.01, clip_norm=0.5),
    "adam": Recipe(optimizer="adam", weight_decay=0.01),
}


def training(backend: Any, name: str, masks: str, recipe: Recipe) -> Training:
    model = narrow(name, backend, seed=3)
    MASKS[masks](model)
    return Training(backend, model, recipe)


def pair(*args: Any) -> tuple[Training, Training]:
    return training(*args), training(*args)


# -- the same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("masks", ["BL", "FC", "FC+CL", "channels"])
def test_replayed_steps_equal_eager_ones_bit_for_bit(backend, masks, recipe):
    """With dropout, augmentation, batch normalisation, and a last batch that is smaller."""
    eager, recorded = pair(backend, "tiny-bn", masks, RECIPES[recipe])
    sizes = [4, 4, 3, 4, 4, 3]
    expected = eager.steps(sizes)
    actual = recorded.steps(sizes, recorded=True)
    for logits, again in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(logits, again, strict=True)
    assert recorded.everything() == eager.everything()
    assert set(recorded.plans) == {3, 4}


@pytest.mark.parametrize("strategy", freeze.STRATEGIES)
def test_every_strategy_is_the_same_eager_and_recorded(backend, strategy):
    """On the cpu and the emulated device, too: in the same bits."""
    eager, recorded = pair(backend, "tiny", strategy, RECIPES["sgd"])
    for logits, again in zip(
        eager.steps([3, 2]), recorded.steps([3, 2], recorded=True), strict=True
    ):
        np.testing.assert_array_equal(logits, again, strict=True)
    assert recorded.everything() == eager.everything()


def test_replayed_steps_equal_eager_ones_without_normalisation(backend):
    eager, recorded = pair(backend, "svgg5", "RE", RECIPES["sgd"])
    eager.steps([4, 4, 2])
    recorded.steps([4, 4, 2], recorded=True)
    assert recorded.everything() == eager.everything()


def test_replayed_steps_equal_eager_ones_with_masks_by_element(backend):
    eager, recorded = pair(backend, "tiny", "elements", RECIPES["sgd"])
    eager.steps([4, 4])
    recorded.steps([4, 4], recorded=True)
    assert recorded.everything() == eager.everything()


def test_replay_makes_the_calls_of_an_eager_step_in_their_order(reference):
    eager, recorded = pair(reference, "tiny-bn", "FC+CL", RECIPES["sgd"])
    spy: Any = Spy(reference)
    eager.step(backend=spy)
    plan = recorded.record(4)
    assert [call.method for call in plan.calls] == spy.methods


def test_recording_computes_nothing(backend):
    one = training(backend, "tiny-bn", "BL", RECIPES["sgd"])
    backend.fill(one.optimizer.rates, 1.0)
    before = one.everything()
    one.record(4)
    assert one.everything() == before


def test_replay_allocates_nothing(reference):
    spy: Any = Spy(reference)
    one = training(spy, "tiny-bn", "BL", RECIPES["sgd"])
    plan = one.record(4)
    one.prepare(4)
    before = spy.allocations
    plan.replay()
    assert spy.allocations == before
    assert spy.methods[-len(plan.calls) :] == [call.method for call in plan.calls]


def test_calls_carry_the_layer_and_the_direction(reference):
    plan = training(reference, "tiny", "FC+CL", RECIPES["sgd"]).record(4)
    labels = [call.label for call in plan.calls]
    assert labels[0] == "augment forward"
    assert labels[1:11] == [
        f"conv{block}_{index} forward"
        for block, count in enumerate((2, 2, 3, 3), start=1)
        for index in range(1, count + 1)
    ]
    assert "loss forward" in labels
    assert "conv4_2 backward" not in labels
    assert [label for label in labels if label.endswith("update")] == [
        f"{layer} update" for layer in ("fc3", "fc2", "fc1", "conv4_3") for _ in range(2)
    ]
    assert labels[-9] == "clip"
    text = str(plan)
    assert len(text.splitlines()) == len(plan.calls) + 3  # a heading, the end and the arena
    assert "conv4_3 backward" in text
    assert f"{len(plan.calls)} calls; arena" in text


# -- the arena ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "share"), [("BL", 0.8), ("FC", 0.6)])
def test_the_arena_is_smaller_than_what_was_asked_for(backend, strategy, share):
    plan = training(backend, "tiny", strategy, RECIPES["sgd"]).record(4)
    assert plan.arena_bytes < share * plan.requested_bytes


def test_frozen_layers_need_less_memory(reference):
    arena = {
        strategy: training(reference, "tiny", strategy, RECIPES["sgd"]).record(4).arena_bytes
        for strategy in ("BL", "FC")
    }
    assert arena["FC"] < 0.5 * arena["BL"]


def test_the_arena_goes_with_its_plan(reference):
    """At once, not when garbage is collected: the next training needs the memory."""
    plan = training(reference, "tiny", "BL", RECIPES["sgd"]).record(4)
    arena = weakref.ref(plan.arena)
    gc.disable()
    try:
        del plan
        assert arena() is None
    finally:
        gc.enable()


def test_plans_that_run_at_other_times_may_share_an_arena(backend):
    def program(size: int) -> Any:
        def run(recorder: Any) -> list[Any]:
            buffer = recorder.empty((size,))
            recorder.fill(buffer, float(size))
            return [buffer]

        return run

    first = record(backend, program(40))
    smaller = record(backend, program(20), arenas=[first.arena])
    larger = record(backend, program(60), arenas=[first.arena])
    assert smaller.arena is first.arena
    assert larger.arena is not first.arena
    for plan, size in ((first, 40), (smaller, 20), (larger, 60), (first, 40)):
        plan.replay()
        assert backend.to_host(plan.outputs[0]).tolist() == [size] * size


def test_live_bytes_are_those_of_the_buffers_in_use(reference):
    def program(recorder: Any) -> list[Any]:
        one, two, three = (recorder.empty((size,)) for size in (10, 20, 30))
        recorder.fill(one, 0.0)
        recorder.fill(two, 0.0)
        recorder.accumulate(one, two)
        recorder.fill(three, 0.0)
        return [three]

    recording = record(reference, program).recording
    assert recording.live_bytes() == [80, 240, 240, 240]
    assert [one.nbytes for one in recording.allocations] == [80, 160, 240]


class Notebook(ReferenceBackend):
    """``use`` marks a buffer when it is first used, and later finds the mark whole."""

    def use(self, marks: list[int], first: list[bool], *buffers: np.ndarray) -> None:
        for mark, new, buffer in zip(marks, first, buffers, strict=True):
            content = buffer.reshape(-1).view(np.uint8)
            if new:
                content[:] = mark
            assert (content == mark).all(), f"buffer {mark} was overwritten while it was alive"


@st.composite
def programs(draw: Any) -> tuple[list[int], list[list[int]], list[int]]:
    """Sizes of buffers in entries, the buffers each call uses, and those that are returned."""
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
    one = st.integers(0, len(sizes) - 1)
    calls = draw(
        st.lists(st.lists(one, min_size=1, max_size=4, unique=True), min_size=1, max_size=20)
    )
    used = sorted({number for call in calls for number in call})
    outputs = draw(st.lists(st.sampled_from(used), max_size=3))
    return sizes, calls, outputs


@settings(max_examples=150, deadline=None, derandomize=True)
@given(programs(), st.booleans())
def test_buffers_that_live_at_the_same_time_never_overlap(program, through_views):
    sizes, calls, outputs = program
    backend = Notebook()
    dtypes = ["float64" if number % 2 else "uint8" for number in range(len(sizes))]

    def run(recorder: Any) -> list[Any]:
        buffers = [recorder.empty((s,), d) for s, d in zip(sizes, dtypes, strict=True)]
        seen: set[int] = set()
        for call in calls:
            arguments = []
            for number in call:
                buffer = buffers[number]
                if through_views and number in seen:  # of the last entry, through two views
                    half = recorder.view(buffer, 0, (sizes[number],), dtypes[number])
                    item = np.dtype(dtypes[number]).itemsize
                    buffer = recorder.view(half, (sizes[number] - 1) * item, (1,), dtypes[number])
                arguments.append(buffer)
            recorder.use(call, [number not in seen for number in call], *arguments)
            seen.update(call)
        return [buffers[number] for number in outputs]

    plan = record(backend, run)
    plan.replay()
    plan.replay()  # whatever the first one left behind
    for number, output in zip(outputs, plan.outputs, strict=True):
        assert output.shape == (sizes[number],)
        assert output.dtype == dtypes[number]
        assert (output.view(np.uint8) == number).all(), "an output was overwritten"

    used = {number for call in calls for number in call}
    nbytes = {number: sizes[number] * np.dtype(dtypes[number]).itemsize for number in used}
    assert plan.requested_bytes == sum(nbytes.values())
    assert plan.arena_bytes <= sum(-(-size // 64) * 64 for size in nbytes.values())
    if not through_views and calls:
        places = [buffer.ctypes.data for call in plan.calls for buffer in call.args[2:]]
        assert all((place - min(places)) % 64 == 0 for place in places)


def test_a_view_of_a_view_lies_where_it_should(backend):
    item = np.dtype(backend.dtype).itemsize

    def program(recorder: Any) -> list[Any]:
        buffers = [recorder.empty((8,)) for _ in range(2)]
        for buffer in buffers:
            recorder.fill(buffer, 0.0)
        outer = recorder.view(buffers[1], 2 * item, (5,), backend.dtype)
        recorder.fill(recorder.view(outer, 3 * item, (2,), backend.dtype), 7.0)
        return [*buffers, outer]

    plan = record(backend, program)
    plan.replay()
    first, second, outer = (backend.to_host(output).tolist() for output in plan.outputs)
    assert first == [0] * 8
    assert second == [0, 0, 0, 0, 0, 7, 7, 0]
    assert outer == [0, 0, 0, 7, 7]


def test_an_output_that_nothing_writes_has_a_place_of_its_own(backend):
    def program(recorder: Any) -> list[Any]:
        used, idle = recorder.empty((4,)), recorder.empty((4,))
        recorder.fill(used, 1.0)
        return [used, idle]

    plan = record(backend, program)
    backend.fill(plan.outputs[1], 5.0)
    plan.replay()
    assert backend.to_host(plan.outputs[1]).tolist() == [5.0] * 4


def test_views_of_buffers_made_outside_stay_views(backend):
    outside = backend.from_host(np.zeros(6))

    def program(recorder: Any) -> list[Any]:
        item = np.dtype(backend.dtype).itemsize
        recorder.fill(recorder.view(outside, 2 * item, (3,), backend.dtype), 7.0)
        return []

    plan = record(backend, program)
    assert backend.to_host(outside).tolist() == [0] * 6
    plan.replay()
    assert backend.to_host(outside).tolist() == [0, 0, 7, 7, 7, 0]
    assert plan.arena_bytes == 0


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.from_host(np.zeros(3)),
        lambda b: b.to_host(b.empty((3,))),
        lambda b: b.write(b.empty((3,)), np.zeros(3)),
    ],
    ids=["from_host", "to_host", "write"],
)
def test_the_host_cannot_be_part_of_a_step(backend, call):
    with pytest.raises(RuntimeError, match="cannot be part of a recorded step; do it outside"):
        record(backend, lambda recorder: [call(recorder)])


def test_an_unknown_method_fails_as_it_would_eagerly(backend):
    with pytest.raises(AttributeError, match="conv3d_forward"):
        record(backend, lambda recorder: [recorder.conv3d_forward()])


def test_a_plan_is_for_the_backend_that_recorded_it(reference):
    single = backends.get("reference", dtype="float32")

    def program(recorder: Any) -> list[Any]:
        buffer = recorder.empty((2,))
        recorder.fill(buffer, 0.0)
        return [buffer]

    plan = record(single, program)
    assert plan.backend is single
    assert plan.outputs[0].dtype == np.float32


def test_a_program_that_ignores_the_recorder_is_refused(reference):
    def program(_recorder):
        return [reference.empty((3,))]

    with pytest.raises(ValueError, match="nothing was recorded"):
        record(reference, program)
