"""A study with the eighth class, contempt: from folders to the report, a prediction and an export.

The source has the seven basic classes and the target what CK+48 has: contempt, and no neutral.
"""

import json
import tomllib

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from fercore import (
    backends,
    checkpoint,
    drawing,
    estimate,
    export,
    models,
    predict,
    pytorch,
    report,
    reporting,
    results,
    tensor_file,
)
from fercore.config import study_from
from fercore.data import DatasetSpec, load
from fercore.data.dataset import BASIC, CLASSES
from fercore.errors import FercoreError
from fercore.plan import make_plan
from fercore.progress import Listener
from fercore.protocol import execute, make_workloads
from fercore.run_directory import RunDirectory
from fercore.study_data import load_study
from tests.data.test_ferplus import HEADER
from tests.faces import quick_studies, write_folder
from tests.small_data import striped

CK48 = tuple(name for name in CLASSES if name != "neutral")


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """A small network, and a cache of our own; skipped where there is no cpu backend."""
    with quick_studies(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    return {
        "source": write_folder(root / "source", 10, seed=1),
        "target": write_folder(root / "target", 10, seed=2, classes=CK48),
        "all": write_folder(root / "all", 10, seed=3, classes=CLASSES),
    }


def small_study(folders, **settings):
    return study_from(
        {
            "source": f"src=folder:{folders['source']}",
            "targets": [f"tgt=folder:{folders['target']}"],
            "model": "tiny",
            "contempt": True,
            "strategies": ["FC", "FU", "TO"],
            "amounts": [100],
            "recipe": {"epochs": 1, "min_steps": 0, "batch_size": 16, "class_weights": "balanced"},
            "finetune": {"epochs": 1, "min_steps": 0},
            **settings,
        }
    )


class Recorder(Listener):
    """Remembers which runs were trained."""

    def __init__(self):
        self.trained = []

    def epoch(self, run, line):
        self.trained.append(run)


def carry_out(study, path, listener=None, **options):
    return execute(study, RunDirectory(path), listener=listener or Recorder(), **options)


@pytest.fixture(scope="module")
def done(folders, tmp_path_factory):
    """A finished study: its folder and records."""
    path = tmp_path_factory.mktemp("study") / "run"
    return path, carry_out(small_study(folders), path)


def best(path, run="tgt-FU-100"):
    return path / "runs" / run / "best.safetensors"


# -- what a study leaves ----------------------------------------------------------------------


def test_everything_that_is_written_knows_eight_classes(done):
    path, records = done
    assert tomllib.loads((path / "config.toml").read_text())["contempt"] is True
    assert len(records) == 4
    for record in records:
        assert (record.classes, record.shared_classes) == (8, 6)
        assert np.shape(record.source_confusion) == np.shape(record.target_confusion) == (8, 8)
        assert np.sum(record.source_confusion[7]) == 0
        assert np.sum(record.target_confusion[6]) == 0
        contempt = np.sum(record.target_confusion[7])
        assert contempt > 0
        assert record.n_target_shared == record.n_target - contempt
        folder = path / "runs" / record.run
        assert json.loads((folder / "run.json").read_text())["run"]["classes"] == 8
        assert tensor_file.read(folder / "best.safetensors").metadata["classes"] == list(CLASSES)
        for name, logits in load_file(folder / "answers.safetensors").items():
            assert logits.shape[1] == 8, name
    labels = {line.split(",")[3] for line in (path / "splits" / "tgt.csv").read_text().split()[1:]}
    assert labels == set(CK48)


def test_the_report_says_which_classes_both_sets_have(done):
    path, records = done
    table = report.write(RunDirectory(path), records)
    assert any("src and tgt share 6 of 8 classes" in note for note in table.notes)
    assert "src: No image of contempt." in table.notes
    assert "tgt: No image of neutral." in table.notes
    said = " ".join(
        text for question in table.answers for _, said in question.answers for text in said
    )
    assert "Over the 6 classes that both sets have" in said
    rows = [row.label for row in table.blocks[0]]
    assert f"tgt, shared classes (n={records[0].n_target_shared})" in rows
    assert results.read(path / "results.json") == records


def test_the_page_has_a_column_for_contempt(done, folders, tmp_path):
    path, records = done
    report.write(RunDirectory(path), records)
    page = reporting.write_page(RunDirectory(path)).read_text()
    assert page.count('<th scope="col">contempt</th>') == 2  # images of both sets by class
    assert "contempt <small>n=" in page  # recall
    basic = tmp_path / "basic"
    study = small_study(folders, contempt=False, strategies=["BL"])
    report.write(RunDirectory(basic), carry_out(study, basic))
    page = reporting.write_page(RunDirectory(basic)).read_text()
    assert '<th scope="col">neutral</th>' in page
    assert '<th scope="col">contempt</th>' not in page


def test_time_and_memory_are_told_for_eight_classes(folders, tmp_path):
    study = small_study(folders)
    assert "tgt-TO-100" in estimate.dry_run(study)
    data = load_study(study, tmp_path)
    runs = make_plan(study, data.source, data.targets)
    assert {workload.classes for workload in make_workloads(runs, data)} == {8}


def test_shares_of_contempt_are_learned_beside_labels(folders, tmp_path):
    """FU fuses FER+'s votes with the labels of a folder."""
    faces = striped(64)
    columns = [
        HEADER.split(",").index(word) - 2 for word in ("anger", "disgust", "fear", "contempt")
    ]
    pixels, votes = ["emotion,pixels,Usage"], [HEADER]
    for row, image in enumerate(faces.images):
        part = ("Training", "Training", "PublicTest", "PrivateTest")[row // 4 % 4]
        cast = [0] * 10
        cast[columns[row % 4]], cast[columns[(row + 1) % 4]] = 6, 4
        pixels.append(f"{row % 7},{' '.join(map(str, image.ravel()))},{part}")
        votes.append(",".join([part, "", *map(str, cast)]))
    (tmp_path / "ferplus").mkdir()
    (tmp_path / "ferplus" / "fer2013.csv").write_text("\n".join(pixels) + "\n")
    (tmp_path / "ferplus" / "fer2013new.csv").write_text("\n".join(votes) + "\n")
    source = {"name": "ferplus", "path": str(tmp_path / "ferplus")}
    source["options"] = {"labels": "probability"}
    study = small_study(folders, source=source, strategies=["FU"])
    data = load_study(study, tmp_path)
    fused = data.join(make_plan(study, data.source, data.targets)[-1].trains_on)
    assert fused.lessons.shape == (len(fused), 8)
    assert fused.classes == 8
    np.testing.assert_allclose(fused.lessons.sum(axis=1), 1)
    assert set(fused.lessons[:, 7].astype(float).round(6)) == {0.0, 0.4, 0.6, 1.0}
    records = carry_out(study, tmp_path / "run")
    assert {record.classes for record in records} == {8}
    assert np.sum(records[-1].source_confusion[7]) == 4


# -- what is done with a network --------------------------------------------------------------


def test_predictions_name_eight_classes(done, folders, tmp_path):
    backend = backends.get("cpu")
    model = checkpoint.load_model(best(done[0]), backend)
    assert model.classes == 8
    face = folders["target"] / "contempt" / "000.png"
    predictions, _ = predict.predict_files(model, [face], backend=backend)
    (told,) = json.loads(predict.predictions_as_json(predictions, []))
    assert tuple(told["probabilities"]) == CLASSES
    assert predict.predictions_as_text(predictions).split()[3:11] == list(CLASSES)
    sure = predict.Prediction(str(face), (0.0,) * 7 + (1.0,), predictions[0].box, False)
    assert sure.label == "contempt"
    assert len(drawing.write(tmp_path / "seen", [face], [sure])) == 1


def test_an_evaluation_has_a_row_for_contempt(done, folders):
    backend = backends.get("cpu")
    model = checkpoint.load_model(best(done[0]), backend)
    dataset = load(DatasetSpec("tgt", "folder", folders["target"]), contempt=True)
    score = predict.evaluate(model, dataset, np.arange(len(dataset)), backend=backend)
    lines = predict.score_as_text(score, "tgt").splitlines()
    assert any("among the 7 classes of the dataset" in line for line in lines)
    assert sum(map(int, lines[-1].removeprefix("contempt").split())) == 10


def test_exports_come_back_with_eight_outputs(done, tmp_path):
    reference = backends.get("reference", dtype="float32")
    model = checkpoint.load_model(best(done[0]), reference)
    export.save(tmp_path / "there.safetensors", model)
    back = pytorch.load_model(tmp_path / "there.safetensors", reference)
    checkpoint.save_model(tmp_path / "back.safetensors", back)
    again = checkpoint.load_model(tmp_path / "back.safetensors", reference)
    for name, array in model.state().items():
        np.testing.assert_array_equal(again.state()[name], array)


def test_the_onnx_graph_names_eight_classes(done, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = checkpoint.load_model(best(done[0]), backends.get("reference", dtype="float32"))
    export.save(tmp_path / "network.onnx", model)
    graph = onnx.load(tmp_path / "network.onnx")
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(facts["classes"]) == list(CLASSES)
    for output in graph.graph.output:
        assert output.type.tensor_type.shape.dim[1].dim_value == 8


# -- what does not go together ----------------------------------------------------------------


def test_another_number_of_classes_is_a_change_of_settings(folders, tmp_path):
    path = tmp_path / "run"
    carry_out(small_study(folders), path)
    study = small_study(folders, contempt=False)
    with pytest.raises(FercoreError, match=r"contempt: True -> False.*--accept-changes"):
        carry_out(study, path, resume=True)
    listener = Recorder()
    records = carry_out(study, path, listener, resume=True, accept_changes=True)
    assert set(listener.trained) == {record.run for record in records}
    assert {np.shape(record.target_confusion) for record in records} == {(7, 7)}
    assert best(path).exists()
    assert checkpoint.load_model(best(path), backends.get("cpu")).classes == 7


@pytest.mark.parametrize(("classes", "mend"), [(7, "leave out --contempt"), (8, "add --contempt")])
def test_a_baseline_must_know_the_studys_classes(folders, tmp_path, classes, mend):
    given = tmp_path / "given.safetensors"
    checkpoint.save_model(given, models.build("tiny", classes))
    study = small_study(folders, baseline=str(given), contempt=classes == 7)
    with pytest.raises(FercoreError, match=rf"given\.safetensors: its classes are not .*{mend}"):
        carry_out(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_baseline_that_knows_contempt_is_adapted(done, folders, tmp_path):
    given = best(done[0], "BL")
    study = small_study(folders, baseline=str(given), strategies=["FC"])
    records = carry_out(study, tmp_path / "run")
    assert records[0].target_accuracy == done[1][0].target_accuracy


def test_contempt_that_no_dataset_has_is_refused(folders, tmp_path):
    study = small_study(folders, targets=[f"tgt=folder:{folders['source']}"])
    with pytest.raises(FercoreError, match="no dataset has an image of it"):
        carry_out(study, tmp_path / "run")


# -- studies of before ------------------------------------------------------------------------


def test_runs_without_contempt_have_the_fingerprints_of_before(folders):
    """What decides a fingerprint says nothing of the number of classes where it is seven."""
    study = small_study(folders, contempt=False)
    for run in make_plan(study, "src", ("tgt",)):
        assert run.classes == BASIC
        assert "classes" not in msgspec.to_builtins(run)
    for run in make_plan(small_study(folders), "src", ("tgt",)):
        assert msgspec.to_builtins(run)["classes"] == len(CLASSES)


def test_a_study_of_before_is_not_trained_again(folders, tmp_path):
    """Its settings, records and datasets have no word for contempt."""
    path, study = tmp_path / "run", small_study(folders, contempt=False)
    records = carry_out(study, path)
    config = (path / "config.toml").read_text()
    (path / "config.toml").write_text(config.replace("contempt = false\n", ""))
    for file in path.glob("runs/*/results.json"):
        content = json.loads(file.read_text())
        for record in content["records"]:
            del record["classes"]
        file.write_text(json.dumps(content))
    listener = Recorder()
    assert carry_out(study, path, listener, resume=True) == records
    assert listener.trained == []


def test_a_network_with_all_classes_learns_contempt(folders, tmp_path):
    """Stripes are easy: the eighth is recognised."""
    study = small_study(
        folders,
        source=f"src=folder:{folders['all']}",
        targets=[],
        strategies=["BL"],
        model="tiny-bn",
        recipe={"epochs": 60, "min_steps": 0, "batch_size": 8, "dropout": 0.0, "flip": 0.0},
    )
    (record,) = carry_out(study, tmp_path / "run")
    assert record.shared_classes == record.classes == 8
    assert record.source_confusion[7][7] > 0
