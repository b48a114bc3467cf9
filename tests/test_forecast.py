"""Times from speeds."""

import pytest

from fercore.forecast import Forecast, Job, Work, duration


def job(kind="all", images=100, epochs=2, views=0, followed=0, tested=0, work=Work(0, 10)):
    return Job(
        run="r",
        kind=kind,
        work=work,
        images=images,
        epochs=epochs,
        steps=0,
        views=views,
        followed=followed,
        tested=tested,
    )


@pytest.fixture
def forecast():
    """A machine that trains all of ten operations at 50 images a second: 1,500 operations."""
    forecast = Forecast()
    forecast.observe(job(), 1, 50.0)
    return forecast


FC = Work(9, 1)


def test_nothing_is_known_before_anything_was_measured():
    assert Forecast().seconds(job()) is None
    assert Forecast().total({job(): 0}) is None
    assert Forecast().total({}) == 0


def test_time_is_images_over_speed(forecast):
    assert forecast.seconds(job()) == pytest.approx(4.0)
    assert forecast.seconds(job(), done=1) == pytest.approx(2.0)


def test_a_test_is_a_third_of_a_training_step(forecast):
    assert forecast.seconds(job(images=0, epochs=1, followed=150)) == pytest.approx(1.0)
    assert forecast.seconds(job(images=0, epochs=1, tested=150)) == pytest.approx(1.0)
    # Frozen layers see the followed images once, in the first epoch.
    frozen = job("fc", images=0, epochs=2, followed=150, work=FC)
    assert forecast.seconds(frozen) == pytest.approx((9 + 1 + 1) * 150 / 1500)
    assert forecast.seconds(frozen, done=1) == pytest.approx(150 / 1500)


def test_frozen_layers_see_each_view_once(forecast):
    frozen = job("fc", images=100, epochs=5, views=2, work=FC)
    assert [frozen.is_new(epoch) for epoch in (1, 2, 3, 5)] == [True, True, False, False]
    new, again = (9 + 3) * 100 / 1500, 3 * 100 / 1500
    assert forecast.seconds(frozen) == pytest.approx(2 * new + 3 * again)
    assert forecast.seconds(frozen, done=1) == pytest.approx(new + 3 * again)
    assert forecast.seconds(frozen, done=4) == pytest.approx(again)
    assert forecast.seconds(job("fc", epochs=2, views=8, work=FC)) == pytest.approx(2 * new)


def test_what_was_measured_counts(forecast):
    frozen = job("fc", images=100, epochs=4, views=2, work=FC)
    forecast.observe(frozen, 1, 200.0)
    forecast.observe(frozen, 3, 1000.0)
    assert forecast.seconds(frozen) == pytest.approx(2 * 0.5 + 2 * 0.1)


def test_an_unseen_kind_is_taken_for_the_slowest(forecast):
    forecast.observe(job("fc", views=1, work=FC), 2, 1000.0)
    assert forecast.seconds(job("half")) == pytest.approx(4.0 * 1500 / 1500)
    forecast.observe(job("half"), 1, 25.0)
    assert forecast.seconds(job("half")) == pytest.approx(8.0)
    assert forecast.total({job("half"): 0, job(): 0}) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (101, "2 min"), (3600, "60 min"), (3600 * 3 + 300, "3 h 05 min")],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
