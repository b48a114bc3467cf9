"""Two streams: what runs beside what, and that no order of them can change a bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercore import backends, freeze, plan_report, streams
from fercore.backends.reference import ReferenceBackend
from fercore.backends.waves import FULL
from fercore.config import Recipe
from fercore.costs import GPUS
from fercore.errors import FercoreError
from fercore.memory import Workload
from fercore.plan_report import PlanReport
from fercore.step import Placeholder, Plan, _place, record
from tests.narrow import MASKS, Training, narrow
from tests.ordering import any_order, races, reachable

RECIPE = Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.01)
NETWORKS = [*(("tiny", name) for name in freeze.STRATEGIES), ("svgg5", "BL"), ("tiny-bn", "RE")]


@pytest.fixture(params=["reference", "cpu", "emulated"])
def host_backend(request, monkeypatch):
    """A backend whose buffers are NumPy's, and whose calls all leave room for others."""
    try:
        backend = backends.get(request.param)
    except FercoreError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(backend, "leaves_room", lambda *_: True)
    return backend


def training(backend: Any, name: str, masks: str, recipe: Recipe = RECIPE) -> Training:
    model = narrow(name, backend, seed=3)
    MASKS[masks](model)
    return Training(backend, model, recipe, two_streams=True)


# -- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "strategy"), NETWORKS)
def test_any_order_of_the_streams_gives_the_same_bits(host_backend, random, name, strategy):
    """Of every call, in the arena that both streams share; the poison would show a missing one."""
    eager, recorded = (training(host_backend, name, strategy) for _ in range(2))
    plan = recorded.record(3)
    order = plan.recording.order
    orders = [any_order(order, random) for _ in range(4)]
    assert len(set(map(tuple, orders))) > 1, "they differ"
    runs = plan.runs()
    for calls in orders:
        logits = eager.step(3)
        recorded.prepare(3)
        plan.arena.view(np.uint8)[:] = 0xFF
        for call in calls:
            runs[call]()
        np.testing.assert_array_equal(host_backend.to_host(plan.outputs[0]), logits)
    assert recorded.everything() == eager.everything()


def test_replayed_steps_equal_eager_ones(host_backend):
    """Call by call at first, then as a graph where there are graphs."""
    eager, recorded = (training(host_backend, "tiny", "RE") for _ in range(2))
    expected, actual = eager.steps([3] * 4), recorded.steps([3] * 4, recorded=True)
    for logits, again in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(logits, again, strict=True)
    assert recorded.everything() == eager.everything()


