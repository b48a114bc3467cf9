"""The loss, its gradient and the counts, a row at a time in float64."""

import numpy as np
import pytest

from cuda_kernels import softmax_cross_entropy
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.runtime import KernelError
from tests.backends import oracle
from tests.backends.harness import normal, relative_error
from tests.backends.test_softmax_cross_entropy import draw_targets
from tests.cuda_kernels.harness import to_device
from tests.cuda_kernels.planting import with_mistake
from tests.cuda_kernels.precisions import PRECISIONS, gate_of, numbers_in, to_store

GATE = 2e-6
BEFORE = np.array([1.5, 2.0, 3.0, 4.0])
"""What ``statistics`` holds already: the kernel adds to it."""

SHAPES = [(1, 7), (5, 7), (33, 2), (3, 1), (9, 101), (600, 7)]  # the last: several rows a thread
every_shape = pytest.mark.parametrize(("n", "k"), SHAPES)


def draw_labels(random, n, k, padding=False):
    labels = random.integers(0, k, n).astype(np.int32)
    if padding:
        labels[random.random(n) < 0.4] = -1
        labels[-1] = -1
    return labels


def loss(
    runtime,
    logits,
    labels,
    weights=None,
    label_smoothing=0.0,
    with_gradient=True,
    precision="fp32",
    multi_target=False,
):
    """What ``statistics`` gains, and the gradient."""
    statistics = to_device(runtime, BEFORE)
    grad = to_store(runtime, *logits.shape, precision=precision) if with_gradient else None
    softmax_cross_entropy.loss_and_gradient(
        *(runtime, to_device(runtime, logits), to_device(runtime, labels)),
        *(to_device(runtime, weights), statistics, grad),
        label_smoothing=label_smoothing,
        multi_target=multi_target,
        precision=precision,
    )
    gained = runtime.copy_out(statistics) - BEFORE
    return gained, None if grad is None else numbers_in(runtime, grad)


def check(
    runtime,
    logits,
    labels,
    weights=None,
    label_smoothing=0.0,
    precision="fp32",
    multi_target=False,
):
    options = {"label_smoothing": label_smoothing, "multi_target": multi_target}
    gained, grad = loss(runtime, logits, labels, weights, precision=precision, **options)
    expected, expected_grad = oracle.softmax_cross_entropy(logits, labels, weights, **options)
    np.testing.assert_allclose(gained[:2], expected[:2], rtol=GATE, atol=1e-12)
    assert gained[2:].tolist() == expected[2:].tolist()
    assert relative_error(grad, expected_grad) <= gate_of(expected_grad, precision, GATE)
    padding = (labels[:, 0] if labels.ndim == 2 else labels) < 0
    assert (grad[padding] == 0).all()


@every_shape
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_against_the_definition(
    runtime, random, n, k, padding, weighted, label_smoothing, precision
):
    weights = random.uniform(0.2, 5, k).astype(np.float32) if weighted else None
    logits, labels = 3 * normal(random, n, k), draw_labels(random, n, k, padding)
    check(runtime, logits, labels, weights, label_smoothing, precision)


@every_shape
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("multi_target", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_targets_against_the_definition(
    runtime, random, n, k, padding, weighted, multi_target, label_smoothing, precision
):
    weights = random.uniform(0.2, 5, k).astype(np.float32) if weighted else None
    logits, targets = 3 * normal(random, n, k), draw_targets(random, n, k, padding)
    check(runtime, logits, targets, weights, label_smoothing, precision, multi_target)


def test_equal_logits_of_a_power_of_2_classes_are_exact(runtime):
    """p is 1/4, the first answers are right, and every gradient is a multiple of 1/16."""
    gained, grad = loss(runtime, np.full((4, 4), 2, np.float32), np.array([0, 1, 0, 3], np.int32))
    np.testing.assert_allclose(gained[0], 4 * np.log(4), rtol=1e-7)
    assert gained[1:].tolist() == [4, 2, 4]
    np.testing.assert_array_equal(grad, (0.25 - np.eye(4)[[0, 1, 0, 3]]) / 4)


def test_only_padding(runtime, random):
    gained, grad = loss(runtime, normal(random, 4, 7), np.full(4, -1, np.int32))
    assert gained.tolist() == [0, 0, 0, 0]
    assert (grad == 0).all()


def test_only_weights_of_0(runtime, random):
    weights = np.array([0, 1, 1], np.float32)
    gained, grad = loss(runtime, normal(random, 4, 3), np.zeros(4, np.int32), weights)
    assert gained[:2].tolist() == [0, 0]
    assert gained[3] == 4
    assert (grad == 0).all()


def test_the_first_of_equal_logits_is_the_answer(runtime):
    logits = np.array([[1, 1, 0], [1, 1, 0], [0, 2, 2], [0, 2, 2]], np.float32)
    gained, _ = loss(runtime, logits, np.array([0, 1, 1, 2], np.int32))
    assert gained[2:].tolist() == [2, 4]


def test_large_logits_neither_overflow_nor_vanish(runtime):
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [3e38, -3e38, 0]], np.float32)
    for labels in ([0, 1, 2], [2, 0, 0]):
        check(runtime, logits, np.array(labels, np.int32), label_smoothing=0.1)


