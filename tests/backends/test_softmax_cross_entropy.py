"""The loss, its gradient and the counts, a row at a time in float64."""

import numpy as np
import pytest

from tests.backends import oracle
from tests.backends.harness import InPlace, Out, assert_close, call, normal, same_bits
from tests.gradient_check import check_gradients

METHOD = "softmax_cross_entropy"
BEFORE = np.array([1.5, 2.0, 3.0, 4.0])
"""What ``statistics`` holds already: the method adds to it."""

SHAPES = [(1, 7), (5, 7), (64, 7), (33, 2), (3, 1), (9, 101)]
every_shape = pytest.mark.parametrize(("n", "k"), SHAPES)


def draw_labels(random, n, k, padding=False):
    labels = random.integers(0, k, n).astype(np.int32)
    if padding:
        labels[random.random(n) < 0.4] = -1
        labels[-1] = -1
    return labels


def draw_targets(random, n, k, padding=False):
    """Shares of some of the classes, ties among them."""
    votes = random.integers(0, 5, (n, k)) * (random.random((n, k)) < 0.6)
    votes[np.arange(n), random.integers(0, k, n)] += 1
    targets = (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
    if padding:
        targets[random.random(n) < 0.4] = -1
        targets[-1] = -1
    return targets


def loss(backend, logits, labels, weights=None, **options):
    """What ``statistics`` gains, and the gradient."""
    after, grad = call(
        backend, METHOD, logits, labels, weights, InPlace(BEFORE), Out(*logits.shape), **options
    )
    return after - BEFORE, grad


@every_shape
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_against_the_definition(backend, random, n, k, padding, weighted, label_smoothing):
    logits, labels = 3 * normal(random, n, k), draw_labels(random, n, k, padding)
    weights = random.uniform(0.2, 5, k).astype(np.float32) if weighted else None
    gained, grad = loss(backend, logits, labels, weights, label_smoothing=label_smoothing)
    expected_gain, expected_grad = oracle.softmax_cross_entropy(
        logits, labels, weights, label_smoothing
    )
    np.testing.assert_allclose(gained[:2], expected_gain[:2], rtol=2e-6, atol=1e-6)
    assert gained[2:].tolist() == expected_gain[2:].tolist()
    if k > 1:
        assert_close(backend, grad, expected_grad)
    assert (grad[labels < 0] == 0).all()


@every_shape
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("multi_target", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_targets_against_the_definition(
    backend, random, n, k, padding, weighted, multi_target, label_smoothing
):
    logits, targets = 3 * normal(random, n, k), draw_targets(random, n, k, padding)
    weights = random.uniform(0.2, 5, k).astype(np.float32) if weighted else None
    options = {"label_smoothing": label_smoothing, "multi_target": multi_target}
    gained, grad = loss(backend, logits, targets, weights, **options)
    expected_gain, expected_grad = oracle.softmax_cross_entropy(logits, targets, weights, **options)
    np.testing.assert_allclose(gained[:2], expected_gain[:2], rtol=2e-6, atol=1e-6)
    assert gained[2:].tolist() == expected_gain[2:].tolist()
    if k > 1:
        assert_close(backend, grad, expected_grad)
    assert (grad[targets[:, 0] < 0] == 0).all()


@pytest.mark.parametrize("multi_target", [False, True])
def test_one_hot_targets_are_labels(backend, random, multi_target):
    logits, labels = 3 * normal(random, 33, 7), draw_labels(random, 33, 7, padding=True)
    one_hot = np.eye(7, dtype=np.float32)[labels]
    one_hot[labels < 0] = -1
    options = {"label_smoothing": 0.1, "multi_target": multi_target}
    weights = random.uniform(0.2, 5, 7).astype(np.float32)
    gained, grad = loss(backend, logits, one_hot, weights, **options)
    hard_gain, hard_grad = loss(backend, logits, labels, weights, label_smoothing=0.1)
    assert same_bits(gained, hard_gain)
    assert same_bits(grad, hard_grad)


def test_multi_target_takes_the_likeliest_of_the_right_answers(backend):
    """The paper's -log max over t_k > 0 of p_k; of equally likely ones the first."""
    logits = np.array([[0, 2, 1, 3], [1, 1, 1, 1], [5, 0, 0, 0]], np.float32)
    targets = np.array([[0, 0.4, 0.6, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]], np.float32)
    gained, grad = loss(backend, logits, targets, multi_target=True)
    p = np.exp(logits.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gained[0], -np.log(p[[0, 1, 2], [1, 1, 2]]).sum(), rtol=2e-6)
    np.testing.assert_allclose(grad, (p - np.eye(4)[[1, 1, 2]]) / 3, atol=1e-6)


def test_the_answer_of_a_target_is_its_first_largest_share(backend):
    logits = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    targets = [[0.5, 0.5, 0], [0.4, 0.6, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]]
    for multi_target in (False, True):
        gained, _ = loss(backend, logits, np.array(targets, np.float32), multi_target=multi_target)
        assert gained[2:].tolist() == [2, 4]


def test_a_share_of_0_meets_an_infinite_distance(compiled_backend):
    logits = np.array([[0, -np.inf, 1]], np.float32)
    targets = np.array([[0.25, 0, 0.75]], np.float32)
    gained, grad = loss(compiled_backend, logits, targets)
    short_gain, short_grad = oracle.softmax_cross_entropy(logits[:, ::2], targets[:, ::2])
    np.testing.assert_allclose(gained, short_gain, rtol=2e-6)
    np.testing.assert_allclose(grad[:, ::2], short_grad, atol=1e-6)


def test_only_padding(backend, random):
    logits = normal(random, 4, 7)
    gained, grad = loss(backend, logits, np.full(4, -1, np.int32))
    assert gained.tolist() == [0, 0, 0, 0]
    assert (grad == 0).all()


def test_only_weights_of_0(backend, random):
    logits, labels = normal(random, 4, 3), np.zeros(4, np.int32)
    gained, grad = loss(backend, logits, labels, np.array([0, 1, 1], np.float32))
    assert gained[:2].tolist() == [0, 0]
    assert gained[3] == 4
    assert (grad == 0).all()


def test_the_first_of_equal_logits_is_the_answer(backend):
    logits = np.array([[1, 1, 0], [1, 1, 0], [0, 2, 2], [0, 2, 2]], np.float32)
    gained, _ = loss(backend, logits, np.array([0, 1, 1, 2], np.int32))
    assert gained[2:].tolist() == [2, 4]


def test_large_logits_neither_overflow_nor_vanish(backend):
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [3e38, -3e38, 0]], np.float32)
    for labels in ([0, 1, 2], [2, 0, 0]):
        labels = np.array(labels, np.int32)
        gained, grad = loss(backend, logits, labels, label_smoothing=0.1)
        expected_gain, expected_grad = oracle.softmax_cross_entropy(logits, labels, None, 0.1)
        np.testing.assert_allclose(gained, expected_gain, rtol=2e-6)
        assert_close(backend, grad, expected_grad)


