"""Convolution forward and backward with every epilogue, against loops in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.backends import oracle
from tests.backends.harness import (
    Out,
    assert_close,
    assert_exact,
    call,
    normal,
    relu,
    same_bits,
    small_integers,
)
from tests.conftest import EXACT, backend_fixture
from tests.gradient_check import check_gradients

backend = backend_fixture(EXACT)


@dataclass(frozen=True)
class Case:
    """``x [n, h, w, c]`` convolved with ``weight [o, *kernel, c]``."""

    n: int
    h: int
    w: int
    c: int
    o: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int = 0

    def __str__(self) -> str:
        x = f"{self.n}x{self.h}x{self.w}x{self.c}"
        kernel = "x".join(map(str, self.kernel))
        return f"{x}-to-{self.o}-k{kernel}s{self.stride}p{self.padding}"

    @property
    def geometry(self) -> dict[str, int]:
        return {"stride": self.stride, "padding": self.padding}

    @property
    def out_shape(self) -> tuple[int, ...]:
        sizes = zip((self.h, self.w), self.kernel, strict=True)
        p, q = (oracle.out_size(size, k, self.stride, self.padding) for size, k in sizes)
        return self.n, p, q, self.o

    @property
    def pooled_shape(self) -> tuple[int, ...]:
        n, p, q, o = self.out_shape
        return n, p // 2, q // 2, o

    @property
    def terms(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.c

    def draw(self, numbers, random):
        """x, weight, bias and the gradient of the map before the epilogue."""
        return (
            numbers(random, self.n, self.h, self.w, self.c),
            numbers(random, self.o, *self.kernel, self.c),
            numbers(random, self.o),
            numbers(random, *self.out_shape),
        )


SMALL = [
    Case(1, 5, 7, 3, 5, padding=1),
    Case(2, 6, 6, 1, 4, padding=1),  # a single input channel, as in the first layer
    Case(2, 3, 3, 17, 19),  # a single output pixel
    Case(1, 9, 8, 5, 7, (2, 2)),
    Case(3, 7, 10, 4, 6, stride=2, padding=1),
    Case(2, 8, 7, 3, 3, (2, 3), stride=3),
    Case(1, 5, 5, 2, 9, (4, 4), padding=2),
    Case(2, 6, 5, 3, 1, (1, 1)),
    Case(1, 10, 4, 2, 3, (1, 1), stride=3),  # pixels that no window reads
    Case(1, 11, 9, 3, 2, (5, 3), stride=2, padding=2),
    Case(1, 2, 3, 2, 3, padding=2),  # an image smaller than its kernel
    Case(3, 4, 4, 8, 16, padding=1),
]
LARGE = [
    Case(2, 13, 12, 16, 33, padding=1),
    Case(5, 6, 6, 33, 40, padding=1),
]
LAYERS = [
    Case(1, 48, 48, 1, 64, padding=1),  # svgg10 conv1_1
    Case(1, 48, 48, 1, 64, (2, 2)),  # svgg5's first
    Case(3, 13, 9, 1, 16, stride=2, padding=1),  # a single channel, with strides
    Case(35, 7, 30, 1, 32, padding=2),
    Case(2, 23, 23, 64, 16),
    Case(4, 48, 48, 3, 16, padding=1),  # weight gradients sum 9216 terms
    Case(2, 24, 24, 32, 32, padding=1),
    Case(3, 12, 12, 64, 64, padding=1),
    Case(1, 6, 6, 512, 24, padding=1),  # 4608 terms a sum
]


def parametrize(cases):
    large = LARGE + LAYERS
    marked = [pytest.param(c, marks=pytest.mark.large) if c in large else c for c in cases]
    return pytest.mark.parametrize("case", marked, ids=str)


every_small = parametrize(SMALL + LARGE)
every_case = parametrize(SMALL + LARGE + LAYERS)
poolable = parametrize([c for c in SMALL + LARGE + LAYERS if min(c.pooled_shape) > 0])


# -- forward ------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_forward(backend, random, case, epilogue):
    after = relu if epilogue == "relu" else np.asarray
    options = {**case.geometry, "epilogue": epilogue}
    for numbers in (small_integers, normal):
        x, weight, bias, _ = case.draw(numbers, random)
        out = call(backend, "conv2d_forward", x, weight, bias, Out(*case.out_shape), **options)
        expected = after(oracle.conv2d(x, weight, bias, **case.geometry))
        if numbers is small_integers:
            assert_exact(out, expected)
        else:
            assert_close(backend, out, expected, case.terms)


@every_small
def test_forward_without_bias(backend, random, case):
    x, weight, _, _ = case.draw(small_integers, random)
    out = call(backend, "conv2d_forward", x, weight, None, Out(*case.out_shape), **case.geometry)
    assert_exact(out, oracle.conv2d(x, weight, **case.geometry))


@poolable
def test_forward_relu_pool_of_integers(backend, random, case):
    x, weight, bias, _ = case.draw(small_integers, random)
    outputs = Out(*case.pooled_shape), Out(*case.pooled_shape, dtype=np.uint8)
    options = {**case.geometry, "epilogue": "relu_pool"}
    out, argmax = call(backend, "conv2d_forward", x, weight, bias, *outputs, **options)
    before = oracle.conv2d(x, weight, bias, **case.geometry)
    expected, first = oracle.max_pool(relu(before), 2, 2)
    assert_exact(out, expected)
    assert argmax.max() < 4
    # Where ReLU gave 0 there is no gradient, and which of the zeros was first is nobody's concern.
    np.testing.assert_array_equal(argmax[out > 0], first[out > 0])


@poolable
def test_forward_relu_pool_of_reals(backend, random, case):
    x, weight, bias, _ = case.draw(normal, random)
    outputs = Out(*case.pooled_shape), Out(*case.pooled_shape, dtype=np.uint8)
    options = {**case.geometry, "epilogue": "relu_pool"}
    out, argmax = call(backend, "conv2d_forward", x, weight, bias, *outputs, **options)
    before = relu(oracle.conv2d(x, weight, bias, **case.geometry))
    assert_close(backend, out, oracle.max_pool(before, 2, 2)[0], case.terms)
    # Equal up to rounding may be resolved either way: what argmax points at must be as large.
    chosen = np.empty(out.shape)
    for (n, p, q, o), k in np.ndenumerate(argmax):
        chosen[n, p, q, o] = before[n, 2 * p + k // 2, 2 * q + k % 2, o]
    assert_close(backend, out[out > 0], chosen[out > 0], case.terms)


@poolable
def test_argmax_is_optional_and_changes_nothing(backend, random, case):
    x, weight, bias, _ = case.draw(normal, random)
    out = Out(*case.pooled_shape)
    options = {**case.geometry, "epilogue": "relu_pool"}
    with_argmax, _ = call(
        backend, "conv2d_forward", x, weight, bias, out, Out(*out.shape, dtype=np.uint8), **options
    )
    without = call(backend, "conv2d_forward", x, weight, bias, out, None, **options)
    assert same_bits(with_argmax, without)


@pytest.mark.parametrize("epilogue", ["none", "relu", "relu_pool"])
@pytest.mark.parametrize("c", [1, 8])
def test_forward_keeps_nan(backend, random, epilogue, c):
    case = Case(2, 9, 11, c, 8, padding=1)
    x, weight, bias, _ = case.draw(normal, random)
    x[1, 4, 5, 0] = np.nan
    shape = case.pooled_shape if epilogue == "relu_pool" else case.out_shape
    out = call(
        backend, "conv2d_forward", x, weight, bias, Out(*shape), padding=1, epilogue=epilogue
    )
    expected = oracle.conv2d(x, weight, bias, padding=1)
    if epilogue == "relu_pool":
        expected, _ = oracle.max_pool(expected, 2, 2)
    assert np.isnan(out[np.isnan(expected)]).all()
    assert not np.isnan(out[0]).any()


def test_an_image_does_not_depend_on_its_batch(backend, random):
    case = Case(5, 12, 12, 8, 16, padding=1)
    x, weight, bias, _ = case.draw(normal, random)
    together = call(backend, "conv2d_forward", x, weight, bias, Out(*case.out_shape), padding=1)
    alone = call(backend, "conv2d_forward", x[2:3], weight, bias, Out(1, 12, 12, 16), padding=1)
    assert_close(backend, together[2:3], alone.astype(np.float64), case.terms)


# -- backward -----------------------------------------------------------------------------------


@every_case
def test_input_gradient(backend, random, case):
    for numbers in (small_integers, normal):
        x, weight, _, grad = case.draw(numbers, random)
        grad_x = call(
            backend, "conv2d_input_gradient", grad, weight, Out(*x.shape), **case.geometry
        )
        expected, _, _ = oracle.conv2d_gradients(x, weight, grad, **case.geometry)
        if numbers is small_integers:
            assert_exact(grad_x, expected)
        else:
            assert_close(backend, grad_x, expected, case.terms // case.c * case.o)


@every_case
def test_weight_gradient(backend, random, case):
    for numbers in (small_integers, normal):
        x, weight, bias, grad = case.draw(numbers, random)
        outputs = Out(*weight.shape), Out(*bias.shape)
        grads = call(backend, "conv2d_weight_gradient", x, grad, *outputs, **case.geometry)
        _, *expected = oracle.conv2d_gradients(x, weight, grad, **case.geometry)
        terms = int(np.prod(case.out_shape[:3]))
        for actual, wanted in zip(grads, expected, strict=True):
            if numbers is small_integers:
                assert_exact(actual, wanted)
            else:
                assert_close(backend, actual, wanted, terms)


@every_small
def test_weight_gradient_gives_only_what_is_asked(backend, random, case):
    x, weight, bias, grad = case.draw(small_integers, random)
    _, *expected = oracle.conv2d_gradients(x, weight, grad, **case.geometry)
    method = "conv2d_weight_gradient"
    only_weight = call(backend, method, x, grad, Out(*weight.shape), None, **case.geometry)
    only_bias = call(backend, method, None, grad, None, Out(*bias.shape), **case.geometry)
    assert_exact(only_weight, expected[0])
    assert_exact(only_bias, expected[1])


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 5, 7, 3), (4, 6, 6, 33)])
def test_relu_gradient(backend, random, shape):
    out, grad = relu(normal(random, *shape)), normal(random, *shape)
    grad.flat[0], out.flat[0] = np.nan, 0  # 0 where out is 0, whatever the gradient
    result = call(backend, "epilogue_gradient", grad, out, None, Out(*shape), epilogue="relu")
    assert_exact(result, np.where(out > 0, grad, 0.0))


@pytest.mark.parametrize("before", [(1, 2, 2, 1), (2, 5, 7, 3), (3, 6, 4, 17), (1, 3, 8, 64)])
def test_relu_pool_gradient(backend, random, before):
    n, p, q, o = before
    shape = n, p // 2, q // 2, o
    out, grad = relu(normal(random, *shape)), normal(random, *shape)
    argmax = random.integers(0, 4, shape).astype(np.uint8)
    result = call(
        backend, "epilogue_gradient", grad, out, argmax, Out(*before), epilogue="relu_pool"
    )
    passed = np.where(out > 0, grad.astype(float), 0)
    assert_exact(result, oracle.max_pool_gradient(passed, argmax, before, 2, 2))


@every_small
@pytest.mark.parametrize("odd", [None, (0, 0), (1, 0), (0, 1), (1, 1)], ids=str)
def test_input_gradient_through_the_epilogue_below(backend, random, case, odd):
    """The bits of two calls, one after the other: a gradient is chosen or moved, never changed."""
    _, weight, _, grad = case.draw(normal, random)
    n, h, w, c = shape = (case.n, case.h, case.w, case.c)
    out, argmax = relu(normal(random, *shape)), None
    epilogue, before = "relu", shape
    if odd is not None:
        argmax = random.integers(0, 4, shape).astype(np.uint8)
        epilogue, before = "relu_pool", (n, 2 * h + odd[0], 2 * w + odd[1], c)
    method = "conv2d_input_gradient"
    grad_x = call(backend, method, grad, weight, Out(*shape), **case.geometry)
    expected = call(
        backend, "epilogue_gradient", grad_x, out, argmax, Out(*before), epilogue=epilogue
    )
    actual = call(backend, method, grad, weight, Out(*before), out, argmax, **case.geometry)
    assert actual.tobytes() == expected.tobytes()
    assert actual.any() == (grad_x * (out > 0)).any()


# -- finite differences -------------------------------------------------------------------------


def with_epilogue(backend, case, epilogue):
    """Forward and backward of a whole convolution on the backend, as functions of arrays."""
    options = {**case.geometry, "epilogue": epilogue}
    pooled = epilogue == "relu_pool"
    shape = case.pooled_shape if pooled else case.out_shape

    def run(x, weight, bias):
        out, argmax = backend.empty(shape), backend.empty(shape, np.uint8) if pooled else None
        backend.conv2d_forward(x, weight, bias, out, argmax, **options)
        return out, argmax

    def forward(x, weight, bias):
        return run(x, weight, bias)[0]

    def backward(grad, x, weight, bias):
        if epilogue != "none":
            before = backend.empty(case.out_shape)
            backend.epilogue_gradient(grad, *run(x, weight, bias), before, epilogue=epilogue)
            grad = before
        gradients = [backend.empty(array.shape) for array in (x, weight, bias)]
        backend.conv2d_input_gradient(grad, weight, gradients[0], **case.geometry)
        backend.conv2d_weight_gradient(x, grad, *gradients[1:], **case.geometry)
        return gradients

    def draw(random):
        return tuple(array.astype(np.float64) for array in case.draw(normal, random)[:3])

    return forward, backward, draw


@pytest.mark.parametrize("epilogue", ["none", "relu", "relu_pool"])
@pytest.mark.parametrize(
    "case",
    [
        Case(1, 4, 5, 2, 2, padding=1),
        Case(2, 5, 4, 1, 2, (2, 2)),
        Case(1, 7, 6, 2, 2, stride=2, padding=1),
    ],
    ids=str,
)
def test_full_jacobian(reference, random, case, epilogue):
    forward, backward, draw = with_epilogue(reference, case, epilogue)
    check_gradients(forward, backward, lambda: draw(random))


@pytest.mark.parametrize("epilogue", ["none", "relu", "relu_pool"])
def test_random_directions(reference, random, epilogue):
    # Few enough entries that a random draw is rarely near a kink; those that are, are redrawn.
    case = Case(2, 9, 8, 4, 6, padding=1)
    forward, backward, draw = with_epilogue(reference, case, epilogue)
    check_gradients(forward, backward, lambda: draw(random), directions=4)