def check_sure_and_right(runtime):
    gained, _ = loss(runtime, np.array([[12, 0, 0]], np.float32), np.array([0], np.int32))
    np.testing.assert_allclose(gained[0], np.log1p(2 * np.exp(-12.0)), rtol=GATE)


def test_a_sure_and_right_answer_keeps_its_small_loss(runtime):
    """log(p) of a p rounded to 1 would be 0, and of 1 + the rest, wrong by a percent."""
    check_sure_and_right(runtime)


@pytest.mark.parametrize("place", [0, 3])
def test_keeps_nan(runtime, random, place):
    logits = normal(random, 4, 7)
    logits[2, place] = np.nan
    gained, grad = loss(runtime, logits, np.array([0, 1, 2, 3], np.int32))
    assert np.isnan(gained[0])
    assert np.isnan(grad[2]).any()
    assert not np.isnan(grad[[0, 1, 3]]).any()


def test_nan_in_a_padding_row_counts_for_nothing(runtime, random):
    logits, labels = normal(random, 4, 7), np.array([0, -1, 2, 3], np.int32)
    logits[1] = np.nan
    gained, grad = loss(runtime, logits, labels)
    real = labels >= 0
    expected, expected_grad = oracle.softmax_cross_entropy(logits[real], labels[real])
    np.testing.assert_allclose(gained, expected, rtol=GATE)
    assert relative_error(grad[real], expected_grad) <= GATE
    assert (grad[1] == 0).all()


def test_without_a_gradient(runtime, random):
    logits, labels = normal(random, 9, 7), draw_labels(random, 9, 7, padding=True)
    gained, _ = loss(runtime, logits, labels, with_gradient=False)
    assert gained.tolist() == loss(runtime, logits, labels)[0].tolist()


@pytest.mark.parametrize("draw", [draw_labels, draw_targets])
@pytest.mark.parametrize("multi_target", [False, True])
def test_all_orders_of_threads_give_the_same_bits(random, draw, multi_target):
    logits, labels = normal(random, 600, 7), draw(random, 600, 7)

    def result(order):
        found = loss(EmulatedRuntime(order), logits, labels, multi_target=multi_target)
        return tuple(array.tobytes() for array in found)

    results = {result(order) for order in ORDERS}
    assert len(results) == 1


def test_shapes_that_do_not_fit_are_refused(runtime, random):
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: \(4, 7\), \(3,\) and \(4,\)"):
        loss(runtime, normal(random, 4, 7), np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: \(4, 7\), \(4, 6\) and \(4,\)"):
        loss(runtime, normal(random, 4, 7), np.zeros((4, 6), np.float32))


MISTAKES = {
    "the weights of a thread alone": ("weights = sums.of_block(weights, thread);", ""),
    "padding rows have a weight": ("return {false, 0.0, 0, label", "return {false, 1.0, 0, label"),
    "the answer's own 1 is rounded": ("log1pf(row.others)", "logf(1.0F + row.others)"),
    "smoothing without its share": ("(1.0F - smoothing) + smoothing / k", "(1.0F - smoothing)"),
    "padding rows of shares are real": ("if (shares[0] < 0.0F)", "if (shares[0] < -2.0F)"),
    "shares do not weigh": (
        "target.weight += static_cast<double>(shares[i]) *",
        "target.weight +=",
    ),
    "the last largest share is right": ("shares[i] > shares[target", "shares[i] >= shares[target"),
    "the least likely is chosen": (
        "is_larger(logits[i], logits[c",
        "!is_larger(logits[i], logits[c",
    ),
    "every class may be chosen": ("shares[i] > 0.0F && (chosen", "(chosen"),
    "statistics are overwritten": ("statistics[2] += right", "statistics[2] = right"),
}


def check_everything(runtime, random):
    weights = random.uniform(0.2, 5, 7).astype(np.float32)
    check(runtime, normal(random, 9, 7), draw_labels(random, 9, 7, True), weights, 0.1)
    for multi_target in (False, True):
        targets = draw_targets(random, 40, 7, True)
        targets[:7] = (np.eye(7) + np.eye(7)[::-1]) / 2  # ties
        targets[3] = np.eye(7)[3]
        logits = normal(random, 40, 7)
        logits[:7] += 9 * np.eye(7, dtype=np.float32)
        check(runtime, logits, targets, weights, 0.1, multi_target=multi_target)
    check_sure_and_right(runtime)


def test_without_the_mistakes_nothing_is_seen(emulated, random):
    check_everything(emulated, random)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_seen(random, tmp_path, name):
    for runtime in with_mistake(tmp_path, softmax_cross_entropy.SOURCE, *MISTAKES[name]):
        with pytest.raises((AssertionError, KernelError)):
            check_everything(runtime, random)
