"""The sweep of kernels, on the emulator: what it finds, refuses, catches and writes."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import case_bench, checks, kernels
from bench.case_bench import CHECKED_BATCH, CaseBench
from bench.cases import cases, contents, distinct
from bench.kernels import Sweep, describe
from cuda_kernels import batches, specs
from cuda_kernels.emulated import EmulatedRuntime
from fercore import timing

ROOT = Path(__file__).parents[2]


def arguments(*given):
    parser = argparse.ArgumentParser()
    kernels.add_arguments(parser)
    return parser.parse_args(["--device", "emulated", "--seconds", "0", *given])


def rows(*given, emulated=True, batch=1):
    sweep = Sweep(EmulatedRuntime(), arguments(*given), emulated)
    return list(sweep.rows("tiny", [batch]))


FC3 = ("--layer", "fc3", "--operation", "linear_forward")


# -- cases ----------------------------------------------------------------------------------------


def test_a_step_launches_every_operation_there_is():
    """Otherwise a kernel would never be measured: let a step in bench/cases.py call it.

    Those that lay rows ready for a step compute nothing, and are left out.
    """
    runtime, launched = EmulatedRuntime(), set()
    for precision in ("fp32", "bf16"):
        for case in distinct(cases("tiny", CHECKED_BATCH, narrow=precision == "bf16")):
            kernels = case_bench._would_launch(runtime, case, precision)
            launched |= {kernel.operation for kernel in kernels}
    feeding = {kernel.operation for kernel in batches.KERNELS}
    assert launched == {kernel.operation for kernel in specs.kernels()} - feeding


def test_products_count_their_work():
    """2 * 3 passes * multiplications; the first layer has no input gradient."""
    every = cases("svgg10", 4)
    total = sum(case.product[0] for case in every) / 4
    assert total == pytest.approx(3.897e9, rel=1e-3)
    (fc1,) = (c for c in every if c.label == "fc1 forward" and c.method == "linear_forward")
    assert fc1.product == (2 * 4 * 4608 * 2048, 4608)
    counters = 16  # of dropout
    assert fc1.bytes == 4 * (4 * 4608 + 4608 * 2048 + 2048 + 4 * 2048) + counters
    narrow = cases("svgg10", 4, narrow=True)[fc1.number]
    assert narrow.narrow == {"x", "weight", "out"}
    assert narrow.bytes == 2 * (4 * 4608 + 4608 * 2048 + 2 * 2048 + 4 * 2048) + counters


def test_a_case_is_the_same_at_every_batch():
    small, *others = cases("tiny", 2), cases("tiny", 64), cases("tiny", 2, narrow=True)
    for other in others:
        assert [(c.label, c.method) for c in small] == [(c.label, c.method) for c in other]


def test_random_numbers_are_neither_constant_nor_periodic_over_images():
    (case,) = (c for c in cases("svgg10", 3) if c.label == "conv1_2 forward")
    x = contents(case)["x"]
    assert x.std() == pytest.approx(1, rel=0.01)
    assert (x[0] != x[1]).mean() > 0.99


# -- rows -----------------------------------------------------------------------------------------


def test_every_version_and_precision_has_a_row():
    found = {(row["precision"], row["version"]): row for row in rows(*FC3)}
    registered = {  # logits are float32 in bf16, too
        (kernel.precision, kernel.version)
        for kernel in specs.kernels()
        if kernel.operation
        == ("linear_forward_wide" if kernel.precision == "bf16" else "linear_forward")
    }
    assert found.keys() == registered
    assert "multiples of 4, not 256 and 7" in found["tf32", 2]["refused"]
    for key, name in ((("fp32", 1), "linear_forward"), (("bf16", 1), "linear_forward_wide_bf16")):
        assert found[key]["kernels"] == [name]
        assert "us" not in found[key], "an emulated time must not be taken for a measured one"
        assert describe(found[key], emulated=True).endswith("us emulated")


def test_rows_can_be_chosen():
    found = rows(*FC3, "--precision", "bf16", "--version", "1")
    assert [(row["precision"], row["version"]) for row in found] == [("bf16", 1)]
    assert rows("--layer", "fc3", "--operation", "dropout") == []


def test_a_spent_budget_is_said():
    assert {row["refused"] for row in rows(*FC3, "--budget", "0")} == {"budget spent"}


@pytest.mark.parametrize(
    ("wrong", "batch"), [("add one", 1), ("leave a NaN", 1), ("only at the whole batch", 3)]
)
def test_wrong_results_are_not_timed(monkeypatch, wrong, batch):
    right = case_bench.carry_out

    def carry_out(case, backend, buffers):
        right(case, backend, buffers)
        out, wide = buffers.get("out"), backend.compute_dtype == backend.dtype
        if case.method != "linear_forward" or not isinstance(out, np.ndarray):
            return
        if wrong == "only at the whole batch":
            out[CHECKED_BATCH:] *= wide
        elif wide:
            out.flat[0] = np.nan if wrong == "leave a NaN" else out.flat[0] + 1

    monkeypatch.setattr(case_bench, "carry_out", carry_out)
    found = rows(*FC3, "--version", "1", batch=batch)
    row = found[1 if wrong == "only at the whole batch" else 0]
    assert "relative error" in row["wrong"]
    assert ("the simplest kernel" in row["wrong"]) == (batch == 3)
    assert "runs" not in row


def test_an_opponent_that_breaks_leaves_our_time():
    sweep = Sweep(EmulatedRuntime(), arguments(*FC3, "--version", "1"), emulated=True)
    sweep.opponent = argparse.Namespace()
    first, *_ = sweep.rows("tiny", [1])
    assert first["torch_failed"].startswith("AttributeError")
    assert first["emulated_us"] > 0


def test_a_kernel_that_breaks_is_a_row(monkeypatch):
    def carry_out(*_):
        raise RuntimeError("illegal address")

    monkeypatch.setattr(CaseBench, "_check", carry_out)
    assert {row["failed"] for row in rows(*FC3)} == {"RuntimeError: illegal address"}


def test_on_a_gpu_rows_have_rates_and_floors(monkeypatch):
    """The emulator in its place, whose times then pass for a GPU's."""
    monkeypatch.setattr(timing, "FLUSH_BYTES", 1 << 10)
    monkeypatch.setattr(timing, "COPIED", 1 << 16)
    monkeypatch.setattr(timing, "EDGE", 32)
    sweep = Sweep(EmulatedRuntime(), arguments(*FC3, "--rate", "bf16=790"), emulated=False)
    assert sweep.rates.keys() == {"copy", "fp32", "bf16"}
    assert sweep.rates["bf16"] == 790e12
    first, refused, *_, second = sweep.rows("tiny", [2])
    assert first["runs"] >= timing.FEWEST
    for row in (first, second):
        assert row["percent_of_floor"] == pytest.approx(100 * row["floor_us"] / row["us"])
        assert row["TFLOP_s"] == pytest.approx(2 * 2 * 256 * 7 / row["us"] / 1e6)
        assert "% of the floor" in describe(row, emulated=False)
    assert "refused" in describe(refused, emulated=False)


