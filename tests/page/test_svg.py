"""Scales, ticks and marks of charts."""

import pytest

from fercore.page import svg
from fercore.page.svg import Scale


def test_a_scale_maps_its_ends_and_its_middle():
    scale = Scale(20, 60, 100, 0)
    assert [scale(20), scale(60), scale(40)] == [100, 0, 50]


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 100, 6, [0, 20, 40, 60, 80, 100]),
        (-30, 30, 6, [-30, -20, -10, 0, 10, 20, 30]),
        (0.3, 0.9, 4, [0.4, 0.6, 0.8]),
        (41, 43, 4, [41, 41.5, 42, 42.5, 43]),
    ],
)
def test_ticks_are_round_and_few(low, high, most, ticks):
    assert Scale(low, high, 0, 1).ticks(most) == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[3.2], [3.2, 97.0], [-61.0, 0.0, 44.0], [0.0, 0.0], [100.0]])
def test_bounds_hold_all_values(values):
    low, high = svg.enclosing(values)
    assert low < min(values)
    assert high > max(values)
    assert svg.enclosing(values, 0, 100)[1] <= 100


@pytest.mark.parametrize(
    ("least", "step"), [(0.9, 1), (1, 1), (1.1, 2), (7, 10), (12, 20), (0.03, 0.05)]
)
def test_steps_are_one_two_or_five(least, step):
    assert svg.round_step(least) == pytest.approx(step)


def test_symbols_differ_and_come_again():
    drawn = [svg.symbol(kind, (10, 10), "point") for kind in range(7)]
    shapes = [(mark.tag, tuple(mark.attributes.values())) for mark in drawn]
    assert len(set(shapes[:6])) == 6
    assert shapes[6] == shapes[0]
