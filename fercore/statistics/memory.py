"""What a network that learns one dataset after another keeps, loses and carries over.

The functions take the accuracy matrix ``R``, float ``[..., stages, tasks]``: ``R[i, j]`` is the
test accuracy on task ``j`` after stage ``i`` of training (Lopez-Paz and Ranzato, 2017). Leading
axes, such as resamples, stay in the result. A study has two tasks, the source and the target, and
two stages, the baseline and the adapted network; a strategy that starts from another one has more.
``learned[j]`` is the stage in which task ``j`` was learned: the source's is 0, the target's the
last one; with a new task in every stage they are 0, 1, 2 and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def forgetting_from_first(accuracies: np.ndarray, learned: Sequence[int]) -> np.ndarray:
    """What was lost since each task was learned: the mean of ``R[learned[j], j] - R[last, j]``.

    Over the tasks learned before the last stage; NaN if there is none. It is below 0 where later
    stages helped.
    """
    return _mean(
        accuracies,
        [accuracies[..., i, j] - accuracies[..., -1, j] for i, j in _old(accuracies, learned)],
    )


def forgetting_from_best(accuracies: np.ndarray, learned: Sequence[int]) -> np.ndarray:
    """What was lost since the best stage: the mean of ``max(R[:last, j]) - R[last, j]``.

    The measure of Chaudhry et al. (2018); with two stages both definitions agree.
    Over the tasks learned before the last stage; NaN if there is none.
    """
    return _mean(
        accuracies,
        [
            accuracies[..., :-1, j].max(axis=-1) - accuracies[..., -1, j]
            for _, j in _old(accuracies, learned)
        ],
    )


def backward_transfer(accuracies: np.ndarray, learned: Sequence[int]) -> np.ndarray:
    """BWT of Lopez-Paz and Ranzato (2017): what later stages did to the tasks before them.

    The mean of ``R[last, j] - R[learned[j], j]``: forgetting from the first, with the other sign.
    """
    return -forgetting_from_first(accuracies, learned)


def forward_transfer(
    accuracies: np.ndarray, learned: Sequence[int], untrained: Sequence[float]
) -> np.ndarray:
    """FWT of Lopez-Paz and Ranzato (2017): what earlier stages did for tasks not learned yet.

    The mean of ``R[learned[j] - 1, j] - untrained[j]`` over the tasks learned after the first
    stage; NaN if there is none. ``untrained`` are the accuracies of random weights. Measured on one
    network they are noise around the chance level (``levels.chance``), which may stand for them.
    """
    new = [(i, j) for j, i in enumerate(learned) if i > 0]
    return _mean(accuracies, [accuracies[..., i - 1, j] - untrained[j] for i, j in new])


def retention(before: np.ndarray | float, after: np.ndarray | float) -> np.ndarray:
    """The share of an accuracy that is left; above 1 it has grown. NaN where there was none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(before) > 0, np.divide(after, before), np.nan)


def harmonic_mean(source: np.ndarray | float, target: np.ndarray | float) -> np.ndarray:
    """``2 s t / (s + t)``: high only where a network does well on both sets; 0 if both are 0."""
    total = np.add(source, target)
    return 2 * np.multiply(source, target) / np.where(total > 0, total, 1)


def _old(accuracies: np.ndarray, learned: Sequence[int]) -> list[tuple[int, int]]:
    """Stage and number of each task that was learned before the last stage."""
    return [(i, j) for j, i in enumerate(learned) if i < accuracies.shape[-2] - 1]


def _mean(accuracies: np.ndarray, terms: Sequence[np.ndarray]) -> np.ndarray:
    if not terms:
        return np.full(accuracies.shape[:-2], np.nan)
    return np.asarray(sum(terms) / len(terms))