def test_a_sure_and_right_answer_keeps_its_small_loss(backend):
    """log(1 + e) for tiny e; log(p) of a p rounded to 1 would be 0."""
    logits = np.array([[12, 0, 0]], np.float32)
    gained, _ = loss(backend, logits, np.array([0], np.int32))
    np.testing.assert_allclose(gained[0], np.log1p(2 * np.exp(-12.0)), rtol=2e-2)


def test_keeps_nan(backend, random):
    logits = normal(random, 4, 7)
    logits[2, 3] = np.nan
    gained, grad = loss(backend, logits, np.array([0, 1, 2, 3], np.int32))
    assert np.isnan(gained[0])
    assert np.isnan(grad).any()
    assert not np.isnan(grad[[0, 1, 3]]).any()


def test_nan_in_a_padding_row_counts_for_nothing(backend, random):
    logits, labels = normal(random, 4, 7), np.array([0, -1, 2, 3], np.int32)
    logits[1] = np.nan
    gained, grad = loss(backend, logits, labels)
    real = labels >= 0
    expected_gain, expected_grad = oracle.softmax_cross_entropy(logits[real], labels[real])
    np.testing.assert_allclose(gained, expected_gain, rtol=2e-6)
    assert_close(backend, grad[real], expected_grad)
    assert (grad[1] == 0).all()


def test_without_a_gradient(backend, random):
    logits, labels = normal(random, 9, 7), draw_labels(random, 9, 7, padding=True)
    after = call(backend, METHOD, logits, labels, None, InPlace(BEFORE), None)
    assert same_bits(after, loss(backend, logits, labels)[0] + BEFORE)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["labels", "targets", "multi-target"])
@pytest.mark.parametrize(("n", "k", "directions"), [(4, 5, 0), (40, 7, 4)])
def test_finite_differences(reference, random, n, k, directions, kind, weighted, label_smoothing):
    draw = draw_labels if kind == "labels" else draw_targets
    labels = draw(random, n, k, padding=True)
    labels[0] = 0
    if kind != "labels":
        labels[0, :2] = 0.25, 0.75
    multi_target = kind == "multi-target"
    weights = random.uniform(0.2, 5, k) if weighted else None

    def run(logits):
        statistics, grad = np.zeros(4), reference.empty((n, k))
        reference.softmax_cross_entropy(
            *(logits, labels, weights, statistics, grad),
            label_smoothing=label_smoothing,
            multi_target=multi_target,
        )
        return statistics[:1] / statistics[1], grad

    check_gradients(
        lambda logits: run(logits)[0],
        lambda grad, logits: [grad * run(logits)[1]],
        lambda: (random.standard_normal((n, k)),),
        directions=directions,
    )
