"""Layer by layer: what moved, by how much, and what was not measured."""

import json

import pytest

from fercore import page
from fercore.page.layers import layers
from fercore.page.study import read
from tests.page.folder import STUDY, StudyFolder
from tests.page.markup import by_id, elements, parse, rows, words


def write_drift(folder, run, weights, features):
    content = {
        "run": run,
        "baseline": "BL",
        "dataset": "src",
        "images": 21,
        "made_from": ["a", "b", "c"],
        "weights": {f"{layer}.weight": value for layer, value in weights.items()},
        "features": features,
    }
    (folder.path / "runs" / run / "analysis.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    return folder


def test_frozen_layers_are_exactly_nought_and_one(folder):
    write_drift(folder, "tgt-FC-50", {"conv": 0.0, "fc": 0.25}, {"conv": 1.0, "fc": 0.9})
    write_drift(folder, "tgt-FC-100", {"conv": 1e-5, "fc": 0.5}, {"conv": 0.99999, "fc": None})
    section = by_id(parse(page.render(folder.directory)), "layers")
    weights, features = (rows(table) for table in elements(section, "table"))
    assert weights["strategy"] == ["conv", "fc"]
    assert weights["FC 50"] == ["0", "0.250"]
    assert weights["FC 100"] == ["0.001", "0.500"]  # it moved, and does not look frozen
    assert features["FC 50"] == ["1", "0.900"]
    assert features["FC 100"] == ["0.999", "none"]


def test_networks_of_another_origin_have_features_alone(folder):
    for run in ("tgt-FC-50", "tgt-FU-50"):
        write_drift(folder, run, {"fc": 1.4}, {"fc": 0.5})
    (found,) = layers(read(folder.directory)).targets
    assert [name for name, _ in found.weights.rows] == ["FC 50"]
    assert [name for name, _ in found.features.rows] == ["FC 50", "FU 50"]


def test_seeds_are_averaged(tmp_path):
    folder = StudyFolder(tmp_path / "run", seeds=2)
    folder.write_study(STUDY[:2])
    write_drift(folder, "tgt-FC-50-s0", {"fc": 0.1, "x": None}, {"fc": 0.8, "x": None})
    write_drift(folder, "tgt-FC-50-s1", {"fc": 0.3, "x": 0.5}, {"fc": 0.6, "x": 0.2})
    (found,) = layers(read(folder.directory)).targets
    ((_, weights),) = found.weights.rows
    assert [figure.value for figure in weights] == pytest.approx([0.2, 0.5])
    assert [figure.shade for figure in weights] == pytest.approx([0.4, 1.0])
    ((_, features),) = found.features.rows
    assert [figure.shade for figure in features] == pytest.approx([0.3, 0.8])


def test_what_was_not_measured_says_how_to_get_it(folder):
    write_drift(folder, "tgt-FC-50", {"fc": 0.1}, {"fc": 0.8})
    text = words(by_id(parse(page.render(folder.directory)), "layers"))
    assert "Not measured: tgt-FU-50, tgt-TO-50, tgt-FC-100" in text
    assert f"fercore-train protocol --out {folder.path} --resume" in text
