"""Guessing, one class always, and images seen before."""

import math

import numpy as np
import pytest

from fercore.statistics import levels


def test_chance_counts_the_classes_that_occur():
    assert levels.chance(np.array([0, 3, 3, 5])) == pytest.approx(1 / 3)
    assert math.isnan(levels.chance(np.array([], int)))


def test_the_majority_is_trainings_and_not_the_tests():
    training, test = np.array([1, 1, 2, 0]), np.array([2, 2, 2, 1])
    assert levels.majority(training, test) == 0.25
    assert math.isnan(levels.majority(training, test[:0]))


def test_twins_can_flatter():
    correct = np.array([True, True, False, True])
    effect = levels.twin_effect(correct, ["a", "b", "c", "a"], ["a", "x"])
    assert effect == (4, 2, 0.75, 0.5)


def test_without_twins_nothing_changes():
    effect = levels.twin_effect(np.array([0.5, 1.0]), ["a", "b"], [])
    assert effect == (2, 0, 0.75, 0.75)


def test_all_twins_leave_nothing():
    effect = levels.twin_effect(np.array([True]), ["a"], {"a"})
    assert effect[:3] == (1, 1, 1.0)
    assert math.isnan(effect.accuracy_without)
