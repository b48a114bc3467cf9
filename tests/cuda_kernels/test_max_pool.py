"""Max-pooling: values, the first of equals, NaN, overlapping windows, gradients."""

import numpy as np
import pytest

from cuda_kernels import max_pool
from cuda_kernels.runtime import KernelError
from cuda_kernels.specs import UnsuitableError
from tests.backends import oracle
from tests.backends.harness import normal, relative_error, small_integers
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import with_mistake
from tests.cuda_kernels.precisions import (
    PRECISIONS,
    gate_of,
    numbers_in,
    rounded,
    stored,
    to_store,
)

CASES = [  # shape of x, window, stride
    ((1, 2, 2, 1), 2, 2),
    ((2, 5, 7, 3), 2, 2),  # floor: a row and a column that no window sees
    ((1, 7, 6, 5), 3, 2),
    ((2, 5, 5, 4), 3, 1),
    ((1, 8, 10, 3), 2, 3),
    ((1, 17, 16, 2), 16, 1),  # the largest window that argmax can number
    ((1, 4, 5, 64), 1, 1),
    ((1, 5, 6, 130), 2, 2),
]
every_case = pytest.mark.parametrize(("shape", "window", "stride"), CASES)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def pooled(shape, window, stride):
    n, height, width, channels = shape
    return n, (height - window) // stride + 1, (width - window) // stride + 1, channels


def check_forward(runtime, x, window, stride, precision="fp32"):
    """Values are copied and places counted: nothing is rounded."""
    shape, x = pooled(x.shape, window, stride), rounded(x, precision)
    out = to_store(runtime, *shape, precision=precision)
    argmax = poisoned(runtime, *shape, dtype=np.uint8)
    options = {"window": window, "stride": stride, "precision": precision}
    max_pool.forward(runtime, stored(runtime, x, precision), out, argmax, **options)
    expected, first = oracle.max_pool(x, window, stride)
    actual = numbers_in(runtime, out)
    np.testing.assert_array_equal(actual, expected.astype(np.float32), strict=True)
    np.testing.assert_array_equal(runtime.copy_out(argmax), first.astype(np.uint8), strict=True)


def check_backward(runtime, random, shape, window, stride, numbers, precision="fp32"):
    grad = rounded(numbers(random, *pooled(shape, window, stride)), precision)
    argmax = random.integers(0, window * window, grad.shape).astype(np.uint8)
    grad_x = to_store(runtime, *shape, precision=precision)
    buffers = stored(runtime, grad, precision), to_device(runtime, argmax)
    options = {"window": window, "stride": stride, "precision": precision}
    max_pool.backward(runtime, *buffers, grad_x, **options)
    actual = numbers_in(runtime, grad_x)
    expected = oracle.max_pool_gradient(grad, argmax, shape, window, stride)
    if numbers is small_integers:
        np.testing.assert_array_equal(actual, expected.astype(np.float32), strict=True)
    assert relative_error(actual, expected) <= gate_of(expected, precision, 2e-6)


@every_case
@every_precision
@pytest.mark.parametrize("numbers", [small_integers, normal])  # the integers have many equals
def test_forward(runtime, random, shape, window, stride, precision, numbers):
    check_forward(runtime, numbers(random, *shape), window, stride, precision)


@every_case
@every_precision
def test_nan_and_infinity(runtime, random, shape, window, stride, precision):
    x = normal(random, *shape)
    kinds = random.integers(0, 8, shape)
    x[kinds == 0], x[kinds == 1], x[kinds == 2] = np.nan, -np.inf, np.inf
    check_forward(runtime, x, window, stride, precision)


def test_argmax_is_optional(runtime, random):
    x, out = normal(random, 2, 5, 6, 3), poisoned(runtime, 2, 2, 3, 3)
    max_pool.forward(runtime, to_device(runtime, x), out, None, window=2, stride=2)
    np.testing.assert_array_equal(runtime.copy_out(out), oracle.max_pool(x, 2, 2)[0])


@every_case
@every_precision
@pytest.mark.parametrize("numbers", [small_integers, normal])
def test_backward(runtime, random, shape, window, stride, precision, numbers):
    check_backward(runtime, random, shape, window, stride, numbers, precision)


def test_what_does_not_fit_is_refused(runtime):
    x, out = poisoned(runtime, 1, 20, 20, 1), poisoned(runtime, 1, 4, 4, 1)
    with pytest.raises(UnsuitableError, match="windows up to 16 in a byte, not of 17"):
        max_pool.forward(runtime, x, out, None, window=17, stride=1)
    with pytest.raises(ValueError, match=r"max_pool_forward: \(1, 20, 20, 1\) and \(1, 4, 4, 1\)"):
        max_pool.forward(runtime, x, out, None, window=2, stride=2)


MISTAKES = {
    "the last of equals": ("!(value <= largest)", "!(value < largest)"),
    "a NaN is not kept": ("largest == largest && ", ""),
    "a window too many": ("at < window ? 0", "at <= window ? 0"),
    "a window beyond the last": ("s < q &&", "s <= q &&"),
}


def check_everything(runtime, random):
    x = small_integers(random, 2, 5, 5, 4)
    x[0, 2, 2] = np.nan
    check_forward(runtime, x, 3, 1)
    check_backward(runtime, random, x.shape, 3, 1, normal)
    check_backward(runtime, random, x.shape, 2, 2, normal)


def test_without_the_mistakes_nothing_is_seen(emulated, random):
    check_everything(emulated, random)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_seen(random, tmp_path, name):
    for runtime in with_mistake(tmp_path, max_pool.SOURCE, *MISTAKES[name]):
        with pytest.raises((AssertionError, KernelError)):
            check_everything(runtime, random)
