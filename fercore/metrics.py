"""What is said about a set of predictions: accuracies with intervals, confusion, forgetting.

Plain functions over NumPy arrays; nothing here knows of networks or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution: intervals below hold 95 %."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(correct: float, n: int) -> Interval:
    """The score interval of a proportion (Wilson, 1927), in 0..1.

    Args:
        correct: successes; a mean over repetitions need not be whole.
        n: trials; with 0 the interval is 0 to 1.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    p = correct / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Interval(max(centre - half, 0.0), min(centre + half, 1.0))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int64 ``[classes, classes]``: rows are the true classes, columns the predicted."""
    cells = np.asarray(labels, dtype=np.int64) * classes + predictions
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> float:
    """The share on the diagonal; NaN for no samples."""
    return _ratio(np.trace(confusion), confusion.sum())


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Mean recall over the classes that occur: rare ones count as much as common ones."""
    counts = confusion.sum(axis=1)
    present = counts > 0
    if not present.any():
        return math.nan
    return float(np.mean(np.diag(confusion)[present] / counts[present]))


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 over the classes that occur or are predicted: ``2 tp / (2 tp + fp + fn)`` each."""
    hits = 2 * np.diag(confusion)
    involved = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = involved > 0
    if not present.any():
        return math.nan
    return float(np.mean(hits[present] / involved[present]))


def predict(logits: np.ndarray, allowed: Sequence[int] | None = None) -> np.ndarray:
    """The class of each row's largest logit (first of equals), among ``allowed`` ones if given."""
    if allowed is None:
        return np.asarray(np.argmax(logits, axis=1))
    choices = np.asarray(sorted(allowed))
    return np.asarray(choices[np.argmax(logits[:, choices], axis=1)])


def restricted(
    logits: np.ndarray, labels: np.ndarray, allowed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of the rows whose class is ``allowed``, other classes ruled out.

    This is how a network is tested beside a dataset that lacks one of its classes.
    """
    rows = np.isin(labels, np.asarray(sorted(allowed)))
    return labels[rows], predict(logits[rows], allowed)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of ``-log softmax(logits)[label]``, in nats; NaN for no samples."""
    if len(labels) == 0:
        return math.nan
    shifted = np.asarray(logits, dtype=np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-np.mean(logs[np.arange(len(labels)), labels]))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of the classes, float64 ``[N, classes]``; each row adds up to 1."""
    exponentials = np.exp(np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
