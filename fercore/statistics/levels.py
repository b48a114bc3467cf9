"""What an accuracy is to be held against: guessing, one class always, and images seen before."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np


def chance(labels: np.ndarray) -> float:
    """The expected accuracy of guessing among the classes that occur in ``labels`` (``[N]``)."""
    return 1 / len(np.unique(labels)) if len(labels) else math.nan


def majority(training: np.ndarray, test: np.ndarray) -> float:
    """The test accuracy of always giving the commonest class (first of equals) of training.

    ``training`` and ``test`` are labels; a level taken from the test part itself would be a choice
    made on it. NaN without a test image.
    """
    commonest = np.bincount(training).argmax()
    return float(np.mean(test == commonest)) if len(test) else math.nan


class TwinEffect(NamedTuple):
    """An accuracy with and without the test images that training had seen, pixel by pixel."""

    n: int  # test images
    twins: int  # those among them that have an exact twin in training
    accuracy: float
    accuracy_without: float  # NaN if every image has one


def twin_effect(correct: np.ndarray, tested: Sequence[str], seen: Collection[str]) -> TwinEffect:
    """How far exact twins flatter an accuracy.

    Args:
        correct: whether each test image was classified rightly, ``[N]``; or the share of seeds.
        tested: the digest of each test image's pixels.
        seen: the digests of what the network was trained on.
    """
    seen = frozenset(seen)
    known = np.array([digest in seen for digest in tested], bool)
    new = correct[~known]
    return TwinEffect(
        n=len(known),
        twins=int(known.sum()),
        accuracy=float(np.mean(correct)) if len(known) else math.nan,
        accuracy_without=float(np.mean(new)) if len(new) else math.nan,
    )
