"""Measures of how far two networks are apart, by hand and by their properties."""

import numpy as np
import pytest

from fercore import drift
from fercore.errors import FercoreError


def test_relative_change_by_hand():
    before = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
    after = before + np.array([[0.0, 0.3], [0.4, 0.0]], np.float32)
    assert drift.relative_change(after, before) == pytest.approx(0.1)


def test_equal_bits_have_not_moved_at_all(random):
    weights = random.normal(size=(5, 3, 3, 2)).astype(np.float32)
    assert drift.relative_change(weights.copy(), weights) == 0
    moved = weights.copy()
    moved[0, 0, 0, 0] = np.nextafter(moved[0, 0, 0, 0], np.float32(9))
    assert 0 < drift.relative_change(moved, weights) < 1e-6


def test_change_from_nothing_is_not_a_number():
    zeros = np.zeros(4, np.float32)
    assert drift.relative_change(zeros + 1, zeros) is None
    assert drift.relative_change(zeros, zeros) == 0


def products(features):
    rows = features.reshape(len(features), -1).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    return rows @ rows.T


def test_cka_is_the_papers_in_feature_space(random):
    """Kornblith et al. give it by products of channels, too, where ours has those of images."""
    x, y = random.normal(size=(30, 6)), random.normal(size=(30, 4))
    y[:, 0] += x[:, 1]
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert drift.linear_cka(products(x), products(y)) == pytest.approx(expected)


def test_cka_sees_through_rotation_and_scale_but_not_through_noise(random):
    x = random.normal(size=(200, 8))
    rotation, _ = np.linalg.qr(random.normal(size=(8, 8)))
    assert drift.linear_cka(products(x), products(3 * x @ rotation + 5)) == pytest.approx(1)
    assert drift.linear_cka(products(x), products(random.normal(size=(200, 8)))) < 0.1


def test_a_dead_layer_has_no_similarity(random):
    dead = np.ones((10, 4))
    assert drift.linear_cka(products(dead), products(random.normal(size=(10, 4)))) is None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FercoreError, match=r"analysis\.json: cannot be read"):
        drift.read(tmp_path)
