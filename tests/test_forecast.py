"""Times from speeds."""

import pytest

from fercore.forecast import Forecast, Job, duration


def job(kind="all", images=100, epochs=2, tested=0):
    return Job(run="r", kind=kind, images=images, epochs=epochs, steps=0, tested=tested)


def test_nothing_is_known_before_anything_was_measured():
    assert Forecast().seconds(job()) is None
    assert Forecast().total([job()]) is None
    assert Forecast().total([]) == 0


def test_time_is_images_over_speed():
    assert Forecast({"all": 50.0}).seconds(job()) == pytest.approx(4.0)
    assert Forecast({"all": 50.0}).seconds(job(), epochs=1) == pytest.approx(2.0)


def test_testing_is_a_third_of_training_everything():
    forecast = Forecast({"all": 50.0, "fc": 500.0})
    assert forecast.seconds(job("fc", images=0, epochs=1, tested=150)) == pytest.approx(1.0)


def test_an_unseen_kind_is_taken_for_the_slowest():
    forecast = Forecast({"all": 50.0, "fc": 500.0})
    assert forecast.seconds(job("half")) == pytest.approx(4.0)
    forecast.observe("half", 100.0)
    assert forecast.seconds(job("half")) == pytest.approx(2.0)
    assert forecast.total([job("half"), job()]) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (101, "2 min"), (3600, "60 min"), (3600 * 3 + 300, "3 h 05 min")],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
