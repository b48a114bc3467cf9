"""The figures of the paper that fercore reproduces.

M. Tannugi, A. S. Britto Jr., A. L. Koerich, "Memory Integrity of CNNs for Cross-Dataset Facial
Expression Recognition", IEEE SMC, 2019. Accuracies in percent on the test sets of the source
(FER2013) and of each target.
"""

from __future__ import annotations

from typing import NamedTuple


class Accuracies(NamedTuple):
    """Accuracy on both test sets, percent."""

    source: float
    target: float


COLUMNS: tuple[tuple[str, int | None], ...] = (
    ("BL", None),
    ("FC", 50),
    ("FC", 100),
    ("FC+CL", 50),
    ("FC+CL", 100),
    ("RE", 50),
    ("RE", 100),
    ("FU", 50),
    ("FU", 100),
)
"""Strategy and percent of the target's training images, in the order of the paper's table."""

_SOURCE = {
    "jaffe": (68.35, 43.08, 44.61, 39.09, 34.22, 30.76, 35.36, 67.69, 68.40),
    "tfeid": (68.35, 52.91, 47.12, 52.30, 45.36, 57.09, 53.13, 68.15, 68.77),
    "mug": (68.35, 46.25, 43.91, 42.18, 39.45, 50.91, 52.66, 68.99, 68.68),
}
_TARGET = {
    "jaffe": (40.30, 53.73, 55.22, 64.18, 65.67, 53.73, 58.21, 53.73, 68.66),
    "tfeid": (31.03, 67.24, 82.76, 60.34, 87.93, 56.90, 86.03, 63.79, 86.21),
    "mug": (43.99, 63.56, 72.20, 64.78, 73.95, 66.40, 67.88, 71.79, 81.24),
}

ACCURACIES: dict[str, dict[tuple[str, int | None], Accuracies]] = {
    target: {
        column: Accuracies(source, after)
        for column, source, after in zip(COLUMNS, _SOURCE[target], _TARGET[target], strict=True)
    }
    for target in _SOURCE
}
"""Target format -> (strategy, amount) -> accuracies."""
