"""``fercore-train profile``: plans anywhere, measurements here, and limits to compare with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fercore import backends, cli, costs, profile_command, timing
from fercore.backends.cpu import CpuBackend
from fercore.errors import FercoreError
from fercore.freeze import STRATEGIES
from tests.faces import shrink_tiny, write_folder


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    shrink_tiny(monkeypatch)
    monkeypatch.setattr(profile_command, "LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(timing, "EDGE_OF_CPU", 64)
    monkeypatch.setattr(timing, "COPIED_BY_CPU", 1 << 16)
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def shown(capsys, *arguments):
    assert cli.main(["profile", *arguments]) == 0
    return capsys.readouterr().out


def plan(capsys, *arguments):
    return json.loads(shown(capsys, "--plan", "--json", *arguments))


# -- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "emulated", "numba", "cpu", "reference"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_device_has_a_plan_of_every_strategy(capsys, device, strategy):
    """Also those that cannot run here."""
    if device == "cpu":
        try:
            backends.get("cpu")
        except FercoreError as error:
            pytest.skip(str(error))
    made = plan(capsys, "--model", "tiny", "--device", device, "--strategy", strategy)
    assert made["device"] == device
    assert (made["kernels"] > 0) == (device in ("cuda", "emulated"))
    assert made["starts_from"] == ("features" if strategy.startswith("FC") else "images")
    assumed = device in ("cuda", "emulated", "numba")
    assert made["limits"]["name"].startswith("h200" if assumed else "this machine's")


def test_defaults(capsys):
    """svgg10 from random weights, by the recipe of a study on real images."""
    made = plan(capsys, "--device", "cuda")
    assert (made["model"], made["strategy"], made["batch"]) == ("svgg10", "BL", 64)
    assert made["precision"] == "fp32"
    assert made["memory"]["parts"]["images"] > 28709 * 48 * 48


def test_a_batch_of_more_images_than_there_are(capsys):
    made = plan(capsys, "--device", "cuda", "--batch", "50000")
    assert made["batch"] == 50000
    assert made["memory"]["parts"]["images"] > 50000 * 48 * 48


def test_settings_of_the_recipe(capsys):
    made = plan(
        capsys, *("--device", "cuda", "--set", "recipe.optimizer=adam", "--set", "recipe.views=0")
    )
    assert "adam_update" in {call["method"] for call in made["calls"]}
    made = plan(capsys, "--device", "cuda", "--strategy", "FC", "--set", "recipe.views=0")
    assert made["starts_from"] == "images"


def test_settings_of_a_study(capsys):
    Path("study.toml").write_text(
        'model = "svgg5"\n[recipe]\nbatch_size = 20\n[[strategy]]\nname = "mine"\n'
        'starts_from = "BL"\ntrainable = ["fc3.*"]\n'
    )
    made = plan(capsys, "study.toml", "--strategy", "mine", "--device", "emulated")
    assert (made["model"], made["batch"], made["strategy"]) == ("svgg5", 20, "mine")
    layers = {call["label"].partition(" ")[0] for call in made["calls"]}
    assert layers == {"batch", "features", "fc3", "loss"}
    made = plan(capsys, "study.toml", "--device", "emulated", "--model", "tiny", "--batch", "30")
    assert (made["model"], made["batch"]) == ("tiny", 30)


def test_a_study_with_contempt_has_eight_outputs(capsys):
    for contempt, classes in (("false", 7), ("true", 8)):
        Path("study.toml").write_text(f'model = "tiny"\ncontempt = {contempt}\n')
        made = plan(capsys, "study.toml", "--device", "emulated", "--batch", "30")
        (loss,) = (call for call in made["calls"] if call["label"] == "loss forward")
        assert loss["buffers"]["logits"] == f"30x{classes} float32"


def test_an_older_gpu_has_other_kernels(capsys):
    names = {}
    for limits in ("h200", "t4"):
        made = plan(capsys, "--device", "cuda", "--limits", limits, "--precision", "fp32")
        assert made["limits"]["name"] == limits
        names[limits] = {kernel["kernel"] for call in made["calls"] for kernel in call["kernels"]}
    assert names["h200"] == names["t4"], "kernels in fp32 run on both"
    (cores, on_t4) = (
        {
            re.sub(r"_\d+x\d+$", "", kernel["kernel"])  # which tile is best depends on the GPU
            for call in plan(capsys, *wanted)["calls"]
            for kernel in call["kernels"]
        }
        for wanted in (
            ("--device", "cuda", "--precision", "bf16x3"),
            ("--device", "emulated", "--limits", "a100", "--precision", "bf16x3"),
        )
    )
    assert cores == on_t4
    assert any(name.endswith("bf16x3_mma") for name in cores)


# -- measurements ---------------------------------------------------------------------------------


def test_a_measurement_and_its_trace(capsys):
    options = ["--model", "tiny", "--batch", "8", "--images", "20", "--device", "reference"]
    options += ["--seconds", "0", "--limits", "h200"]
    text = shown(capsys, *options, "--trace", "step.json")
    assert text.startswith("tiny, BL, batch 8, fp32 on reference: a training step from images")
    assert re.search(r"\nconv3_2 backward +conv2d_weight_gradient +[\d.]+", text)
    assert re.search(r"\nstep +[\d.]+ ms; [\d,.]+ images/s, ", text)
    assert "at the peak of training" in text
    events = json.loads(Path("step.json").read_text())["traceEvents"]
    assert {"B", "E", "C", "M"} == {event["ph"] for event in events}
    made = json.loads(shown(capsys, *options, "--json"))
    assert made["rounds"] == 3
    assert made["graph_seconds"] is None


def test_it_measures_on_the_emulated_device(capsys):
    options = ["--model", "tiny", "--batch", "2", "--images", "3", "--device", "emulated"]
    text = shown(capsys, *options, "--seconds", "0", "--strategy", "FC")
    assert "a training step from features" in text
    assert re.search(r"\ngraph +[\d.]+ ms; launched one by one, ", text)


# -- limits ---------------------------------------------------------------------------------------


class Gpu(CpuBackend):
    """Says that it is one."""

    name = "cuda"

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def build_info(self):
        return {"gpu": self.gpu}


def test_a_known_gpu_has_its_own_limits():
    assert profile_command.limits(None, "cuda", Gpu("NVIDIA H200")) is costs.GPUS["h200"]
    assert profile_command.limits("a100", "cuda", Gpu("NVIDIA H200")) is costs.GPUS["a100"]


def test_the_machines_own():
    found = profile_command.limits("machine", "cuda", None)
    assert found.name == "this machine's cpu"
    assert found.source == "measured now"
    assert found.products["fp32"] > 1e6
    assert found.copy > 1e6
    assert found.arch == 0


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "FD"], "no strategy 'FD'; choose from BL, FC, FC+CL, RE, FU, TO"),
        (["--model", "svgg11", "--plan", "--device", "cuda"], "did you mean 'svgg10'?"),
        (["--plan", "--device", "gpu"], "did you mean 'cuda'?"),
        (["--plan", "--device", "cpu", "--precision", "tf32"], "computes in fp32, not in tf32"),
        (["--plan", "--device", "cuda", "--precision", "fp16"], "precision cannot be 'fp16'"),
        (["--plan", "--device", "cuda", "--limits", "h20"], "no limits 'h20'; did you mean 'h200'"),
        (["--plan", "--device", "cuda", "--without-fusion", "pool"], "no fusion 'pool'"),
        (["--plan", "--trace", "x.json"], "nothing to --trace"),
        (["--batch", "0"], "'0' is not a whole number from 1"),
        (["--seconds", "-1"], "'-1' is not a time in seconds"),
        (["--seconds", "long"], "'long' is not a time in seconds"),
        (["--set", "recipe.lr=1"], "no setting 'lr'"),
        (["--set", "seed=3"], "profile has no setting seed; it takes --set recipe.KEY=VALUE"),
        (["absent.toml", "--plan"], "absent.toml: cannot be read"),
        (
            ["--model", "tiny", "--device", "reference", "--trace", "/dev/null/x.json"],
            "/dev/null",
        ),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    quick = ["--images", "9", "--batch", "4", "--seconds", "0", "--limits", "h200"]
    given = {flag for flag in arguments if flag.startswith("--")}
    pairs = zip(quick[::2], quick[1::2], strict=True)
    rest = [word for flag, value in pairs if flag not in given for word in (flag, value)]
    assert cli.main(["profile", *arguments, *rest]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fercore-train: error: ")
    assert error.count("\n") == 1
    assert message in error


# -- memory ---------------------------------------------------------------------------------------


@pytest.fixture
def small_cpu(monkeypatch):
    """A cpu that has too little memory for batches of 5000."""
    try:
        backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(CpuBackend, "free_memory", lambda self: 24 << 20)


def test_a_profile_that_does_not_fit(capsys, small_cpu):
    options = ["--model", "tiny", "--batch", "5000", "--images", "5000", "--device", "cpu"]
    assert cli.main(["profile", *options]) == 2
    assert re.search(
        r"BL of tiny with batch_size 5000 takes [\d.]+ .iB of memory, and cpu has 24.0 MiB left; "
        r"the largest batch_size that fits is \d+\n$",
        capsys.readouterr().err,
    )


def test_a_study_that_does_not_fit_is_refused_before_it_trains(capsys, small_cpu, tmp_path):
    for name, seed in (("source", 1), ("target", 2)):
        write_folder(tmp_path / name, 8, seed=seed)
    study = ["--source", f"src=folder:{tmp_path / 'source'}", "--model", "tiny"]
    study += ["--target", f"tgt=folder:{tmp_path / 'target'}", "--epochs", "1", "--device", "cpu"]
    assert cli.main(["protocol", *study, "--dry-run"]) == 0
    text = capsys.readouterr().out
    left = "cpu has 24.0 MiB left"
    (peak,) = re.findall(rf"at most ([\d.]+) MiB of memory, for FU; {left}", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuBackend, "free_memory", lambda self: int((float(peak) - 1) * 2**20))
        assert cli.main(["protocol", *study]) == 2
    error = capsys.readouterr().err
    assert f"{peak} MiB of memory, and cpu has {float(peak) - 1:.1f} MiB left" in error
    assert not (tmp_path / "fercore-run" / "runs").exists()
