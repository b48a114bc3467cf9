"""Whole studies on a few striped images: what is written, resumed, refused, and trained again."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from fercore import (
    backends,
    checkpoint,
    consumption,
    energy,
    evaluation,
    models,
    report,
    reporting,
    results,
)
from fercore.config import study_from
from fercore.data import manifest
from fercore.energy import Counter, Meter
from fercore.errors import FercoreError
from fercore.files import unfinished
from fercore.plan import Run
from fercore.progress import Listener
from fercore.protocol import execute
from fercore.run_directory import RunDirectory
from fercore.study_data import load_study
from tests.data.test_ferplus import HEADER
from tests.faces import quick_studies, write_folder
from tests.records import unanswered
from tests.small_data import striped

SIX = ("angry", "disgust", "fear", "happy", "sad", "surprise")


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """A small network, and a cache of our own; skipped where there is no cpu backend."""
    with quick_studies(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    return {
        "source": write_folder(root / "source", 12, seed=1),
        "target": write_folder(root / "target", 8, seed=2, classes=SIX),
        "other": write_folder(root / "other", 8, seed=3),
    }


def small_study(folders, **settings):
    return study_from(
        {
            "source": f"src=folder:{folders['source']}",
            "targets": [f"tgt=folder:{folders['target']}"],
            "model": "tiny",
            "strategies": ["FC", "FU"],
            "recipe": {"epochs": 2, "batch_size": 16, "warmup_epochs": 0},
            "finetune": {"epochs": 2, "min_steps": 0},
            **settings,
        }
    )


class Recorder(Listener):
    """Remembers what it is told; may interrupt after so many epochs, as Ctrl-C would."""

    def __init__(self, interrupt_after=None):
        self.trained, self.finished_runs, self.epochs = [], [], 0
        self.interrupt_after = interrupt_after

    def epoch(self, run, line):
        self.epochs += 1
        if run not in self.trained:
            self.trained.append(run)
        if self.epochs == self.interrupt_after:
            raise KeyboardInterrupt

    def finished(self, run, records):
        self.finished_runs.append(run)


def carry_out(study, path, listener=None, **options):
    return execute(study, RunDirectory(path), listener=listener or Recorder(), **options)


@pytest.fixture(scope="module")
def done(folders, tmp_path_factory):
    """A finished study: folder, records, listener."""
    path, listener = tmp_path_factory.mktemp("study") / "run", Recorder()
    return path, carry_out(small_study(folders), path, listener), listener


def files_of(path):
    """Every file of a study and its bytes, without what differs from process to process."""
    contents = {}
    for file in sorted(path.rglob("*")):
        if file.name == "metrics.jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            for line in lines:
                del line["seconds"], line["joules"], line["images_per_s"], line["kept_features"]
            contents[str(file.relative_to(path))] = lines
        elif file.is_file():
            contents[str(file.relative_to(path))] = file.read_bytes()
    return contents


# -- what a study leaves ----------------------------------------------------------------------


def test_the_run_directory_holds_what_was_promised(done):
    path, _, listener = done
    assert listener.finished_runs == ["BL", "tgt-FC-50", "tgt-FU-50", "tgt-FC-100", "tgt-FU-100"]
    for run in listener.finished_runs:
        names = {file.name for file in (path / "runs" / run).iterdir()}
        assert names == {
            *("run.json", "metrics.jsonl", "state.json", "results.json"),
            *("best.safetensors", "last.safetensors", "answers.safetensors"),
            *(() if run == "BL" else ("analysis.json",)),
        }
        assert json.loads((path / "runs" / run / "state.json").read_text())["status"] == "finished"
    assert {file.name for file in path.iterdir()} == {
        *("config.toml", "environment.json", "datasets.json", "splits", "runs")
    }


def test_manifests_say_which_image_was_used_for_what(done, folders):
    path, records, _ = done
    study = small_study(folders)
    from fercore.study_data import load_study

    data = load_study(study, path / "data")
    dataset = data.datasets["tgt"].dataset
    whole = manifest.read(path / "splits" / "tgt.csv", dataset)
    half = manifest.read(path / "splits" / "50" / "tgt.csv", dataset)
    assert set(half.train) < set(whole.train)
    np.testing.assert_array_equal(half.test, whole.test)
    by_run = {record.run: record for record in records}
    assert by_run["tgt-FC-50"].training_images == len(half.train)
    assert by_run["tgt-FC-100"].training_images == len(whole.train)
    assert by_run["tgt-FU-100"].training_images == len(whole.train) + by_run["BL"].training_images
    assert not (path / "splits" / "50" / "src.csv").exists()


def test_records_of_a_set_without_neutral(done):
    _, records, _ = done
    assert [(r.run, r.target, r.amount) for r in records] == [
        ("BL", "tgt", None),
        *(("tgt-FC-50", "tgt", 50), ("tgt-FU-50", "tgt", 50)),
        *(("tgt-FC-100", "tgt", 100), ("tgt-FU-100", "tgt", 100)),
    ]
    for record in records:
        assert record.shared_classes == 6
        assert record.n_source_shared < record.n_source  # neutral is left out
        assert record.n_target_shared == record.n_target
        assert sum(record.source_confusion[6]) == record.n_source - record.n_source_shared
        assert record.target_accuracy_shared >= record.target_accuracy
        assert record.source_accuracy == pytest.approx(
            np.trace(record.source_confusion) / record.n_source
        )
    base, tuned = records[0], records[1]
    assert tuned.forgetting == base.source_accuracy - tuned.source_accuracy


def test_the_tested_network_is_the_best_checkpoint(done, folders):
    path, records, _ = done
    from fercore import checkpoint
    from fercore.plan import Part
    from fercore.study_data import load_study

    backend = backends.get("cpu")
    model = checkpoint.load_model(path / "runs" / "tgt-FC-100" / "best.safetensors", backend)
    test = load_study(small_study(folders), path).select(Part("tgt", "test"))
    logits = evaluation.predict_logits(model, test.images, backend=backend)
    record = next(r for r in records if r.run == "tgt-FC-100")
    assert np.mean(logits.argmax(axis=1) == test.labels) == record.target_accuracy
    state = json.loads((path / "runs" / "tgt-FC-100" / "state.json").read_text())
    assert record.best_epoch == state["best"]["epoch"]


def test_finetuning_starts_from_bls_best_network_and_keeps_what_is_frozen(done):
    path, _, _ = done
    base = load_file(path / "runs" / "BL" / "best.safetensors")
    tuned = load_file(path / "runs" / "tgt-FC-100" / "last.safetensors")
    moved = {name for name in base if not np.array_equal(base[name], tuned[f"model.{name}"])}
    assert moved == {name for name in base if name.startswith("fc")}


def test_runs_are_written_down_as_values(done):
    path, _, _ = done
    content = json.loads((path / "runs" / "tgt-FU-50" / "run.json").read_text())
    run = msgspec.convert(content["run"], Run)
    assert run.strategy.name == "FU"
    assert run.choose_on == ("source", "target")


def test_the_environment_is_recorded(done):
    facts = json.loads((done[0] / "environment.json").read_text())
    assert facts["backend"] == "cpu"
    assert facts["threads"] >= 1
    assert {"fercore", "python", "processor", "instructions", "blas"} <= set(facts)


def test_energy_is_written_down_as_far_as_it_could_be_read(folders, tmp_path, monkeypatch):
    path, study = tmp_path / "run", small_study(folders, strategies=["FC"], amounts=[100])
    monkeypatch.setattr(energy, "open_meter", lambda backend: Meter([]))
    with pytest.raises(KeyboardInterrupt):
        carry_out(study, path, Recorder(interrupt_after=1), jobs=1)
    monkeypatch.setattr(energy, "PERIOD", 1e6)
    reads = itertools.count()
    counter = Counter("processor", "made up", reads.__next__, 1.0)  # a joule a reading
    monkeypatch.setattr(energy, "open_meter", lambda backend: Meter([counter], "made up"))
    carry_out(study, path, resume=True, jobs=1)
    found = [consumption.of_runs([path / "runs" / run]) for run in ("BL", "tgt-FC-100")]
    assert [run.joules for run in found] == [{"processor": 1.0}, {"processor": 2.0}]
    assert [run.is_partial("processor") for run in found] == [True, False]
    assert json.loads((path / "environment.json").read_text())["energy"] == "made up"


def test_a_given_baseline_is_tested_and_adapted_but_not_trained(done, folders, tmp_path):
    ours = done[0] / "runs"
    given = shutil.copy(ours / "BL" / "best.safetensors", tmp_path / "given.safetensors")
    listener = Recorder()
    study = small_study(folders, baseline=str(given))
    records = carry_out(study, tmp_path / "run", listener)
    assert "BL" in listener.finished_runs
    assert listener.trained == [name for name in done[2].trained if name != "BL"]
    # What starts from it, and what does not, is the same as with a BL that was trained here.
    for name in listener.trained:
        again = tmp_path / "run" / "runs" / name / "best.safetensors"
        assert again.read_bytes() == (ours / name / "best.safetensors").read_bytes()
    (trained,) = (record for record in done[1] if record.run == "BL")
    (taken,) = (record for record in records if record.run == "BL")
    changes = {"epochs": 0, "best_epoch": 0, "training_images": 0}
    assert taken == msgspec.structs.replace(trained, **changes)
    assert any("BL was given" in note for note in report.make_table(unanswered(records)).notes)
    notes = report.make_table(unanswered(done[1])).notes
    assert not any("BL was given" in note for note in notes)

    listener = Recorder()
    assert carry_out(study, tmp_path / "run", listener, resume=True) == records
    assert listener.trained == []
    shutil.copy(ours / "tgt-FU-50" / "best.safetensors", given)
    with pytest.raises(FercoreError, match="run BL: other settings or images; run tgt-FC-50"):
        carry_out(study, tmp_path / "run", resume=True)


def test_a_baseline_that_cannot_be_one_is_refused_before_anything_is_written(folders, tmp_path):
    given = tmp_path / "given.safetensors"
    study = small_study(folders, baseline=str(given))
    for message in (
        r"given\.safetensors: cannot be read",
        "is a tiny-bn, but the study's model is",
    ):
        with pytest.raises(FercoreError, match=message):
            carry_out(study, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        checkpoint.save_model(given, models.build("tiny-bn"))


# -- resume -----------------------------------------------------------------------------------


def test_a_finished_study_is_not_trained_again(done, folders):
    path, records, _ = done
    listener, before = Recorder(), files_of(path)
    assert carry_out(small_study(folders), path, listener, resume=True) == records
    assert listener.trained == []
    assert files_of(path) == before


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_an_interrupted_study_ends_up_equal_byte_for_byte(done, folders, tmp_path, epochs):
    """Within a run, after its last epoch, and in the run after it."""
    path, records, _ = done
    study = small_study(folders)
    with pytest.raises(KeyboardInterrupt):
        carry_out(study, tmp_path / "run", Recorder(interrupt_after=epochs))
    listener = Recorder()
    assert carry_out(study, tmp_path / "run", listener, resume=True) == records
    assert listener.epochs == 10 - epochs
    assert files_of(tmp_path / "run") == files_of(path)


def test_runs_side_by_side_leave_the_same_bytes(done, folders, tmp_path):
    path, records, _ = done
    listener = Recorder()
    assert carry_out(small_study(folders), tmp_path / "run", listener, jobs=3) == records
    assert sorted(listener.finished_runs) == sorted(done[2].finished_runs)
    assert files_of(tmp_path / "run") == files_of(path)


@pytest.mark.parametrize("epochs", [1, 4])
def test_interrupted_side_by_side_they_end_up_equal_too(done, folders, tmp_path, epochs):
    path, records, _ = done
    study = small_study(folders)
    with pytest.raises(KeyboardInterrupt):
        carry_out(study, tmp_path / "run", Recorder(interrupt_after=epochs), jobs=3)
    assert carry_out(study, tmp_path / "run", jobs=2, resume=True) == records
    assert files_of(tmp_path / "run") == files_of(path)


def test_a_killed_study_ends_up_equal_byte_for_byte(done, folders, tmp_path):
    path, records, _ = done
    study = small_study(folders)
    places = {name: str(path) for name, path in folders.items()}
    script = f"""
        from tests.faces import shrink_tiny
        from tests.test_protocol import *

        class Killer(Recorder):
            def step(self, run, done, total):
                if self.epochs == 3:
                    os.kill(os.getpid(), signal.SIGKILL)

        shrink_tiny(pytest.MonkeyPatch())
        carry_out(small_study({places!r}), Path({str(tmp_path / "run")!r}), Killer())
    """
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert carry_out(study, tmp_path / "run", resume=True) == records
    assert files_of(tmp_path / "run") == files_of(path)


def test_records_of_another_version_are_made_anew(folders, tmp_path):
    study = small_study(folders, strategies=["BL"])
    records = carry_out(study, tmp_path / "run")
    path = tmp_path / "run" / "runs" / "BL" / "results.json"
    content = json.loads(path.read_text())
    del content["records"][0]["source_loss"]
    path.write_text(json.dumps(content))
    listener = Recorder()
    assert carry_out(study, tmp_path / "run", listener, resume=True) == records
    assert listener.trained == []


def test_a_network_that_was_tested_without_keeping_its_answers_is_tested_again(folders, tmp_path):
    study = small_study(folders, strategies=["BL"])
    records = carry_out(study, tmp_path / "run")
    before = files_of(tmp_path / "run")
    results_file = tmp_path / "run" / "runs" / "BL" / "results.json"
    answers_file = results_file.with_name("answers.safetensors")
    content = json.loads(results_file.read_text())
    del content["answers"]  # as an older version wrote it

    def lose():
        results_file.write_text(json.dumps(content))
        answers_file.unlink()

    def damage():
        answers_file.write_bytes(answers_file.read_bytes()[:-1])

    for spoil in (lose, answers_file.unlink, damage):
        spoil()
        listener = Recorder()
        assert carry_out(study, tmp_path / "run", listener, resume=True) == records
        assert listener.trained == []
        assert files_of(tmp_path / "run") == before


def test_a_folder_in_use_is_refused_with_the_mend(done, folders, tmp_path):
    with pytest.raises(FercoreError, match="exists already; add --resume to continue it, or"):
        carry_out(small_study(folders), done[0])
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FercoreError, match=r"no config\.toml from which .*; choose another --out"):
        carry_out(small_study(folders), tmp_path, resume=True)


def test_another_network_in_the_place_of_the_tested_one_is_refused(done, folders, tmp_path):
    path = shutil.copytree(done[0], tmp_path / "run")
    shutil.copy(path / "runs/BL/best.safetensors", path / "runs/tgt-FC-50/best.safetensors")
    with pytest.raises(FercoreError, match=r"tgt-FC-50/best\.safetensors: is not the network that"):
        carry_out(small_study(folders), path, resume=True)


def test_what_a_killed_process_left_unfinished_goes(done, folders, tmp_path):
    path = shutil.copytree(done[0], tmp_path / "run")
    left = unfinished(path / "runs" / "BL" / "best.safetensors")
    left.touch()
    unfinished(path / "data").mkdir()
    carry_out(small_study(folders), path, resume=True)
    assert not list(path.rglob(".*"))


def test_twins_across_the_datasets_are_counted(folders, tmp_path):
    """With the source as its own target, every test image has one in the part that stays."""
    targets = [f"same=folder:{folders['source']}"]
    data = load_study(small_study(folders, targets=targets), tmp_path)
    assert not any("Exact twins" in note for note in data.facts()["src"].notes)
    swapped = tmp_path / "swapped"
    same = data.datasets["same"]
    parts = replace(same.parts, train=same.parts.test, test=same.parts.train)
    manifest.write(swapped / "same.csv", same.dataset, parts)
    data = load_study(small_study(folders, targets=targets, splits=str(swapped)), tmp_path)
    test, train = len(same.parts.test), len(same.parts.train)
    assert (
        f"Exact twins in same's train: {test} of {test} test images." in data.facts()["src"].notes
    )
    notes = data.facts()["same"].notes
    assert f"Exact twins in src's train: {train} of {train} test images." in notes
    assert (
        f"{swapped} has no manifest src.csv: split by the rule 'paper'."
        in data.facts()["src"].notes
    )


def test_resume_of_nothing_starts_anew(folders, tmp_path):
    study = small_study(folders, strategies=["BL"])
    records = carry_out(study, tmp_path / "run", resume=True)
    assert [record.run for record in records] == ["BL"]


def test_a_changed_setting_is_named_and_refused(done, folders):
    path, before = done[0], files_of(done[0])
    study = small_study(folders, finetune={"epochs": 3, "min_steps": 0})
    with pytest.raises(FercoreError, match=r"finetune\.epochs: 2 -> 3.*--accept-changes"):
        carry_out(study, path, resume=True)
    assert files_of(path) == before


def test_accepted_changes_train_only_what_they_affect(folders, tmp_path):
    path = tmp_path / "run"
    carry_out(small_study(folders), path)
    study = small_study(folders, finetune={"epochs": 3, "min_steps": 0})
    listener = Recorder()
    carry_out(study, path, listener, resume=True, accept_changes=True)
    assert listener.trained == ["tgt-FC-50", "tgt-FC-100"]
    # A changed baseline changes whatever starts from it.
    study = small_study(folders, strategy=[{"name": "long", "starts_from": "FC"}], seed=1)
    listener = Recorder()
    carry_out(study, path, listener, resume=True, accept_changes=True)
    assert set(listener.trained) == set(listener.finished_runs)


def test_an_added_target_leaves_the_other_runs_alone(folders, tmp_path):
    path = tmp_path / "run"
    carry_out(small_study(folders, strategies=["FC"], amounts=[100]), path)
    targets = [f"tgt=folder:{folders['target']}", f"more=folder:{folders['other']}"]
    study = small_study(folders, strategies=["FC"], amounts=[100], targets=targets)
    listener = Recorder()
    records = carry_out(study, path, listener, resume=True, accept_changes=True)
    assert listener.trained == ["more-FC-100"]
    assert [(r.run, r.target) for r in records] == [
        *(("BL", "tgt"), ("BL", "more"), ("tgt-FC-100", "tgt"), ("more-FC-100", "more")),
    ]


def test_changed_images_are_named_and_refused(tmp_path):
    target = write_folder(tmp_path / "target", 8, seed=2)
    folders = {"source": write_folder(tmp_path / "source", 12, seed=1), "target": target}
    study = small_study(folders, strategies=["FC"], amounts=[100])
    carry_out(study, tmp_path / "run")
    (target / "happy" / "000.png").unlink()
    with pytest.raises(FercoreError, match="changed: tgt: other images, labels or parts"):
        carry_out(study, tmp_path / "run", resume=True)
    listener = Recorder()
    carry_out(study, tmp_path / "run", listener, resume=True, accept_changes=True)
    assert listener.trained == ["tgt-FC-100"]  # not BL, which never saw them


def test_another_machine_is_named_and_refused(done, folders, tmp_path):
    path = tmp_path / "run"
    study = small_study(folders, strategies=["BL"])
    carry_out(study, path)
    facts = json.loads((path / "environment.json").read_text())
    (path / "environment.json").write_text(json.dumps({**facts, "instructions": "abacus"}))
    with pytest.raises(FercoreError, match="instructions: abacus -> "):
        carry_out(study, path, resume=True)


def test_two_processes_do_not_write_into_one_folder(folders, tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.locked(), pytest.raises(FercoreError, match="another fercore-train is writing"):
        execute(small_study(folders), directory, listener=Recorder())


# -- other studies ----------------------------------------------------------------------------


def test_several_seeds_are_several_networks(folders, tmp_path):
    study = small_study(folders, strategies=["BL"], seeds=2)
    records = carry_out(study, tmp_path / "run")
    assert [(r.run, r.seed) for r in records] == [("BL-s0", 0), ("BL-s1", 1)]
    first, second = (
        load_file(tmp_path / "run" / "runs" / run / "best.safetensors")
        for run in ("BL-s0", "BL-s1")
    )
    assert not np.array_equal(first["fc1.weight"], second["fc1.weight"])


def test_balanced_sampling_repeats_the_smaller_set(folders, tmp_path):
    from fercore.execution import training_images
    from fercore.plan import make_plan
    from fercore.study_data import load_study

    own = [
        {"name": "even", "trains_on": "both", "recipe": {"sampling": "balanced"}},
        {"name": "odd", "trains_on": "both"},
    ]
    study = small_study(folders, strategies=["even", "odd"], strategy=own, amounts=[100])
    data = load_study(study, tmp_path)
    runs = {run.id: run for run in make_plan(study, "src", ("tgt",))}
    even = training_images(runs["tgt-even-100"], data)
    odd = training_images(runs["tgt-odd-100"], data)
    sizes = [len(entry.parts.train) for entry in data.datasets.values()]
    assert len(odd) == sum(sizes)
    assert len(even) == 2 * max(sizes)
    target = even.sha256[max(sizes) :]
    assert len(set(target)) == min(sizes)  # all of them, again and again


def test_a_wrong_pattern_is_found_before_training(folders, tmp_path):
    own = [{"name": "mine", "trainable": ["conv9_*"]}]
    study = small_study(folders, strategies=["mine"], strategy=own)
    listener = Recorder()
    with pytest.raises(FercoreError, match=r"strategy mine: 'conv9_\*' matches no parameter"):
        carry_out(study, tmp_path / "run", listener)
    assert listener.epochs == 0
    assert not (tmp_path / "run").exists()


def test_a_single_network_lies_in_its_folder(folders, tmp_path):
    study = small_study(folders, targets=[], strategies=["BL"])
    directory = RunDirectory(tmp_path / "model", single=True)
    (record,) = execute(study, directory, listener=Recorder())
    assert record.target is None
    assert record.target_accuracy is None
    assert (tmp_path / "model" / "best.safetensors").exists()
    assert not (tmp_path / "model" / "runs").exists()


def test_a_target_without_a_common_class_is_refused(folders, tmp_path):
    some = write_folder(tmp_path / "some", 8, seed=1, classes=("angry", "fear"))
    rest = write_folder(tmp_path / "rest", 8, seed=1, classes=("happy", "sad"))
    study = small_study({"source": some, "target": rest})
    with pytest.raises(FercoreError, match="tgt and src have no class in common"):
        carry_out(study, tmp_path / "run")


def test_a_study_survives_in_its_results(done, tmp_path):
    results.write(tmp_path, done[1])
    assert results.read(tmp_path / "results.json") == done[1]


def write_ferplus(root):
    """Striped faces in fer2013.csv, and votes that mix each image's class with the next."""
    faces, parts = striped(70), ["Training"] * 50 + ["PublicTest"] * 10 + ["PrivateTest"] * 10
    columns = [4, 5, 6, 1, 3, 2, 0]  # of the votes, by class
    pixels, votes = ["emotion,pixels,Usage"], [HEADER]
    for image, label, part in zip(faces.images, faces.labels, parts, strict=True):
        cast = [0] * 10
        cast[columns[label]] += 6
        cast[columns[(label + 1) % 7]] += 4
        pixels.append(f"{label},{' '.join(map(str, image.ravel()))},{part}")
        votes.append(",".join([part, "", *map(str, cast)]))
    root.mkdir()
    (root / "fer2013.csv").write_text("\n".join(pixels) + "\n")
    (root / "fer2013new.csv").write_text("\n".join(votes) + "\n")
    return root


def test_a_study_on_shares_of_votes(folders, tmp_path):
    """FU fuses votes and labels; every test is against the majority, and the page says so."""
    votes = {"name": "ferplus", "path": str(write_ferplus(tmp_path / "ferplus"))}
    losses = {}
    for labels in ("majority", "probability", "multi-target"):
        source = {**votes, "options": {"labels": labels}}
        study = small_study(folders, source=source, amounts=[100], out=str(tmp_path / labels))
        directory = RunDirectory(tmp_path / labels)
        records = execute(study, directory)
        lines = (directory.path / "runs" / "BL" / "metrics.jsonl").read_text().splitlines()
        losses[labels] = json.loads(lines[0])["train_loss"]
        facts = json.loads((directory.path / "datasets.json").read_text())["ferplus"]
        assert facts["images"] == {"train": 50, "validation": 10, "test": 10}
        assert {record.n_source for record in records} == {10}
        said = {"majority": "A label is what", "probability": "are probabilities"}
        page = reporting.write_page(directory).read_text()
        assert said.get(labels, "are multi-target") in page
    assert len(set(losses.values())) == 3
