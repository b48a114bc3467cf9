"""Answers of a study's networks, beside the names of the images they belong to."""

import json
import shutil

import numpy as np
import pytest

from fercore import answers, results, tensor_file
from fercore.answers import StudyAnswers
from fercore.config import study_from
from fercore.errors import FercoreError
from fercore.plan import Part
from fercore.protocol import execute
from fercore.run_directory import RunDirectory
from fercore.study_data import load_study
from tests.faces import quick_studies, write_folder

TARGET_SUBJECTS = r"(\d)\d\.png"
"""The tens of an image's number: with 40 images a class, four people."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    source = write_folder(root / "source", 12, seed=1)
    target = write_folder(root / "target", 40, seed=2, classes=("angry", "happy"))
    return study_from(
        {
            "source": f"src=folder:{source}",
            "targets": [
                {
                    "name": "tgt",
                    "format": "folder",
                    "path": str(target),
                    "options": {"subject": TARGET_SUBJECTS},
                }
            ],
            "model": "tiny",
            "strategies": ["FC"],
            "amounts": [50],
            "recipe": {"epochs": 1, "batch_size": 16, "warmup_epochs": 0},
            "finetune": {"epochs": 1, "min_steps": 0},
        }
    )


@pytest.fixture(scope="module")
def done(study, tmp_path_factory):
    """A finished study, its records, and its images as the run saw them."""
    with quick_studies(tmp_path_factory.mktemp("cache")):
        path = tmp_path_factory.mktemp("study") / "run"
        records = execute(study, RunDirectory(path))
        yield path, records, load_study(study, path)


def test_a_row_of_logits_belongs_to_the_image_that_is_named(done):
    path, records, data = done
    read = StudyAnswers(RunDirectory(path))
    for record in records:
        found = read.of(record.run)
        assert set(found) == {(d, p) for d in ("src", "tgt") for p in ("test", "validation")}
        for (dataset, part), answer in found.items():
            wanted = data.select(Part(dataset, part))
            np.testing.assert_array_equal(answer.images.labels, wanted.labels)
            assert answer.images.files == wanted.files
            assert answer.images.subjects == wanted.subjects
            assert answer.images.sha256 == wanted.sha256
            assert answer.logits.dtype == np.float32
            assert answer.logits.shape == (len(wanted), 7)
        assert np.mean(found["src", "test"].correct) == record.source_accuracy
        assert np.mean(found["tgt", "test"].correct) == record.target_accuracy
        assert np.mean(found["tgt", "validation"].correct) == record.target_validation_accuracy


def test_the_subjects_of_the_target_are_known(done):
    images = StudyAnswers(RunDirectory(done[0])).images("tgt", "test")
    assert set(images.subjects) <= set("0123")
    assert all(images.subjects)


def test_the_share_that_was_trained_on_is_part_of_the_training_images(done):
    read = StudyAnswers(RunDirectory(done[0]))
    half, whole = read.images("tgt", "train", 50), read.images("tgt", "train")
    assert set(half.files) < set(whole.files)


def test_what_a_network_learned_from_is_known_with_its_parents_part(done):
    path, _, data = done
    read = StudyAnswers(RunDirectory(path))
    assert read.lineage("BL") == ("BL",)
    assert read.lineage("tgt-FC-50") == ("BL", "tgt-FC-50")
    source, half = data.select(Part("src", "train")), data.select(Part("tgt", "train", 50))
    assert read.trained_on("BL") == set(source.sha256)
    assert read.trained_on("tgt-FC-50") == {*source.sha256, *half.sha256}


def test_classes_are_those_of_all_parts(done):
    read = StudyAnswers(RunDirectory(done[0]))
    assert read.classes("src") == set(range(7))
    assert read.classes("tgt") == {0, 3}


def test_no_pixel_is_in_the_files(done):
    """Logits are all that they hold: 7 numbers an image."""
    path, records, _ = done
    for record in records:
        file = tensor_file.read(path / "runs" / record.run / answers.FILE)
        assert all(array.shape[1:] == (7,) for array in file.tensors.values())
        assert file.metadata.keys() == {"datasets"}


def test_missing_answers_are_named_with_the_mend(done, tmp_path):
    path = shutil.copytree(done[0], tmp_path / "run")
    (path / "runs" / "BL" / answers.FILE).unlink()
    with pytest.raises(FercoreError, match=r"BL/answers\.safetensors: is missing; .*--resume"):
        StudyAnswers(RunDirectory(path)).of("BL")


def test_answers_to_other_images_are_refused(done, tmp_path):
    path = shutil.copytree(done[0], tmp_path / "run")
    facts = json.loads((path / "datasets.json").read_text())
    facts["tgt"]["digest"] = "0"
    (path / "datasets.json").write_text(json.dumps(facts))
    with pytest.raises(FercoreError, match=r"answers\.safetensors: was made from other images"):
        StudyAnswers(RunDirectory(path)).of("BL")


def test_a_manifest_that_lost_a_line_is_noticed(done, tmp_path):
    path = shutil.copytree(done[0], tmp_path / "run")
    manifest = path / "splits" / "tgt.csv"
    lines = manifest.read_text().splitlines(keepends=True)
    lost = next(i for i, line in enumerate(lines) if ",test," in line)
    manifest.write_text("".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(FercoreError, match=r"has \d+ answers, but .* has \d+ test images of tgt"):
        StudyAnswers(RunDirectory(path)).of("BL")


def test_results_of_the_whole_study_name_every_run_with_answers(done, tmp_path):
    results.write(tmp_path, done[1])
    read = StudyAnswers(RunDirectory(done[0]))
    assert all(read.of(record.run) for record in results.read(tmp_path / "results.json"))
