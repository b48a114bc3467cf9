"""Forgetting and transfer, against the papers' formulas written as loops, and by hand."""

import numpy as np
import pytest

from fercore.statistics import memory

STUDY = np.array([[0.7, 0.4], [0.5, 0.8]])
"""BL, then an adapted network: source and target."""


@pytest.fixture
def tasks(random):
    """Five tasks, each learned in a stage of its own."""
    return random.random((5, 5))


def test_a_study_by_hand():
    assert memory.forgetting_from_first(STUDY, (0, 1)) == pytest.approx(0.2)
    assert memory.forgetting_from_best(STUDY, (0, 1)) == pytest.approx(0.2)
    assert memory.backward_transfer(STUDY, (0, 1)) == pytest.approx(-0.2)
    assert memory.forward_transfer(STUDY, (0, 1), (1 / 7, 1 / 7)) == pytest.approx(0.4 - 1 / 7)


def test_a_stage_between_can_be_the_best():
    three = np.array([[0.7, 0.4], [0.75, 0.6], [0.5, 0.8]])
    assert memory.forgetting_from_first(three, (0, 2)) == pytest.approx(0.2)
    assert memory.forgetting_from_best(three, (0, 2)) == pytest.approx(0.25)
    assert memory.forward_transfer(three, (0, 2), (0, 0.1)) == pytest.approx(0.5)


def test_transfer_is_that_of_lopez_paz_and_ranzato(tasks, random):
    untrained, count = random.random(5), len(tasks)
    backward = sum(tasks[count - 1, i] - tasks[i, i] for i in range(count - 1)) / (count - 1)
    forward = sum(tasks[i - 1, i] - untrained[i] for i in range(1, count)) / (count - 1)
    learned = range(count)
    assert memory.backward_transfer(tasks, learned) == pytest.approx(backward)
    assert memory.forward_transfer(tasks, learned, untrained) == pytest.approx(forward)


def test_forgetting_is_that_of_chaudhry(tasks):
    k = len(tasks) - 1
    each = [max(tasks[stage, j] for stage in range(k)) - tasks[k, j] for j in range(k)]
    assert memory.forgetting_from_best(tasks, range(5)) == pytest.approx(sum(each) / k)


def test_resamples_come_first(random):
    many = random.random((6, 2, 2))
    for measure in (memory.forgetting_from_first, memory.forgetting_from_best):
        np.testing.assert_allclose(measure(many, (0, 1)), [measure(one, (0, 1)) for one in many])
    assert memory.forward_transfer(many, (0, 1), (0, 0)).shape == (6,)


def test_one_stage_has_nothing_to_forget():
    assert np.isnan(memory.forgetting_from_first(STUDY[:1], (0, 1)))
    assert np.isnan(memory.forgetting_from_best(STUDY[:1], (0, 1)))
    assert np.isnan(memory.forward_transfer(STUDY, (0, 0), (0, 0)))


def test_retention():
    assert memory.retention(0.8, 0.6) == pytest.approx(0.75)
    np.testing.assert_allclose(
        memory.retention(np.array([0.5, 0.0]), np.array([0.6, 0.1])), [1.2, np.nan]
    )


def test_harmonic_mean():
    assert memory.harmonic_mean(0.3, 0.6) == pytest.approx(0.4)
    np.testing.assert_allclose(
        memory.harmonic_mean(np.array([0.0, 0.0]), np.array([0.0, 0.9])), [0, 0]
    )
