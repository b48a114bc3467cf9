"""A step on a device: with the same bits as a graph, and against the same loss of PyTorch's."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from bench.machine import CANNOT
from bench.step import FercoreStep, check_losses, random_batch
from fercore import backends, models
from tests.narrow import ARCHITECTURES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def narrow():
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        yield


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_graph_trains_as_the_calls_do(narrow, precision):
    results = []
    for number in range(2):
        backend = backends.get("emulated", precision=precision)
        step = FercoreStep(backend, "tiny", *random_batch(2))
        contestants = step.contestants(steps=2)
        assert [one.name for one in contestants] == ["fercore emulated", "fercore emulated graph"]
        contestants[number].run()
        results.append(step.model.state())
    for name, array in results[0].items():
        assert array.tobytes() == results[1][name].tobytes(), name


def test_a_precision_that_a_backend_lacks():
    options = ["--device", "reference", "--model", "tiny", "--precision", "bf16"]
    command = [sys.executable, "-m", "bench", "step", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == CANNOT
    assert done.stderr.startswith("bench step: backend reference computes in fp32, not in bf16")


@pytest.mark.parametrize("theirs", [1.001, float("nan")])
def test_losses_that_differ_are_not_compared_in_speed(theirs):
    with pytest.raises(AssertionError, match=r"losses differ: ours 1\.000000"):
        check_losses(1.0, theirs, "fp32", "fp32")


def test_losses_may_differ_by_the_less_precise_side():
    check_losses(1.0, 1.01, "fp32", "bf16")


def test_against_pytorch():
    pytest.importorskip("torch", reason="PyTorch, the opponent, is not installed")
    options = ["--model", "tiny", "--batch", "2", "--seconds", "0", "--against", "torch", "--json"]
    command = [sys.executable, "-m", "bench", "step", "--device", "reference", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["not_measured"] == {}
    assert set(result["opponents"]) == {"torch fp32 contiguous", "torch fp32 channels_last"}
    best = max(result["opponents"].values())
    assert result["opponent_images_per_s"] == best
    assert result["ratio"] == pytest.approx(result["images_per_s"] / best, rel=0.1)


def test_inference_moves_nothing(narrow):
    images, labels = random_batch(2)
    step = FercoreStep(backends.get("reference"), "tiny", images, labels, inference=True)
    before = step.model.state()
    (contestant,) = step.contestants(steps=2)
    contestant.run()
    total, count, *_ = step.statistics
    assert count == 6  # two images, once to warm up and twice as asked
    assert total / count == pytest.approx(step.loss(), rel=1e-6)
    for name, array in step.model.state().items():
        assert array.tobytes() == before[name].tobytes(), name


@pytest.mark.parametrize("options", [["--inference"], ["--opponent-precision", "bf16"]])
def test_other_comparisons_with_pytorch(options):
    pytest.importorskip("torch", reason="PyTorch, the opponent, is not installed")
    shape = ["--model", "tiny", "--batch", "2", "--seconds", "0", "--against", "torch", "--json"]
    command = [sys.executable, "-m", "bench", "step", "--device", "reference", *shape, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["not_measured"] == {}
    assert result["benchmark"] == ("inference" if options == ["--inference"] else "step")
    assert all((" bf16 " in name) == ("bf16" in options) for name in result["opponents"])


def test_every_configuration_computes_the_same_loss(narrow):
    torch_step = pytest.importorskip(
        "bench.torch_step", reason="PyTorch, the opponent, is not installed", exc_type=ImportError
    )
    images, labels = random_batch(4)
    ours = FercoreStep(backends.get("reference"), "tiny", images, labels)
    for one in {c.precision: c for c in torch_step.GPU}.values():
        theirs = torch_step.TorchStep(
            torch_step.Configuration(one.precision),
            *("tiny", ours.model.state(), images, labels, torch_step.Recipe(), "cpu"),
        )
        check_losses(ours.loss(), theirs.loss(), "fp32", one.precision)
        theirs.run(2)
    assert len({one.name for one in torch_step.GPU}) == 12
    assert np.isfinite(theirs.loss())
