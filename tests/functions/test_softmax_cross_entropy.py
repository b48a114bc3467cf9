"""SoftmaxCrossEntropy: the loss's formula, its gradient, and what is kept for it."""

import numpy as np
import pytest

from fercore.autograd import Tensor, backward
from fercore.functions import SoftmaxCrossEntropy
from fercore.nn import Parameter
from tests.gradient_check import check_gradients
from tests.spy import Spy

CASES = {
    "plain": ([1, 0, 3], None, 0.0),
    "one image": ([2], None, 0.0),
    "smoothed": ([1, 0, 3], None, 0.1),
    "weighted": ([1, 0, 3, 3], [0.5, 2.0, 1.0, 0.25], 0.0),
    "padded, weighted, smoothed": ([1, -1, 3, 0, -1], [0.5, 2.0, 1.0, 0.25], 0.2),
}


def apply(backend, logits, labels, class_weights, label_smoothing):
    statistics = backend.empty((4,), "float64")
    backend.fill(statistics, 0.0)
    weights = None if class_weights is None else backend.from_host(np.array(class_weights))
    loss = SoftmaxCrossEntropy(statistics, class_weights=weights, label_smoothing=label_smoothing)
    return loss(logits, Tensor(backend, backend.from_host(np.array(labels, dtype=np.int32))))


def loss_by_formula(logits, labels, class_weights, label_smoothing):
    total = weights = 0.0
    for row, label in zip(logits, labels, strict=True):
        if label < 0:
            continue
        log_p = row - np.log(sum(np.exp(value) for value in row))
        target = np.full(len(row), label_smoothing / len(row))
        target[label] += 1 - label_smoothing
        weight = 1.0 if class_weights is None else class_weights[label]
        total -= weight * (target * log_p).sum()
        weights += weight
    return total / weights


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient(reference, random, case):
    labels, class_weights, label_smoothing = CASES[case]
    settings = labels, class_weights, label_smoothing

    def forward(logits):
        output = apply(reference, Tensor(reference, logits), *settings)
        loss, weight, _, _ = reference.to_host(output.data)
        np.testing.assert_allclose(loss / weight, loss_by_formula(logits, *settings), rtol=1e-12)
        return np.array([loss / weight])

    def gradient(grad, logits):
        parameter = Parameter(reference, logits)
        found = backward(apply(reference, parameter, *settings))
        return [grad * reference.to_host(found[parameter])]

    check_gradients(forward, gradient, lambda: (random.standard_normal((len(labels), 4)),))


@pytest.mark.parametrize("case", CASES)
def test_gradient_by_formula(backend, random, case):
    labels, class_weights, label_smoothing = CASES[case]
    logits = random.standard_normal((len(labels), 4)).astype(np.float32).astype(np.float64)
    expected = np.zeros_like(logits)
    weights = np.ones(4) if class_weights is None else np.array(class_weights)
    real = [label for label in labels if label >= 0]
    for row, label in enumerate(labels):
        if label >= 0:
            target = (1 - label_smoothing) * np.eye(4)[label] + label_smoothing / 4
            p = np.exp(logits[row]) / np.exp(logits[row]).sum()
            expected[row] = weights[label] / weights[real].sum() * (p - target)
    parameter = Parameter(backend, logits)
    found = backward(apply(backend, parameter, labels, class_weights, label_smoothing))
    np.testing.assert_allclose(backend.to_host(found[parameter]), expected, atol=1e-6)
    assert (backend.to_host(found[parameter])[np.array(labels) < 0] == 0).all()


def test_statistics_add_up_over_batches(backend):
    statistics = backend.empty((4,), "float64")
    backend.fill(statistics, 0.0)
    logits = Tensor(backend, backend.from_host(np.array([[4.0, 0, 0], [0, 4.0, 0], [9.0, 0, 0]])))
    labels = Tensor(backend, backend.from_host(np.array([0, 2, -1], dtype=np.int32)))
    for _ in range(2):
        SoftmaxCrossEntropy(statistics)(logits, labels)
    right, wrong = np.log(np.exp(4) + 2) - 4, np.log(np.exp(4) + 2)
    expected = [2 * (right + wrong), 4, 2, 4]
    np.testing.assert_allclose(backend.to_host(statistics), expected, rtol=1e-6)


@pytest.mark.parametrize("wanted", [False, True])
def test_the_gradient_is_computed_only_where_it_is_wanted(reference, wanted):
    spy = Spy(reference)
    logits = Parameter(spy, np.zeros((2, 3))) if wanted else Tensor(spy, np.zeros((2, 3)))
    output = apply(spy, logits, [0, 1], None, 0.0)
    (call,) = [call for call in spy.calls if call.method == "softmax_cross_entropy"]
    assert ("grad_logits" in call.given) == wanted
    assert (output.creator is not None) == wanted
    spy.calls.clear()
    assert [buffer.shape for buffer in spy.alive()] == [(4,)] + [(2, 3)] * wanted
    assert len(backward(output)) == wanted
    assert spy.calls == []
