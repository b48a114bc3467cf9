"""The plot of memory against gain."""

import msgspec
import pytest

from fercore import evidence
from fercore.findings import by_target
from fercore.page import memory
from fercore.page.study import read
from tests.page.folder import StudyFolder
from tests.records import record, study, unanswered

STRATEGIES = ["BL", "FC", "FU", "TO"]


def chart(records):
    (target,) = by_target(records)
    return memory.chart(unanswered(records), target, STRATEGIES, 0)


def marks(chart, css):
    return [mark for mark in chart.marks if css in mark.attributes["class"].split()]


def front(*accuracies):
    records = [record(f"S{i}", 50, *pair) for i, pair in enumerate(accuracies)]
    (target,) = by_target(records)
    return [cell.name for cell in memory.pareto_front(list(target.cells.values()))]


@pytest.mark.parametrize(
    ("accuracies", "names"),
    [
        ([(0.5, 0.5)], ["S0 50"]),
        ([(0.5, 0.5), (0.6, 0.6)], ["S1 50"]),
        ([(0.5, 0.6), (0.6, 0.5), (0.4, 0.4)], ["S1 50", "S0 50"]),
        ([(0.5, 0.5), (0.5, 0.6)], ["S1 50"]),
        ([(0.5, 0.5), (0.5, 0.5)], ["S0 50", "S1 50"]),  # equals do not surpass each other
    ],
)
def test_the_front_holds_what_nothing_surpasses(accuracies, names):
    assert front(*accuracies) == names


def test_one_point_a_run_with_its_figures():
    again = [msgspec.structs.replace(r, seed=1, run=f"{r.run}-s1") for r in study()]
    points = marks(chart([*study(), *again]), "point")
    assert len(points) == 14
    assert points[1].hint == "jaffe-FC-50: 50.0 % on jaffe, 50.0 % on fer2013"


def test_points_stand_where_their_accuracies_are():
    drawn = chart([record(), record("FC", 100, 0.3, 0.8)])
    first, second = marks(drawn, "point")
    x, y = float(first.attributes["cx"]), float(first.attributes["cy"])
    corners = [tuple(map(float, c.split(","))) for c in second.attributes["points"].split()]
    across, down = (sum(values) / 4 for values in zip(*corners, strict=True))
    dashed = marks(drawn, "reference")
    assert {mark.attributes["y1"] for mark in dashed} >= {first.attributes["cy"]}
    ticks = marks(drawn, "tick")
    along = [(float(t.text), float(t.attributes["x"])) for t in ticks if is_below(t)]
    up = [(float(t.text), float(t.attributes["y"]) - 3.5) for t in ticks if not is_below(t)]
    assert (x, across) == pytest.approx((read_off(along, 40), read_off(along, 80)), abs=0.2)
    assert (y, down) == pytest.approx((read_off(up, 60), read_off(up, 30)), abs=0.2)


def is_below(tick):
    return tick.attributes["text-anchor"] == "middle"


def read_off(ticks, value):
    """Where a value stands on an axis, from its first and last tick."""
    (low, start), (high, end) = ticks[0], ticks[-1]
    return start + (value - low) / (high - low) * (end - start)


def test_fewer_images_are_hollow():
    drawn = marks(chart(study()), "point")
    assert ["half" in mark.attributes["class"] for mark in drawn] == [
        *(False, True, False),
        *(True, False, True, False),
    ]


def test_the_corner_better_than_bl_is_shaded_and_the_front_described():
    drawn = chart(study())
    assert len(marks(drawn, "better")) == 1
    assert "BL stands at 40.0 % on jaffe and 60.0 % on fer2013." in drawn.description
    assert "than these: FU 100 (70.0 % on jaffe, 61.0 % on fer2013)." in drawn.description
    assert not marks(chart(study()[1:]), "better")  # without BL


def test_labels_do_not_cover_each_other():
    labels = marks(chart(study()), "label")
    assert len(labels) >= 5
    places = [(float(m.attributes["x"]), float(m.attributes["y"]), m.text) for m in labels]
    for i, (x, y, text) in enumerate(places):
        for other_x, other_y, other in places[:i]:
            apart = (
                abs(y - other_y) >= 10
                or x >= other_x + 5.6 * len(other)
                or other_x >= x + 5.6 * len(text)
            )
            assert apart, (text, other)


def test_crosses_are_the_intervals_of_both_accuracies(tmp_path):
    folder = StudyFolder(tmp_path / "run")
    folder.write_study()
    found = evidence.gather(folder.directory, read(folder.directory).records)
    drawn = memory.chart(found, found.targets[0], STRATEGIES, 0)
    across, along = marks(drawn, "spread")[:2]  # of BL
    known = found.memory["tgt", ("BL", None)]
    ticks = marks(drawn, "tick")
    below = [(float(t.text), float(t.attributes["x"])) for t in ticks if is_below(t)]
    beside = [(float(t.text), float(t.attributes["y"]) - 3.5) for t in ticks if not is_below(t)]
    ends = [read_off(below, 100 * bound) for bound in known.target.interval]
    assert [float(across.attributes[x]) for x in ("x1", "x2")] == pytest.approx(ends, abs=0.2)
    ends = [read_off(beside, 100 * bound) for bound in known.source.interval]
    assert [float(along.attributes[y]) for y in ("y1", "y2")] == pytest.approx(ends, abs=0.2)
    assert not marks(chart(study()), "spread")  # nothing is known without answers
