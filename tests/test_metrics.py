"""Metrics against values worked out by hand or published."""

import math

import numpy as np
import pytest

from fercore import metrics

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 0, 1])
CONFUSION = np.array([[2, 1, 0], [1, 1, 0], [0, 1, 0]])


def test_confusion_has_true_classes_as_rows():
    confusion = metrics.confusion_matrix(LABELS, PREDICTIONS, 3)
    np.testing.assert_array_equal(confusion, CONFUSION)
    assert confusion.sum() == len(LABELS)


def test_confusion_of_small_integer_labels_does_not_overflow():
    labels = np.full(300, 6, dtype=np.uint8)
    assert metrics.confusion_matrix(labels, labels, 50)[6, 6] == 300


def test_accuracies_by_hand():
    assert metrics.accuracy(CONFUSION) == pytest.approx(3 / 6)
    assert metrics.balanced_accuracy(CONFUSION) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # F1 by class: 4/6, 2/5, 0/1
    assert metrics.macro_f1(CONFUSION) == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)


def test_absent_classes_do_not_count():
    confusion = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert metrics.balanced_accuracy(confusion) == pytest.approx((3 / 4 + 1) / 2)
    assert metrics.macro_f1(confusion) == pytest.approx((6 / 7 + 8 / 9) / 2)


def test_a_class_that_is_only_predicted_lowers_f1():
    confusion = np.array([[3, 1], [0, 0]])
    assert metrics.macro_f1(confusion) == pytest.approx((6 / 7 + 0) / 2)


@pytest.mark.parametrize("measure", [metrics.accuracy, metrics.balanced_accuracy, metrics.macro_f1])
def test_no_samples_have_no_accuracy(measure):
    assert math.isnan(measure(np.zeros((7, 7), dtype=int)))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_intervals(correct, n, low, high):
    assert metrics.wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_stays_within_bounds_and_mirrors():
    assert metrics.wilson(0, 67).low == 0.0
    assert metrics.wilson(67, 67).high == pytest.approx(1.0)
    low, high = metrics.wilson(20, 67)
    assert metrics.wilson(47, 67) == pytest.approx((1 - high, 1 - low))
    assert metrics.wilson(0, 0) == (0.0, 1.0)


LOGITS = np.array(
    [
        [1.0, 3.0, 2.0],  # 1; without class 1: 2
        [5.0, 5.0, 4.0],  # a tie goes to the first
        [0.0, 1.0, 9.0],
    ]
)


def test_predictions_and_ties():
    assert metrics.predict(LOGITS).tolist() == [1, 0, 2]
    assert metrics.predict(LOGITS, [2, 0]).tolist() == [2, 0, 2]


def test_restricting_drops_rows_and_columns():
    labels, predictions = metrics.restricted(LOGITS, np.array([2, 1, 0]), [0, 2])
    assert labels.tolist() == [2, 0]
    assert predictions.tolist() == [2, 2]


def test_probabilities_and_loss_by_hand():
    logits = np.array([[0.0, math.log(3.0)], [1000.0, 1000.0]])
    np.testing.assert_allclose(metrics.softmax(logits), [[0.25, 0.75], [0.5, 0.5]])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert metrics.cross_entropy(logits, np.array([1, 0])) == pytest.approx(expected)
    assert math.isnan(metrics.cross_entropy(np.zeros((0, 7)), np.zeros(0, dtype=int)))