class TwoStreams(ReferenceBackend):
    """Notes what is asked of it: calls by stream, points, waits."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, int, int]] = []  # what, in which stream, and its number
        self.now = 0

    def leaves_room(self, *_: Any) -> bool:
        return True

    @contextmanager
    def stream(self, number: int) -> Iterator[None]:
        assert self.now == 0
        self.now = number
        yield
        self.now = 0

    @contextmanager
    def scope(self, label: str) -> Iterator[None]:
        yield
        self.log.append(("call", self.now, sum(what == "call" for what, *_ in self.log)))

    def point(self) -> int:
        self.log.append(("point", self.now, len(self.log)))
        return len(self.log) - 1

    def wait(self, point: int) -> None:
        self.log.append(("wait", self.now, point))


def test_streams_fork_and_join_as_a_capture_needs_it():
    """Stream 1 first waits for stream 0, every wait is for a point of the other stream that comes
    right after the call that is waited for, and in the end stream 0 has waited for stream 1."""
    backend = TwoStreams()
    plan = training(backend, "tiny", "BL").record(3)
    order = plan.recording.order
    backend.log.clear()
    plan.call()
    log, made = backend.log, -1
    waits = dict.fromkeys(range(order.end + 1))
    for what, stream, number in log:
        if what == "call":
            made = number
            assert stream == order.streams[number]
        elif what == "wait":
            assert log[number][:2] == ("point", 1 - stream)
            before, _, call = log[number - 1]
            assert before == "call"
            waits[made + 1] = call
    assert tuple(waits.values()) == order.waits
    assert next(entry for entry in log if entry[1] == 1)[0] == "wait", "the fork"
    assert log[-1][:2] == ("wait", 0), "the join"
    assert waits[order.end] == max(call for call, stream in enumerate(order.streams) if stream)


def test_kernels_of_both_streams_may_alternate(random, monkeypatch):
    """One launch of either at a time: what they leave to one another in scratch stays their own."""
    try:
        backend = backends.get("emulated")
    except FercoreError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(backend, "leaves_room", lambda *_: True)
    recipe = Recipe(optimizer="sgd", clip_norm=0.5)  # so that products sum their slices at once
    eager, recorded = (training(backend, "tiny-bn", "BL", recipe) for _ in range(2))
    plan = recorded.record(3)
    order, runtime = plan.recording.order, backend.runtime
    for step in range(3):
        eager.step(3)
        recorded.prepare(3)
        if step == 0:  # builds kernels, allocates scratch
            plan.call()
            continue
        launches = []
        for number, run in enumerate(plan.runs()):
            with backend.stream(order.streams[number]), runtime.capture() as graph:
                run()
            launches.append(list(graph._launches))
        for call in launch_by_launch(order, launches, random):
            call()
    assert recorded.everything() == eager.everything()
    assert len({key[1] for key in runtime._scratch}) == 2, "either stream has scratch"


def launch_by_launch(order: streams.Order, launches: list[list[Any]], random: np.random.Generator):
    """Launches as two streams might do them."""
    left = [[c for c in range(order.end) if order.streams[c] == stream] for stream in (0, 1)]
    while any(left):
        ready = [
            calls
            for calls in left
            if calls and (order.waits[calls[0]] is None or not launches[order.waits[calls[0]]])
        ]
        calls = ready[random.integers(len(ready))]
        if launches[calls[0]]:
            yield launches[calls[0]].pop(0)
        if not launches[calls[0]]:
            calls.pop(0)


# -- no races -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "strategy"), NETWORKS)
def test_whatever_touches_the_same_bytes_is_ordered(host_backend, name, strategy):
    for recipe in (RECIPE, Recipe(optimizer="adam", clip_norm=0.5)):
        plan = training(host_backend, name, strategy, recipe).record(3)
        assert races(plan, plan.recording.order) == []


def test_a_wait_that_is_left_out_is_seen(host_backend):
    """Each of stream 1's, which has none in vain, and all of stream 0's together: for memory."""
    plan = training(host_backend, "tiny", "BL").record(3)
    order = plan.recording.order
    waiting = {
        stream: [c for c in range(order.end) if order.streams[c] == stream and order.waits[c]]
        for stream in (0, 1)
    }
    assert min(map(len, waiting.values())) > 8
    for calls in ([call] for call in waiting[1]), [waiting[0]]:
        for left_out in calls:
            waits = [None if c in left_out else w for c, w in enumerate(order.waits)]
            assert races(plan, replace(order, waits=tuple(waits))), f"nobody misses {left_out}"


def test_an_arena_for_one_stream_would_race(host_backend, monkeypatch):
    """Buffers that are placed by the list of calls, as if that was their only order."""
    in_order = streams.order([0] * 500, [()] * 500)
    monkeypatch.setattr("fercore.step._place", lambda used, _: _place(used, in_order))
    plan = training(host_backend, "tiny", "BL").record(3)
    assert races(plan, plan.recording.order)


def test_the_end_comes_after_everything(host_backend):
    for strategy in freeze.STRATEGIES:
        order = training(host_backend, "tiny", strategy).record(3).recording.order
        assert reachable(order)[order.end] == set(range(order.end))


@st.composite
def orders(draw: Any) -> streams.Order:
    """Calls in streams, with whatever calls they need."""
    chosen = draw(st.lists(st.integers(0, 1), min_size=1, max_size=14))
    needed = [
        draw(st.sets(st.integers(0, call - 1), max_size=2)) if call else set()
        for call in range(len(chosen))
    ]
    return streams.order(chosen, needed)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(orders(), st.data())
def test_what_comes_before_is_what_the_edges_say(order, data):
    before = reachable(order)
    for one, other in itertools.product(range(order.end + 1), repeat=2):
        assert order.before(one, other) == (one in before[other])
    some = st.lists(st.integers(0, order.end), min_size=1, max_size=4).map(sorted)
    ones, others = data.draw(some), data.draw(some)
    pairs = itertools.product(ones, others)
    assert order.all_before(ones, others) == all(one in before[other] for one, other in pairs)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(orders(), st.data())
def test_buffers_share_a_place_only_one_after_the_other(order, data):
    before = reachable(order)
    calls = st.lists(st.integers(0, order.end), min_size=1, max_size=4, unique=True).map(sorted)
    buffers = [
        Placeholder((data.draw(st.integers(1, 200)),), np.dtype(np.uint8), uses=data.draw(calls))
        for _ in range(data.draw(st.integers(2, 8)))
    ]
    total = _place(buffers, order)
    for one, other in itertools.combinations(buffers, 2):
        assert max(one.offset + one.nbytes, other.offset + other.nbytes) <= total
        apart = one.offset + one.nbytes <= other.offset or other.offset + other.nbytes <= one.offset
        if not apart:
            first, second = sorted((one, other), key=lambda buffer: buffer.first)
            assert all(a in before[b] for a in first.uses for b in second.uses)


# -- what is chosen -------------------------------------------------------------------------------


def sides(plan: Plan) -> list[str]:
    """The calls of the second stream."""
    chosen = zip(plan.calls, plan.recording.order.streams, strict=False)
    return [f"{call.label} {call.method}" for call, stream in chosen if stream]


def test_weight_gradients_and_their_updates_run_beside(host_backend):
    plan = training(host_backend, "tiny", "FC+CL").record(3)
    expected = []
    for layer in ("fc3", "fc2", "fc1"):
        expected += [
            f"{layer} backward linear_weight_gradient",
            *[f"{layer} update sgd_update"] * 2,
        ]
    # Below conv4_3 everything is frozen: there is no input gradient beside its weight gradient.
    assert sides(plan) == expected


def test_stream_0_is_at_most_one_layer_ahead(host_backend, monkeypatch):
    """So the arena is smaller than if it went on to the end."""
    plan = training(host_backend, "tiny", "BL").record(3)
    order, methods = plan.recording.order, [call.method for call in plan.calls]
    inputs = [number for number, method in enumerate(methods) if "input_gradient" in method]
    assert len(inputs) > 10
    for above, below in itertools.pairwise(inputs):
        before = [n for n in range(above) if order.streams[n] and "weight_gradient" in methods[n]]
        assert all(order.before(number, below) for number in before)
        assert not any(
            order.before(number, below) for number in range(above, below) if order.streams[number]
        )
    monkeypatch.setattr(streams, "bound_lead", lambda *_: None)
    assert plan.arena_bytes < training(host_backend, "tiny", "BL").record(3).arena_bytes


def test_with_clipping_updates_come_last_in_order(host_backend):
    recipe = Recipe(optimizer="sgd", clip_norm=0.5)
    plan = training(host_backend, "tiny", "FC+CL", recipe).record(3)
    assert {side.split()[-1] for side in sides(plan)} == {"linear_weight_gradient"}


def test_an_update_waits_for_whoever_reads_the_weight(host_backend):
    plan = training(host_backend, "tiny", "BL").record(3)
    names = [f"{call.label} {call.method}" for call in plan.calls]
    update = names.index("fc2 update sgd_update")
    assert plan.recording.order.before(names.index("fc2 backward linear_input_gradient"), update)


def test_there_is_one_stream_where_nothing_leaves_room(reference):
    plan = training(reference, "tiny", "BL").record(3)
    assert sides(plan) == []
    assert set(plan.recording.order.waits) == {None}


def test_views_of_outside_buffers_are_the_same_memory(host_backend):
    weight, x = (host_backend.from_host(np.ones(shape)) for shape in ((2, 3), (4, 3)))
    moved = host_backend.empty((4,), "float64")
    host_backend.fill(moved, 1.0)

    def program(recorder: Any) -> list[Any]:
        before, grad_x, grad_weight = (recorder.empty(s) for s in ((4, 2), (4, 3), (2, 3)))
        recorder.fill(before, 1.0)
        recorder.linear_input_gradient(before, weight, grad_x)
        recorder.linear_weight_gradient(x, before, grad_weight, None)
        view = recorder.view(weight, 0, (2, 3), host_backend.dtype)
        recorder.sgd_update(view, grad_weight, None, None, moved)
        return [grad_x]

    order = record(host_backend, program, two_streams=True).recording.order
    assert order.streams == (0, 0, 1, 1, 0)
    assert order.waits == (None, None, 0, 1, 3), "the update waits for the product with the weight"


# -- on a device ----------------------------------------------------------------------------------


def plan_of(batch: int, **options: Any) -> PlanReport:
    """Of a step of svgg10 in bf16 on an H200."""
    recipe = Recipe(batch_size=batch)
    workload = Workload("svgg10", freeze.STRATEGIES["BL"], recipe, images=batch, **options)
    return plan_report.make(workload, "cuda", "bf16", GPUS["h200"])


@pytest.mark.parametrize("batch", [256, 1024])
def test_what_runs_beside_is_where_waves_are_not_full(batch):
    """The larger of its and its partner's last waves decides, as the listed kernels have them."""
    report = plan_of(batch)
    partial: dict[str, bool] = {}
    for call in report.calls:
        if call.label.endswith("backward") and call.method.endswith("t_gradient") and call.kernels:
            largest = max(call.kernels, key=lambda kernel: kernel.flops)
            waves = math.prod(largest.grid) / 132
            partial[f"{call.label} {call.method}"] = waves / math.ceil(waves) < FULL
    beside = {
        call.label for call in report.calls if call.stream and call.label.endswith("backward")
    }
    assert beside
    for call in report.calls:
        if call.method.endswith("weight_gradient"):
            kind = call.method.partition("_")[0]
            pair = [f"{call.label} {kind}_{which}_gradient" for which in ("input", "weight")]
            wanted = pair[0] in partial and (partial[pair[0]] or partial[pair[1]])
            assert (call.label in beside) == wanted, call.label
    assert "conv1_1 backward" not in beside, "it has no input gradient"


def test_the_switch_and_its_memory():
    on, off = plan_of(256), plan_of(256, without=("side_stream",))
    assert sum(call.stream for call in on.calls) > 10
    assert not any(call.stream or call.waits is not None for call in off.calls)
    assert off.joined is None
    assert on.arena_bytes > on.one_stream_bytes == off.arena_bytes == off.one_stream_bytes
    assert on.memory.parts["steps"] == on.arena_bytes, "what is predicted knows of it"
    text = plan_report.to_text(on)
    assert f"the end for call {on.joined}" in text
    assert "in stream 1, after call" in text
    assert "in stream 1" not in plan_report.to_text(off)


def test_the_plan_says_what_runs_beside(host_backend):
    plan = training(host_backend, "tiny", "BL").record(3)
    lines = {line.split()[0]: line for line in str(plan).splitlines()[1:-1]}
    order = plan.recording.order
    update = next(line for line in lines.values() if "fc2 update" in line)
    assert "1 after" in update
    assert lines[str(order.end)].split()[1:] == ["end", "0", "after", str(order.waits[order.end])]
