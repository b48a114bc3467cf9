"""The measurements of a GPU, as far as it can be known without one that they will work on it."""

import argparse
import importlib
import json
from unittest.mock import patch

import pytest

from bench import ablation, device_check, device_measure, device_report, repeat, study
from bench.step import FercoreStep
from fercore import backends, models
from fercore.timing import random_batch
from tests.faces import write_folder
from tests.narrow import ARCHITECTURES


@pytest.fixture
def narrow():
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        yield


def planned(tmp_path, monkeypatch, dry):
    monkeypatch.setattr(device_measure, "there", lambda *names: True)
    given = argparse.Namespace(dry_run=dry, data=None)
    return device_measure.stages(tmp_path, tmp_path, given)


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "gpu"])
def test_commands_have_options_that_exist(tmp_path, monkeypatch, dry):
    """A misspelt one would cost the first minutes on a GPU."""
    seen = set()
    for stage in planned(tmp_path, monkeypatch, dry):
        words = stage.command
        if "bench" in words:
            name, *given = words[words.index("bench") + 1 :]
            parser = argparse.ArgumentParser(exit_on_error=False)
            importlib.import_module(f"bench.{name}").add_arguments(parser)
            parser.parse_args(given)
            seen.add(name)
    assert seen == {"step", "kernels", "ablation", "repeat", "study"}


def test_what_matters_most_fits_into_nine_minutes(tmp_path, monkeypatch):
    gpu = planned(tmp_path, monkeypatch, dry=False)
    assert sum(stage.seconds for stage in gpu[:9]) <= 540
    assert {stage.name.partition("-")[0] for stage in planned(tmp_path, monkeypatch, dry=True)} == (
        {stage.name.partition("-")[0] for stage in gpu} - {"counters", "timeline"}
    )


def test_a_folder_without_the_images_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no fer2013\*\.zip, or no ck48\.zip"):
        device_measure.images(tmp_path, tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_way_to_run_a_step_gives_the_same_bits(narrow, precision):
    backend = backends.get("emulated", precision=precision)
    found = {repeat.digest(backend, "tiny", 2, 3, way) for way in repeat.WAYS.values()}
    assert len(found) == 1
    assert found != {repeat.digest(backend, "tiny", 2, 4, repeat.recorded)}, "steps count"


def test_bits_that_differ_are_noticed(narrow, capsys):
    """A way that leaves a parameter as it is."""

    def wrong(step):
        def run():
            step.plan.call()
            next(iter(step.optimizer.parameters.values())).data[...] = 0

        return run

    parser = argparse.ArgumentParser()
    repeat.add_arguments(parser)
    given = parser.parse_args(["--device", "reference", "--model", "tiny", "--batch", "1"])
    given.steps = 2
    with patch.dict(repeat.WAYS, {"wrong": wrong}), pytest.raises(SystemExit, match="different"):
        repeat.run(given)


def test_a_step_draws_other_views_than_the_loss_that_is_compared(narrow):
    backend = backends.get("reference")
    step = FercoreStep(backend, "tiny", *random_batch(2))
    augmentations = [
        call.kwargs["augmentation"] for call in step.plan.calls if call.method == "augment"
    ]
    assert [one.rotation for one in augmentations] == [10.0]


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_fusions_are_taken_away_one_by_one(narrow, tmp_path, device):
    out = tmp_path / "ablation.json"
    parser = argparse.ArgumentParser()
    ablation.add_arguments(parser)
    size = ["--device", device, "--model", "tiny", "--batch", "1", "--seconds", "0"]
    ablation.run(parser.parse_args([*size, "--out", str(out)]))
    rows = json.loads(out.read_text())["rows"]
    assert [row["without"] for row in rows] == ["nothing", *ablation.FUSIONS]
    assert rows[0]["bytes"] == 0
    nothing = {"nothing", "side_stream"}  # that says when calls run
    if device == "cpu":
        nothing.add("update")  # there are no slices
    for row in rows:
        saves = row["without"] not in nothing
        assert (row["bytes"] > 0) == (row["predicted_seconds"] > 0) == saves
    assert all(row["seconds"] > 0 and row["seconds_without"] > 0 for row in rows)


def test_a_training_is_timed_and_one_that_fails_is_told(tmp_path):
    faces, out = tmp_path / "faces", tmp_path / "study.json"
    write_folder(faces, 4, seed=1)
    parser = argparse.ArgumentParser()
    study.add_arguments(parser)
    words = ["--source", f"src=folder:{faces}", "--fit", "cpu:fp32", "cpu:bf16"]
    with pytest.raises(SystemExit, match="a part failed"):
        study.run(parser.parse_args([*words, "--fit-epochs", "2", "--out", str(out)]))
    good, bad = json.loads(out.read_text())["parts"]
    assert len(good["epochs"]) == 2
    assert good["images_per_s"] > 0
    assert "bf16" in bad["failed"]
    report = device_report.Report(tmp_path, tmp_path, dry=True, what="measure")
    report.results = {"study": {"parts": [good, bad]}}
    table = report.table()
    assert "| fit cpu:fp32 |" in table
    assert "validation accuracy" in table


def test_the_table_of_fusions_and_bits(tmp_path):
    report = device_report.Report(tmp_path, tmp_path, dry=True, what="measure")
    row = {"without": "relu", "saved_seconds": 2e-5, "bytes": 4e6, "predicted_seconds": 1e-6}
    same = {"precision": "bf16", "steps": 50, "digests": {"eager": "a", "graph": "b"}}
    report.results = {"ablation": {"rows": [row]}, "repeat-bf16": same | {"same": False}}
    lines = report.table().splitlines()
    assert "| relu | 20.0 | 4.0 | 1.0 |" in lines
    assert "bf16, 50 steps, eager, graph: DIFFERENT BITS" in lines


def test_real_images_are_given_to_a_measurement_alone(capsys):
    with pytest.raises(SystemExit):
        device_check.main(["--data", "."])
    assert "unrecognized arguments: --data" in capsys.readouterr().err


def test_names_of_stages_are_unlike(tmp_path, monkeypatch):
    names = [stage.name for stage in planned(tmp_path, monkeypatch, dry=False)]
    assert len(set(names)) == len(names)
