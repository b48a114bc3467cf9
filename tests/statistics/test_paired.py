"""Tests of two networks on the same images, against SciPy, statsmodels and enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from fercore.statistics import paired


@pytest.mark.parametrize(
    ("only_first", "only_second"),
    [(0, 0), (1, 0), (0, 5), (3, 3), (7, 3), (12, 30), (400, 301), (900, 1000)],
)
def test_mcnemar_is_the_exact_test_of_statsmodels(only_first, only_second):
    p = paired.mcnemar(only_first, only_second)
    assert p == pytest.approx(paired.mcnemar(only_second, only_first))
    if only_first + only_second:  # statsmodels has no answer without a discordant image
        table = [[50, only_first], [only_second, 10]]
        assert p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)
    else:
        assert p == 1


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (0, 4), (5, 5), (9, 2), (300, 351)]
)
def test_with_one_image_a_unit_flipping_signs_is_mcnemars_test(only_first, only_second):
    differences = np.repeat([1, -1, 0], [only_first, only_second, 17])
    assert paired.sign_flip(differences) == pytest.approx(paired.mcnemar(only_first, only_second))


def test_flipping_signs_is_counting_all_choices(random):
    for units in range(1, 10):
        differences = random.integers(-6, 7, units)
        choices = itertools.product((-1, 1), repeat=units)
        sums = [
            abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in choices
        ]
        share = np.mean([total >= abs(differences.sum()) for total in sums])
        assert paired.sign_flip(differences) == pytest.approx(share)


def test_flipping_signs_is_scipys_permutation_test(random):
    for units in (3, 6, 11):
        differences = random.integers(-8, 9, units) + 2
        expected = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
        )
        assert paired.sign_flip(differences) == pytest.approx(expected.pvalue)


def test_many_units_are_exact_too(random):
    """Against the normal approximation, which is good with 3,000 units."""
    differences = random.integers(-3, 4, 3000)
    z = abs(differences.sum()) / np.sqrt((differences**2).sum())
    assert paired.sign_flip(differences) == pytest.approx(2 * stats.norm.sf(z), rel=0.03)


@pytest.mark.parametrize("units", [1, 2, 3, 5, 6, 40])
def test_the_smallest_p_is_reached_when_all_agree(units):
    assert paired.sign_flip(np.full(units, -3)) == pytest.approx(paired.smallest_p(units))
    assert paired.sign_flip(np.arange(1, units + 1)) == pytest.approx(paired.smallest_p(units))


def test_three_to_five_subjects_cannot_be_significant():
    assert [paired.smallest_p(units) > 0.05 for units in (3, 4, 5, 6)] == [True, True, True, False]


def test_networks_that_agree_everywhere():
    assert paired.sign_flip(np.zeros(5, int)) == 1


@pytest.mark.parametrize("subjects", [6, 12])
def test_p_is_below_the_level_no_more_often_than_the_level_says(subjects):
    """Two networks of the same quality on subjects who differ, 2,000 times."""
    random = np.random.default_rng(subjects)
    trials = 2000
    skill = random.beta(3, 3, (trials, subjects, 1))
    first, second = random.random((2, trials, subjects, 15)) < skill
    differences = first.sum(axis=2) - second.sum(axis=2)
    below = sum(paired.sign_flip(row) <= 0.05 for row in differences)
    assert stats.binomtest(below, trials, 0.05, alternative="greater").pvalue > 0.001
    assert below > 0


def test_holm_is_the_correction_of_statsmodels(random):
    for count in (1, 2, 7, 55):
        p_values = list(random.random(count) ** 4)
        expected = multipletests(p_values, method="holm")[1]
        np.testing.assert_allclose(paired.holm(p_values), expected)


def test_holm_by_hand():
    assert paired.holm([]) == []
    assert paired.holm([0.04, 0.01, 0.03, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
