"""The benchmarks run; their figures are not judged here, because machines are noisy."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.layers import layers
from bench.step import Contestant, measure, random_batch

ROOT = Path(__file__).parents[2]


def test_step_prints_one_json_object():
    options = ["--device", "reference", "--model", "tiny", "--batch", "2", "--seconds", "0"]
    command = [sys.executable, "-m", "bench", "step", *options, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["images_per_s"] > 0
    assert (result["device"], result["model"], result["batch"]) == ("reference", "tiny", 2)
    assert "ratio" not in result  # without an opponent there is nothing to compare with


def test_layers_prints_every_direction_of_every_convolution():
    options = ["--model", "tiny", "--batch", "1", "--seconds", "0", "--json"]
    command = [sys.executable, "-m", "bench", "layers", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert len(result["rows"]) == 10 * 3 - 1  # the images' gradient is not wanted
    for row in result["rows"]:
        assert row["ms"].keys() == row["gflops"].keys() == {"auto", "direct", "winograd"}
        assert min(row["ms"].values()) > 0


def test_layers_have_the_sizes_of_the_model():
    first, *_, last = layers("svgg10")
    assert (first.name, first.size, first.in_channels, first.pooled) == ("conv1_1", 48, 1, False)
    assert (last.name, last.size, last.in_channels, last.pooled) == ("conv4_3", 6, 512, True)
    assert sum(layer.flops(1) for layer in layers("svgg10")) == pytest.approx(1.277e9, rel=1e-3)
    assert [layer.out_size for layer in layers("svgg5")] == [47, 46, 21, 19, 17]


def test_an_unknown_benchmark_names_the_known_ones():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "step" in done.stderr
    assert "accuracy" in done.stderr


def test_contestants_take_turns_and_the_median_counts(monkeypatch):
    clock = iter(np.arange(100) * 1.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    order: list[str] = []
    contestants = [Contestant(name, lambda name=name: order.append(name)) for name in "ab"]
    rates = measure(contestants, images=8, seconds=1.0)
    assert order == list("aabb" + "ab" * 3)  # two steps of warm-up each
    assert rates == {"a": 8.0, "b": 8.0}


def test_a_batch_is_neither_constant_nor_zero():
    images, labels = random_batch(20)
    assert images.std() > 50
    assert set(np.unique(labels)) <= set(range(7))
    assert len(images) == len(labels) == 20


def test_pytorch_starts_from_our_weights():
    pytest.importorskip("torch", reason="PyTorch, the opponent, is not installed")
    import torch

    from bench.torch_step import build, copy_weights
    from fercore import backends, models
    from fercore.autograd import Tensor

    backend = backends.get("cpu")
    images = np.random.default_rng(0).standard_normal((3, 48, 48, 1)).astype(np.float32)
    for name in ("tiny", "tiny-bn"):
        ours, theirs = models.build(name, seed=1, backend=backend), build(name).eval()
        copy_weights(ours.state(), theirs)
        logits = ours(Tensor(backend, backend.from_host(images))).data
        with torch.no_grad():
            expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)
