"""How far an adapted network has moved away from the baseline, layer by layer.

``analysis.json`` in the folder of a run holds one ``Drift``. It is measured by ``analysis``, which
runs the networks; this module has the measures themselves, and reads what was written.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np

from fercore.files import read_json

FILE = "analysis.json"


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A network beside the baseline BL of the same seed.

    Attributes:
        run, baseline: their ids.
        dataset, images: the sample that both looked at: so many test images of the source.
        made_from: digests of the dataset, of the baseline's network and of the run's.
        weights: the relative change of every parameter and running statistic, by tensor
            (``conv1_1.weight``); exactly 0 if it is the same bit for bit, None where the baseline's
            is all zeros.
        features: the similarity (linear CKA, 0..1) of what both make of the sample, by layer
            (``conv1_1``), after its normalisation, activation and pooling; exactly 1 below the
            first layer that has changed, None where a layer gives all images the same.

    A network that did not start from BL (FU, TO) has weights of another origin: their change says
    little, and the similarity of features is what can be read.
    """

    run: str
    baseline: str
    dataset: str
    images: int
    made_from: tuple[str, str, str]
    weights: dict[str, float | None]
    features: dict[str, float | None]


def read(folder: Path) -> Drift:
    """The drift of the run in ``folder``; FercoreError when it is missing or damaged."""
    return read_json(folder / FILE, Drift)


def relative_change(after: np.ndarray, before: np.ndarray) -> float | None:
    """``||after - before|| / ||before||`` over all entries; None where ``before`` is all zeros."""
    if np.array_equal(after, before):
        return 0.0
    length = float(np.linalg.norm(before.astype(np.float64)))
    difference = float(np.linalg.norm(after.astype(np.float64) - before))
    return difference / length if length else None


def linear_cka(one: np.ndarray, other: np.ndarray) -> float | None:
    """The similarity of two layers, 0..1: linear CKA (Kornblith et al., 2019).

    It is 1 for features that are equal up to rotation and one scale for all, and needs no pairing
    of channels. With fewer images than channels even unrelated features are well above 0.

    Args:
        one, other: inner products of all pairs of images, float64 ``[N, N]``, of each layer's
            features with their mean over the images taken off.

    Returns:
        None where one of them gives all images the same.
    """
    scale = math.sqrt(float(np.sum(one**2)) * float(np.sum(other**2)))
    return min(float(np.sum(one * other)) / scale, 1.0) if scale else None
