"""Clocks and medians over the calls of a step."""

from __future__ import annotations

import numpy as np
import pytest

from fercore import timing
from fercore.backends.reference import ReferenceBackend
from fercore.timing import Clock, copy_rate, least_times, measure_each, product_rate, random_batch


class Steady:
    """A clock on which only calls take time; each event is the time so far."""

    def __init__(self):
        self.now = 0.0
        self.flushed = 0

    def event(self):
        return _At(self.now)

    def flush(self):
        self.flushed += 1
        self.now += 1000.0

    def taking(self, seconds):
        def call():
            self.now += seconds

        return call


class _At:
    def __init__(self, time):
        self.time = time

    def seconds_since(self, earlier):
        return self.time - earlier.time


def test_each_call_has_its_own_time():
    steady = Steady()
    calls = [steady.taking(seconds) for seconds in (1.0, 5.0, 2.0)]
    before = []
    clock = Clock(steady.event, steady.flush, fewest=4)
    times = measure_each(calls, clock, 0.0, before=lambda: before.append(steady.now))
    np.testing.assert_array_equal(times, [[1.0, 5.0, 2.0]] * 4)
    assert len(before) == steady.flushed == 5, "one round warms up, and none of this is timed"


def test_the_first_round_does_not_count():
    steady, first = Steady(), [100.0]

    def call():
        steady.now += first.pop() if first else 1.0

    times = measure_each([call], Clock(steady.event, fewest=3), 0.0)
    np.testing.assert_array_equal(times, [[1.0]] * 3)


def test_rounds_end_with_the_time(monkeypatch):
    monkeypatch.setattr(timing, "MOST", 7)
    steady = Steady()
    assert len(measure_each([steady.taking(1.0)], Clock(steady.event, fewest=2), 1e9)) == 6


def test_least_times_are_the_least():
    calls = []
    times = least_times({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0)
    assert calls == ["a", "b"] * 3
    assert all(0 <= seconds < 1 for seconds in times.values())


def test_rates_are_of_work_done(monkeypatch):
    monkeypatch.setattr(timing, "EDGE_OF_CPU", 64)
    monkeypatch.setattr(timing, "COPIED_BY_CPU", 1 << 16)
    monkeypatch.setattr(timing, "least_times", lambda turns, _: dict.fromkeys(turns, 0.5))
    assert product_rate(ReferenceBackend("float32"), 0.0) == 2 * 64**3 / 0.5
    assert copy_rate(0.0) == 2 * 2**16 / 0.5


def test_random_images_are_no_zeros():
    images, labels = random_batch(50)
    assert images.shape == (50, 48, 48)
    assert images.std() == pytest.approx(74, rel=0.05)
    assert set(labels) == set(range(7))
