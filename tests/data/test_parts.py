"""The parts of a split: named rows, and what could flatter their figures."""

from __future__ import annotations

import numpy as np

from fercore.data.parts import Parts, audit

from .values import make_dataset


def test_every_row_has_the_name_of_its_part_or_none():
    parts = Parts(np.array([0, 3]), np.array([1]), np.array([4]))

    assert parts.names(5) == ["train", "validation", "", "train", "test"]


def test_audit_names_what_is_wrong_with_a_split():
    dataset = make_dataset(
        [0, 1, 2, 0, 1],
        subjects=["m10", "m2", "", "m2", "m10"],
        groups=["g", "", "", "g", ""],
        contents=["x", "y", "z", "x", "v"],
    )
    parts = Parts(np.array([0, 1, 2]), np.array([3]), np.array([4]))

    assert audit(dataset, parts) == (
        "Subjects in both train and validation: 1 (m2).",
        "Sequences in both train and validation: 1 (g).",
        "Exact twins in train: 1 of 1 validation images.",
        "Subjects in both train and test: 1 (m10).",
        "No image of disgust, fear in validation.",
        "No image of angry, fear in test.",
    )
