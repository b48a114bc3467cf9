"""Intervals: what they are made of, and whether they hold what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from fercore.metrics import Interval
from fercore.statistics import bootstrap


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 29, 30, 400, 3588])
def test_students_quantile(freedom):
    assert bootstrap._student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_resamples_of_two_units_are_what_can_be_drawn():
    """Twice the first, twice the second, or one of each: 1/4, 1/4 and 1/2 of the time."""
    means = bootstrap.resampled_means(np.array([[3], [10]]), np.array([4, 20]), resamples=8000)
    values, counts = np.unique(means, return_counts=True)
    np.testing.assert_allclose(values, [10 / 20, 13 / 24, 3 / 4])
    for count, share in zip(counts, (0.25, 0.5, 0.25), strict=True):
        assert stats.binomtest(int(count), 8000, share).pvalue > 0.001


def test_columns_share_their_resamples(random):
    sums = random.integers(0, 9, (12, 1))
    means = bootstrap.resampled_means(np.hstack([sums, sums, sums + 1]), np.full(12, 10))
    np.testing.assert_array_equal(means[:, 0], means[:, 1])
    np.testing.assert_allclose(means[:, 2] - means[:, 0], 0.1)


def test_resamples_depend_on_the_seed_and_nothing_else(random, monkeypatch):
    sums, sizes = random.integers(0, 9, (7, 2)), random.integers(9, 20, 7)
    means = bootstrap.resampled_means(sums, sizes, seed=3, resamples=50)
    assert np.any(means != bootstrap.resampled_means(sums, sizes, seed=4, resamples=50))
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 40)  # five resamples at a time
    np.testing.assert_array_equal(
        means, bootstrap.resampled_means(sums, sizes, seed=3, resamples=50)
    )


def test_the_standard_error_is_scipys(random):
    right = random.random(80) < 0.6
    means = bootstrap.resampled_means(right[:, None], np.ones(80), resamples=20_000)
    expected = stats.bootstrap(
        (right.astype(float),), np.mean, n_resamples=20_000, rng=np.random.default_rng(1)
    ).standard_error
    assert means.std() == pytest.approx(expected, rel=0.03)
    assert means.std() == pytest.approx(math.sqrt(right.var() / 80), rel=0.03)


def test_an_interval_of_a_mean_is_students(random):
    values = random.normal(0.6, 0.1, 9)
    means = bootstrap.resampled_means(values[:, None], np.ones(9), resamples=40_000)[:, 0]
    low, high = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    found = bootstrap.interval(values.mean(), means, 9)
    assert found == pytest.approx(Interval(low, high), abs=0.002)


def test_an_interval_knows_its_bounds_and_when_there_is_none():
    resampled = np.array([0.8, 0.9, 1.0, 0.7])
    assert bootstrap.interval(0.9, resampled, 2, (0, 1)) == (0, 1)
    assert bootstrap.interval(0.9, resampled, 1) is None
    assert bootstrap.interval(math.nan, resampled, 9) is None
    low, high = bootstrap.interval(0.9, np.append(resampled, math.nan), 1000)
    assert 0.6 < low < 0.9 < high < 1.2


def test_over_seeds_is_students_interval():
    values = np.array([0.61, 0.64, 0.58])
    spread = bootstrap.over_seeds(values)
    assert spread.mean == pytest.approx(0.61)
    assert spread.sd == pytest.approx(0.03)
    expected = stats.t.interval(0.95, 2, loc=0.61, scale=stats.sem(values))
    assert spread.interval == pytest.approx(expected)
    assert bootstrap.over_seeds(values[:1]) == (0.61, None, None)


# -- a simulated world ------------------------------------------------------------------------


def answers_of(random, count):
    """Whose the images are, and which each of two networks gets right, for people who differ."""
    person = np.repeat(np.arange(count), random.integers(8, 24, count))
    first = random.normal(0.3, 1.0, count)
    second = first + random.normal(0.4, 0.7, count)
    chances = 1 / (1 + np.exp(-np.stack([first, second], axis=1)[person]))
    return person, (random.random(chances.shape) < chances).astype(int)


def true_accuracies():
    """For endless people: quadrature over the normal distributions above."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    return [
        np.sum(weights / (1 + np.exp(-(mean + sd * nodes))))
        for mean, sd in ((0.3, 1.0), (0.7, math.hypot(1.0, 0.7)))
    ]


def hits(figure, count, trials, by_subject=True):
    """How many of ``trials`` intervals of a figure of both accuracies hold its true value."""
    random, truth = np.random.default_rng(count), figure(np.array(true_accuracies()))
    found = 0
    for trial in range(trials):
        unit, right = answers_of(random, count)
        if not by_subject:
            unit = np.arange(len(unit))
        sizes = np.bincount(unit)
        sums = np.stack([np.bincount(unit, column) for column in right.T], axis=1)
        means = bootstrap.resampled_means(sums, sizes, seed=trial, resamples=500)
        low, high = bootstrap.interval(figure(right.mean(axis=0)), figure(means), len(sizes))
        found += low <= truth <= high
    return found


FIGURES = {
    "difference": lambda accuracies: accuracies[..., 1] - accuracies[..., 0],
    "accuracy": lambda accuracies: accuracies[..., 0],
}


@pytest.mark.parametrize("count", [3, 6, 20])
@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_95_of_100_intervals_by_subject_hold_the_truth(figure, count):
    found = hits(figure, count, 500)
    assert stats.binomtest(found, 500, 0.95).pvalue > 0.001, f"{found} of 500"


def test_intervals_by_image_are_too_narrow_for_new_people():
    """Why subjects are resampled whole; and the check above can fail."""
    found = hits(FIGURES["accuracy"], 6, 200, by_subject=False)
    assert stats.binomtest(found, 200, 0.95, alternative="less").pvalue < 1e-9, f"{found} of 200"
