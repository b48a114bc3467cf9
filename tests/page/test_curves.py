"""Learning curves from a run directory."""

import pytest

from fercore.page import curves
from fercore.page.study import read
from tests.page.folder import STUDY, Column, StudyFolder


def groups(folder):
    return dict(curves.groups(read(folder.directory)))


def marks(chart, css):
    return [mark for mark in chart.marks if css in mark.attributes["class"].split()]


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    return folder


def test_a_chart_for_every_column_in_the_order_of_the_table(folder):
    found = groups(folder)
    assert [chart.title for chart in found[None]] == ["BL"]
    assert [chart.title for chart in found["tgt"]] == [
        *("FC 50", "FC 100", "FU 50", "FU 100", "TO 50", "TO 100")
    ]


def test_the_curve_in_words(folder):
    first = groups(folder)["tgt"][0]
    assert first.description == (
        "Epoch 2 of 3 is kept. Source: 75.0 before, 75.0 there, 50.0 at the end (n=14). "
        "Target: 62.5 there, 50.0 at the end (n=14)."
    )
    alone = groups(folder)["tgt"][-1]  # TO starts from nothing
    assert "Source: 75.0 there" in alone.description


def test_the_source_is_followed_at_every_epoch(folder):
    first = groups(folder)["tgt"][0]
    (curve,) = [mark for mark in marks(first, "source") if mark.tag == "polyline"]
    points = [tuple(map(float, p.split(","))) for p in curve.attributes["points"].split()]
    assert len(points) == 3
    assert points[0][1] == points[2][1] > points[1][1]  # 50, 75 and 50 %: down is up in SVG
    assert len(marks(first, "before")) == 1
    assert not marks(groups(folder)["tgt"][-1], "before")


def test_seeds_share_a_chart(tmp_path):
    folder = StudyFolder(tmp_path / "run", seeds=2)
    folder.write_study()
    first = groups(folder)["tgt"][0]
    assert len([m for m in marks(first, "source") if m.tag == "polyline"]) == 2
    assert "Seed 0." in first.description
    assert "Seed 1." in first.description


def test_a_run_in_training_says_so(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_run(STUDY[0], tested=False)
    (chart,) = groups(folder)[None]
    assert chart.description.startswith("In training: epoch 3 of 3.")
    (folder.path / "runs" / "BL" / "state.json").unlink()  # written after the first epoch
    (chart,) = groups(folder)[None]
    assert chart.description.startswith("In training: epoch 3 of an unknown number.")


def test_a_run_without_an_epoch_has_no_chart(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_run(Column("BL", None, 1, 1), tested=False)
    (folder.path / "runs" / "BL" / "metrics.jsonl").unlink()
    assert groups(folder) == {}
