"""Max-pooling: values, the first of equals, NaN, overlapping windows, gradients."""

import numpy as np
import pytest

from tests.backends import oracle
from tests.backends.harness import Out, assert_close, assert_exact, call, normal, small_integers
from tests.gradient_check import check_gradients

CASES = [  # shape of x, window, stride
    ((1, 2, 2, 1), 2, 2),
    ((2, 5, 7, 3), 2, 2),  # floor: a row and a column that no window sees
    ((2, 6, 8, 17), 2, 2),
    ((1, 7, 6, 5), 3, 2),
    ((2, 5, 5, 4), 3, 1),
    ((1, 8, 10, 3), 2, 3),
    ((1, 17, 16, 2), 16, 1),  # the largest window that argmax can number
    ((3, 4, 5, 64), 1, 1),
    ((2, 5, 6, 130), 2, 2),  # more channels than a block of any size
]
every_case = pytest.mark.parametrize(("shape", "window", "stride"), CASES)


def pooled(shape, window, stride):
    n, height, width, channels = shape
    return n, (height - window) // stride + 1, (width - window) // stride + 1, channels


def pool(backend, x, window, stride):
    shape = pooled(x.shape, window, stride)
    outputs = Out(*shape), Out(*shape, dtype=np.uint8)
    return call(backend, "max_pool_forward", x, *outputs, window=window, stride=stride)


@every_case
@pytest.mark.parametrize("numbers", [small_integers, normal])  # the integers have many equals
def test_forward(backend, random, shape, window, stride, numbers):
    x = numbers(random, *shape)
    out, argmax = pool(backend, x, window, stride)
    expected, first = oracle.max_pool(x, window, stride)
    assert_exact(out, expected)
    np.testing.assert_array_equal(argmax, first)


@every_case
def test_nan_and_infinity(backend, random, shape, window, stride):
    x = normal(random, *shape)
    kinds = random.integers(0, 8, shape)
    x[kinds == 0], x[kinds == 1], x[kinds == 2] = np.nan, -np.inf, np.inf
    out, argmax = pool(backend, x, window, stride)
    expected, first = oracle.max_pool(x, window, stride)
    assert_exact(out, expected)
    np.testing.assert_array_equal(argmax, first)


def test_a_window_of_minus_infinity(backend):
    out, argmax = pool(backend, np.full((1, 2, 2, 3), -np.inf, np.float32), 2, 2)
    assert (out == -np.inf).all()
    assert (argmax == 0).all()


def test_argmax_is_optional(backend, random):
    x = normal(random, 2, 5, 6, 3)
    out = call(backend, "max_pool_forward", x, Out(2, 2, 3, 3), None, window=2, stride=2)
    assert_exact(out, oracle.max_pool(x, 2, 2)[0])


@every_case
@pytest.mark.parametrize("numbers", [small_integers, normal])
def test_backward(backend, random, shape, window, stride, numbers):
    argmax_shape = pooled(shape, window, stride)
    grad = numbers(random, *argmax_shape)
    argmax = random.integers(0, window * window, argmax_shape).astype(np.uint8)
    grad_x = call(
        backend, "max_pool_backward", grad, argmax, Out(*shape), window=window, stride=stride
    )
    expected = oracle.max_pool_gradient(grad, argmax, shape, window, stride)
    if numbers is small_integers:
        assert_exact(grad_x, expected)
    else:
        assert_close(backend, grad_x, expected)


@pytest.mark.parametrize(
    ("shape", "window", "stride", "directions"),
    [((1, 4, 5, 2), 2, 2, 0), ((1, 5, 4, 2), 3, 1, 0), ((2, 9, 8, 3), 3, 2, 4)],
)
def test_finite_differences(reference, random, shape, window, stride, directions):
    small = pooled(shape, window, stride)

    def run(x):
        out, argmax = reference.empty(small), reference.empty(small, np.uint8)
        reference.max_pool_forward(x, out, argmax, window=window, stride=stride)
        return out, argmax

    def backward(grad, x):
        grad_x = reference.empty(shape)
        reference.max_pool_backward(grad, run(x)[1], grad_x, window=window, stride=stride)
        return [grad_x]

    def draw():
        return (random.standard_normal(shape),)

    check_gradients(lambda x: run(x)[0], backward, draw, directions=directions)
