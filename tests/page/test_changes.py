"""Bars of forgetting and gain."""

import msgspec
import pytest

from fercore.answers import StudyAnswers
from fercore.findings import by_target
from fercore.page import changes
from fercore.page.study import read
from fercore.versus import Comparisons, compare
from fercore.words import signed
from tests.page.folder import StudyFolder
from tests.records import study

STRATEGIES = ["BL", "FC", "FU", "TO"]


def charts(records):
    return changes.charts(by_target(records), Comparisons({}, {}), STRATEGIES)


def marks(chart, css):
    return [mark for mark in chart.marks if css in mark.attributes["class"].split()]


def test_forgetting_and_gain_in_words():
    ((name, (lost, won)),) = charts(study())
    assert name == "jaffe"
    assert lost.title == "fer2013 accuracy lost"
    # TO loses 40 points; BL itself has no bar; without answers there is no interval.
    assert lost.description.startswith("In points: FC 50 +10.0; FC 100 +15.0; FU 50 0.0; FU 100")
    assert not marks(lost, "whisker")
    assert "FU 100 +30.0" in won.description
    assert "BL" not in lost.description


def test_bars_are_as_long_as_their_changes():
    ((_, (lost, _)),) = charts(study())
    bars, zero = marks(lost, "bar"), marks(lost, "zero")[0]
    start = float(zero.attributes["x1"])
    assert all(float(bar.attributes["x"]) == pytest.approx(start, abs=0.1) for bar in bars[:2])
    widths = [float(bar.attributes["width"]) for bar in bars]
    assert widths[5] / widths[0] == pytest.approx(4, rel=0.02)  # 40 points and 10
    assert float(bars[3].attributes["x"]) < start  # FU 100 remembers more than BL
    assert [mark.text for mark in marks(lost, "number")][:2] == ["+10.0", "+15.0"]


def test_one_scale_for_all_targets():
    milder = [
        msgspec.structs.replace(r, target="mug", source_accuracy=(r.source_accuracy + 0.6) / 2)
        for r in study()
    ]
    (_, (lost, won)), (_, (other_lost, _)) = charts([*study(), *milder])
    ticks = [[m.text for m in marks(chart, "tick")] for chart in (lost, other_lost, won)]
    assert ticks[0] == ticks[1] != ticks[2]


def test_nothing_to_compare_without_a_baseline_or_without_others():
    assert charts(study()[1:]) == []
    assert charts(study()[:1]) == []


def test_paired_intervals_where_answers_are_known(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    found = read(folder.directory)
    comparisons = compare(StudyAnswers(folder.directory), found.records)
    targets = by_target(found.records)
    ((_, (lost, won)),) = changes.charts(targets, comparisons, STRATEGIES)
    assert len(marks(lost, "whisker")) == 6 * 3
    # FU 50 is right and wrong on just the images that BL is: nothing can vary.
    assert "FU 50 0.0 (0.0 to 0.0" in lost.description
    beside = {v.name: v for v in comparisons.against("tgt", "tgt", ("BL", None))}
    by_person, by_image = (j.interval for j in beside["FU 100"].judgements)
    assert f"FU 100 +42.9 ({points(by_image)}, by person {points(by_person)})" in won.description
    turned = {v.name: v for v in comparisons.against("tgt", "src", ("BL", None))}
    _, (low, high) = (j.interval for j in turned["FC 100"].judgements)
    assert f"FC 100 +38.1 ({points((-high, -low))}, by person" in lost.description


def points(interval):
    return " to ".join(signed(100 * bound, 1) for bound in interval)
