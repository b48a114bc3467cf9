"""Measured steps: the training's own, call by call; their report and their trace."""

from __future__ import annotations

import json
from collections import defaultdict
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from fercore import backends, models, plan_report, profile_report, profiling, trace
from fercore.backends.sketch import SketchBackend
from fercore.config import Recipe, Study
from fercore.costs import GPUS, Limits
from fercore.errors import FercoreError
from fercore.memory import Workload
from fercore.profiling import Measured, Step
from tests.narrow import ARCHITECTURES

LIMITS = Limits("a machine", "made up", 1e9, {"fp32": 1e10})


@pytest.fixture(autouse=True)
def narrow_networks():
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        yield


def workload(model="tiny", strategy="BL", batch=4, **options):
    chosen = Study().strategy_named(strategy)
    recipe = msgspec.structs.replace(Study().recipe_of(chosen), batch_size=batch)
    return Workload(model, chosen, recipe, 20, **options)


@pytest.fixture(params=["reference", "cpu", "emulated"])
def ready(request):
    """A backend in float32, with a queue and without one."""
    try:
        options = {"dtype": "float32"} if request.param == "reference" else {}
        return backends.get(request.param, **options)
    except FercoreError as error:
        pytest.skip(str(error))


# -- the step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["BL", "FC"])
def test_a_step_is_the_same_with_and_without_memory(ready, strategy):
    chosen = workload("tiny-bn", strategy)
    real, sketch = Step(chosen, ready), Step(chosen, SketchBackend(device=ready.name))
    assert str(real.plan) == str(sketch.plan)
    assert real.starts_from == sketch.starts_from == {"BL": "images", "FC": "features"}[strategy]
    assert real.plan.arena_bytes == sketch.plan.arena_bytes


def test_a_step_trains(ready):
    step = Step(workload(), ready)
    before = step.model.state()
    step.prepare()
    step.plan.replay()
    after = step.model.state()
    assert all(np.isfinite(array).all() for array in after.values())
    assert (before["conv1_1.weight"] != after["conv1_1.weight"]).all()
    assert step.optimizer.steps == 1


# -- measuring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["BL", "FC"])
def test_every_call_has_a_time(ready, strategy):
    step = Step(workload(strategy=strategy), ready)
    measured = profiling.measure(step, 0.0)
    assert measured.calls.shape == (len(step.plan.calls),)
    assert (measured.calls > 0).all()
    assert measured.step > 0
    queue = ready.name == "emulated"
    assert (measured.graph is not None) == (measured.gaps is not None) == queue
    assert measured.rounds == (1 if queue else 3)
    if queue:
        assert measured.gaps.shape == measured.calls.shape
        assert (measured.gaps >= 0).all()


def test_measuring_makes_the_steps_own_calls(ready):
    """A warm-up and the rounds, each an update; and one before the whole step is captured."""
    step = Step(workload(strategy="FC"), ready)
    profiling.measure(step, 0.0)
    assert step.optimizer.steps == (3 * 2 + 1 if ready.name == "emulated" else 4)


# -- the report -----------------------------------------------------------------------------------


def report(seconds, gaps=None, graph=None, device="cpu"):
    chosen = workload()
    step, calls = plan_report.priced(chosen, device, "fp32", LIMITS)
    measured = Measured(np.full(len(calls), seconds), seconds * len(calls), gaps, graph, 5)
    about = plan_report.about(step, device, "fp32", LIMITS)
    again = ["fercore-train", "profile", "--device", device]
    live = step.plan.recording.live_bytes()
    return calls, profile_report.make(about, calls, live, measured, again)


