"""Records: scores, changes from the baseline, files."""

import csv

import numpy as np
import pytest

from fercore import results
from fercore.errors import FercoreError
from tests.records import record, study


def test_a_score_by_hand():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [9.0, 8.0, 0.0]])
    labels = np.array([0, 1, 2, 1])
    score = results.score(logits, labels, shared=[1, 2])
    assert (score.n, score.accuracy) == (4, 0.5)
    assert score.confusion == [[1, 0, 0], [1, 0, 1], [0, 0, 1]]
    assert score.balanced_accuracy == pytest.approx((1 + 0 + 1) / 3)
    # Without class 0, the last row becomes right.
    assert (score.n_shared, score.accuracy_shared) == (3, pytest.approx(2 / 3))
    assert score.classes_shared == 2
    assert score.accuracy_present == score.accuracy  # every class is there


def test_a_score_without_any_shared_class():
    score = results.score(np.eye(3)[:2], np.array([0, 1]), shared=[2])
    assert (score.n_shared, score.accuracy_shared) == (0, None)


def test_changes_are_taken_from_the_baseline_of_the_same_seed_and_target():
    records = results.compared(
        [
            record(),
            record(seed=1, source=0.5, target=0.1),
            record("FC", 50, source=0.4, target=0.5),
            record("FC", 50, source=0.4, target=0.5, seed=1),
        ]
    )
    assert records[0].forgetting is None
    assert records[0].gain is None
    assert records[2].forgetting == pytest.approx(0.2)
    assert records[2].gain == pytest.approx(0.1)
    assert records[3].forgetting == pytest.approx(0.1)
    assert records[3].gain == pytest.approx(0.4)


def test_records_survive_their_files(tmp_path):
    results.write(tmp_path, study())
    assert results.read(tmp_path / "results.json") == study()
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["run"] for row in rows] == [r.run for r in study()]
    assert rows[0]["amount"] == ""
    assert float(rows[1]["source_accuracy"]) == 0.5
    assert "source_confusion" not in rows[0]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('[{"run": "BL"}]')
    with pytest.raises(FercoreError, match=r"results\.json: is damaged .*missing required field"):
        results.read(path)
    path.write_text("[")
    with pytest.raises(FercoreError, match=r"results\.json"):
        results.read(path)
