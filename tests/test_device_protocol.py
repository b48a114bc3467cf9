"""The whole protocol from the command line on the emulated device, beside the cpu's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

from fercore import backends, checkpoint, cli, models, tensor_file
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from tests.backends.harness import relative_error
from tests.faces import write_folder
from tests.narrow import ARCHITECTURES
from tests.small_data import striped

RUNS = ["BL", "tgt-FC-100", "tgt-RE-100"]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A narrow network; skipped where a device is missing.

    It is one without normalisation: ten layers with it make of the rounding of an image another
    choice in a max-pool now and then, and of that another network.
    """
    for name in ("cpu", "emulated"):
        try:
            backends.get(name)
        except FercoreError as error:
            pytest.skip(str(error))
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        yield


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    write_folder(root / "source", 4, seed=1)
    write_folder(root / "target", 4, seed=2)
    return root


@pytest.fixture(scope="module")
def study(faces, tmp_path_factory):
    """Carries a study out once for each device and precision: folder, facts and records."""
    done = {}

    def carry_out(device, precision="fp32"):
        key = f"{device}-{precision}"
        if key not in done:
            path = tmp_path_factory.mktemp(key) / "run"
            status = cli.main(
                [
                    *("protocol", "--source", f"src=folder:{faces / 'source'}"),
                    *("--target", f"tgt=folder:{faces / 'target'}"),
                    *("--strategies", "BL,FC,RE", "--amounts", "100", "--model", "tiny"),
                    *("--epochs", "1", "--finetune-epochs", "1", "--set", "finetune.min_steps=0"),
                    *("--set", "recipe.batch_size=8", "--set", "finetune.batch_size=8"),
                    *("--set", "recipe.learning_rate=1e-3", "--set", "finetune.learning_rate=1e-3"),
                    *("--device", device, "--precision", precision, "--out", str(path)),
                ]
            )
            assert status == 0
            results = json.loads((path / "results.json").read_text())
            facts = json.loads((path / "environment.json").read_text())
            done[key] = SimpleNamespace(path=path, results=results, facts=facts)
        return done[key]

    return carry_out


def logits(one, run, device="cpu"):
    """What a run's best network answers to images that no run has seen."""
    backend = backends.get(device)
    network = checkpoint.load_model(one.path / "runs" / run / "best.safetensors", backend)
    return predict_logits(network, striped(7, seed=9).images, backend=backend)


def test_the_emulator_carries_out_what_the_cpu_does(study):
    device, cpu = study("emulated"), study("cpu")
    assert device.facts["instructions"].startswith("emulated sm_")
    assert [record["run"] for record in device.results] == RUNS
    for mine, other in zip(device.results, cpu.results, strict=True):
        for name, value in other.items():
            close = name.endswith("_loss")
            assert mine[name] == (pytest.approx(value, rel=1e-5) if close else value), name
    for run in RUNS:
        assert relative_error(logits(device, run), logits(cpu, run)) <= 1e-5
    table = (device.path / "table.md").read_text()
    assert table == (cpu.path / "table.md").read_text()
    assert "RE 100" in table


def test_a_network_trained_there_is_used_there(study, faces, capsys):
    device = study("emulated")
    network = device.path / "runs" / "BL" / "best.safetensors"
    assert relative_error(logits(device, "BL", "emulated"), logits(device, "BL")) <= 1e-5
    capsys.readouterr()
    for command, *more in (
        ("evaluate", f"src=folder:{faces / 'source'}", "--part", "all"),
        ("predict", str(faces / "target" / "happy"), "--json"),
    ):
        said = []
        for name in ("emulated", "cpu"):
            assert cli.main([command, str(network), *more, "--device", name]) == 0
            said.append(capsys.readouterr().out)
        if command == "evaluate":
            assert said[0] == said[1]
            assert "28 images" in said[0]
        else:
            faces_seen = (json.loads(text) for text in said)
            mine, other = ([list(f["probabilities"].values()) for f in one] for one in faces_seen)
            assert np.shape(mine) == (4, 7)
            np.testing.assert_allclose(mine, other, rtol=1e-5)


def test_in_bf16_the_study_is_nearly_the_same(study):
    narrow, wide = study("emulated", "bf16"), study("emulated")
    assert narrow.facts["precision"] == "bf16"
    assert [record["run"] for record in narrow.results] == RUNS
    for mine, other in zip(narrow.results, wide.results, strict=True):
        assert mine["source_loss"] == pytest.approx(other["source_loss"], rel=0.02)
    for run in RUNS:
        error = relative_error(logits(narrow, run), logits(wide, run))
        assert 1e-3 <= error <= 0.15
    folder: Path = narrow.path / "runs"
    weights = tensor_file.read(folder / "tgt-FC-100" / "best.safetensors").tensors
    before = tensor_file.read(folder / "BL" / "best.safetensors").tensors
    frozen = [name for name in weights if not name.startswith("fc")]
    assert frozen
    assert all(weights[name].tobytes() == before[name].tobytes() for name in frozen)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