def test_rows_are_layers_and_directions():
    calls, made = report(0.001)
    rows = {(row.call, row.method): row for row in made.rows}
    assert len(rows) == len(made.rows) < len(calls)
    convolution = rows["conv3_2 forward", "conv2d_forward"]
    (call,) = (call for call in calls if call.label == "conv3_2 forward")
    assert convolution.seconds == pytest.approx(0.001)
    assert convolution.gflops == pytest.approx(call.flops / 0.001 / 1e9)
    assert convolution.gigabytes == pytest.approx(call.bytes / 0.001 / 1e9)
    assert convolution.of_floor == pytest.approx(call.floor / 0.001)
    # Its input, its output and what earlier layers wait with: more than its own two maps.
    assert convolution.live_bytes > 4 * 4 * 144 * (6 + 6)
    assert rows["fc1 update", "sgd_update"].seconds == pytest.approx(0.002), "weight and bias"
    assert sum(row.share for row in made.rows) == pytest.approx(1.0)
    assert made.images_per_s == pytest.approx(4 / (0.001 * len(calls)))
    assert made.of_floor == pytest.approx(sum(c.floor for c in calls) / (0.001 * len(calls)))
    assert made.commands == ()


def test_the_text_adds_up():
    calls, made = report(0.001)
    text = profile_report.to_text(made)
    assert text.startswith("tiny, BL, batch 4, fp32 on cpu: a training step from images; medians")
    assert f"calls      {len(calls)}.00 ms: forward 16.00 ms, backward" in text
    assert "gap" not in text
    assert json.loads(made.to_json())["rows"][1]["call"] == "augment forward"


def test_a_gpu_has_gaps_and_profilers():
    count = len(report(0.001)[0])
    gaps = np.full(count, 5e-6)
    _, made = report(0.001, gaps, 0.8e-3 * count, "cuda")
    assert made.images_per_s == pytest.approx(4 / (0.8e-3 * count)), "as one graph"
    row = next(row for row in made.rows if row.method == "sgd_update")
    assert row.gap == pytest.approx(1e-5)
    text = profile_report.to_text(made)
    assert "20%) of the step are gaps" in text
    nsys, ncu = made.commands
    assert nsys == "nsys profile -t cuda,nvtx -o step fercore-train profile --device cuda"
    assert ncu.startswith("ncu --set full --nvtx --nvtx-include '")
    assert ncu in text


# -- the trace ------------------------------------------------------------------------------------


def test_a_trace_is_balanced_and_in_order(ready, tmp_path):
    chosen = workload()
    step = Step(chosen, ready)
    _, calls = plan_report.priced(chosen, ready.name, "fp32", GPUS["h200"])
    path = tmp_path / "step.json"
    live = step.plan.recording.live_bytes()
    trace.write(path, "a step", calls, profiling.spans(step), live)
    events = json.loads(path.read_text())["traceEvents"]
    open_, last, seen = defaultdict(list), defaultdict(float), defaultdict(list)
    for event in events:
        track = event["tid"]
        if event["ph"] in "BE":
            assert event["ts"] >= last[track] >= 0, "time runs forwards"
            last[track] = event["ts"]
        if event["ph"] == "B":
            open_[track].append(event["name"])
            seen[track].append((len(open_[track]), event["name"]))
        elif event["ph"] == "E":
            assert open_[track].pop() == event["name"]
    assert not any(open_.values())
    tracks = [trace.HOST, trace.DEVICE] if ready.name == "emulated" else [trace.HOST]
    assert sorted(seen) == tracks
    for track in tracks:
        assert [name for depth, name in seen[track] if depth == 2] == [c.method for c in calls]
        layers = [name for depth, name in seen[track] if depth == 1]
        assert layers == list(dict.fromkeys(call.label for call in calls))
    in_use = [event["args"]["bytes"] for event in events if event["ph"] == "C"]
    assert in_use == live
    assert max(in_use) <= step.plan.arena_bytes


def test_separated_epilogues_can_be_measured(ready):
    step = Step(workload(without=("relu", "relu_pool")), ready)
    measured = profiling.measure(step, 0.0)
    assert len(measured.calls) > len(Step(workload(), ready).plan.calls)


def test_the_recipe_decides():
    chosen = Workload("tiny", Study().strategy_named("BL"), Recipe(optimizer="adam"), 20)
    methods = {call.method for call in Step(chosen, SketchBackend()).plan.calls}
    assert "adam_update" in methods
    assert "sgd_update" not in methods