def test_check_stops_before_timing():
    first, *_ = rows(*FC3, "--check")
    assert first["error"] < 2e-6
    assert "right" in describe(first, emulated=True)


def test_the_command_writes_a_file(tmp_path):
    out = tmp_path / "new" / "sweep.json"
    options = ["--device", "emulated", *FC3, "--out", str(out)]
    command = [sys.executable, "-m", "bench", "kernels", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("us emulated") == 2
    sweep = json.loads(out.read_text())
    assert (sweep["emulated"], sweep["device"]) == (True, "emulated")
    assert sum("emulated_us" in row for row in sweep["rows"]) == 2
    assert sweep["machine"]["date"][:2] == "20"


def test_the_command_fails_where_a_kernel_does(monkeypatch, capsys):
    monkeypatch.setattr(CaseBench, "_check", lambda *_: {"wrong": "relative error 1"})
    with pytest.raises(SystemExit, match="bench kernels: 2 of 2 are wrong or failed"):
        kernels.run(arguments(*FC3, "--precision", "bf16", "fp32", "--batch", "1"))
    assert capsys.readouterr().out.count("wrong: relative error 1") == 2


def test_profile_launches_a_kernel_once():
    sweep = Sweep(EmulatedRuntime(), arguments("--layer", "fc2", "--profile", "x"), emulated=True)
    said = sweep.profile("tiny", 1, "linear_weight_gradient_bf16_mma")
    assert said.count("linear_weight_gradient_bf16_mma") == 1
    assert said.startswith("fc2 backward, batch 1: launched ")
    with pytest.raises(SystemExit, match="no call of a step of tiny launches linear_forward_bf16"):
        Sweep(
            EmulatedRuntime(), arguments("--layer", "fc3", "--profile", "x"), emulated=True
        ).profile("tiny", 1, "linear_forward_bf16_mma")


# -- errors ---------------------------------------------------------------------------------------


def test_errors_are_the_worst_of_all_operands():
    wanted = {"out": np.ones(4), "argmax": np.zeros(2, np.uint8), "y": np.arange(3), "bias": None}
    right = {"out": np.ones(4, np.float32), "argmax": np.ones(2, np.uint8), "y": np.arange(3)}
    assert checks.error(right, wanted, frozenset())[0] == 0
    off = right | {"out": np.float32([1, 1, 1, 3])}
    assert checks.error(off, wanted, frozenset()) == (1.0, "out")
    for broken in ({"out": np.float32([1, 1, 1, np.nan])}, {"y": np.zeros(3, int)}):
        assert checks.error(right | broken, wanted, frozenset())[0] == float("inf")
    lists = {"masks": [None, np.float32([2])]}
    assert checks.error(lists, {"masks": [None, np.float32([1])]}, frozenset()) == (1.0, "masks")


# -- time -----------------------------------------------------------------------------------------


class Queue:
    """Events whose distances are given."""

    def __init__(self, seconds):
        self.seconds, self.now = iter(seconds), 0.0

    def event(self):
        moment = argparse.Namespace(at=self.now)
        moment.seconds_since = lambda earlier: moment.at - earlier.at
        return moment

    def run(self):
        self.now += next(self.seconds)


def clock(queue):
    return timing.Clock(queue.event, lambda: None, warm_up=0.0)


def test_quiet_kernels_are_measured_briefly_and_noisy_ones_long():
    quiet = Queue([9.0] + [2.0] * 500)
    assert timing.measure(quiet.run, clock(quiet), 60) == timing.Timing(2.0, 0.0, timing.FEWEST)
    noisy = Queue([9.0] + [1.0, 3.0] * 500)
    assert timing.measure(noisy.run, clock(noisy), 60).runs == timing.MOST
    noisy = Queue([9.0] + [1.0, 3.0] * 500)
    assert timing.measure(noisy.run, clock(noisy), 0).runs == timing.FEWEST
