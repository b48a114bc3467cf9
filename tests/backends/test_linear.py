"""Fully connected layers against plain products in float64."""

import numpy as np
import pytest

from tests.backends.harness import (
    Out,
    assert_close,
    assert_exact,
    call,
    normal,
    relu,
    small_integers,
)
from tests.gradient_check import check_gradients

RNG = np.array([7, 2, 5, 3], np.uint32)

SHAPES = [  # N, I, O
    (1, 1, 1),
    (3, 5, 7),
    (9, 14, 6),
    *(
        pytest.param(*shape, marks=pytest.mark.large)
        for shape in ((1, 4608, 33), (16, 512, 7), (17, 31, 129), (300, 13, 5), (64, 256, 64))
    ),
]
every_shape = pytest.mark.parametrize(("n", "i", "o"), SHAPES)
both_numbers = pytest.mark.parametrize("numbers", [small_integers, normal])


def product(a, b):
    """``a [M, K]`` times ``b [K, N]``, a term at a time in float64."""
    total = np.zeros((len(a), b.shape[1]))
    for k in range(len(b)):
        total += np.multiply.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))
    return total


def compare(backend, numbers, actual, expected, terms):
    if numbers is small_integers:
        assert_exact(actual, expected)
    else:
        assert_close(backend, actual, expected, terms)


@every_shape
@both_numbers
@pytest.mark.parametrize("epilogue", ["none", "relu"])
@pytest.mark.parametrize("biased", [True, False])
def test_forward(backend, random, n, i, o, numbers, epilogue, biased):
    x, weight, bias = numbers(random, n, i), numbers(random, o, i), numbers(random, o)
    out = call(
        backend, "linear_forward", x, weight, bias if biased else None, Out(n, o), epilogue=epilogue
    )
    expected = product(x, weight.T) + (bias if biased else 0)
    if epilogue == "relu":
        expected = np.where(expected > 0, expected, 0)
    compare(backend, numbers, out, expected, i)


@every_shape
@both_numbers
def test_input_gradient(backend, random, n, i, o, numbers):
    grad, weight = numbers(random, n, o), numbers(random, o, i)
    grad_x = call(backend, "linear_input_gradient", grad, weight, Out(n, i))
    compare(backend, numbers, grad_x, product(grad, weight), o)


@pytest.mark.parametrize("before", [None, (4, 4, 16), (5, 4, 9), (6, 7, 24), (3, 3, 200)], ids=str)
def test_input_gradient_through_the_epilogue_below(backend, random, before):
    """The bits of two calls, one after the other; maps are seen as vectors."""
    p, q, c = (2, 2, 70) if before is None else before
    n, o, maps = 3, 40, (3, p // 2, q // 2, c)
    i = int(np.prod(maps[1:]))
    grad, weight, out = normal(random, n, o), normal(random, o, i), relu(normal(random, n, i))
    grad_x = call(backend, "linear_input_gradient", grad, weight, Out(n, i))
    arguments, argmax, shape = (grad_x, out, None), None, (n, i)
    if before is not None:
        argmax, shape = random.integers(0, 4, (n, i)).astype(np.uint8), (n, p, q, c)
        arguments = tuple(array.reshape(maps) for array in (grad_x, out, argmax))
    epilogue = "relu" if before is None else "relu_pool"
    expected = call(backend, "epilogue_gradient", *arguments, Out(*shape), epilogue=epilogue)
    actual = call(backend, "linear_input_gradient", grad, weight, Out(*shape), out, argmax)
    assert actual.tobytes() == expected.tobytes()
    assert actual.any()


@every_shape
@pytest.mark.parametrize("rate", [0.5, 0.3])
def test_dropout_follows(backend, random, n, i, o, rate):
    """In both directions, the bits of calls one after the other."""
    x, weight, bias = normal(random, n, i), normal(random, o, i), normal(random, o)
    made = call(backend, "linear_forward", x, weight, bias, Out(n, o), epilogue="relu")
    options = {"rate": rate, "layer": 2}
    dropped = call(backend, "dropout", made, RNG, Out(n, o), **options)
    options |= {"epilogue": "relu"}
    actual = call(backend, "linear_forward", x, weight, bias, Out(n, o), RNG, **options)
    assert actual.tobytes() == dropped.tobytes()

    above, grad = normal(random, 6, o), normal(random, n, 6)
    kept = call(backend, "linear_input_gradient", grad, above, Out(n, o))
    kept = call(backend, "dropout", kept, RNG, Out(n, o), rate=rate, layer=2)
    expected = call(backend, "epilogue_gradient", kept, made, None, Out(n, o), epilogue="relu")
    actual = call(backend, "linear_input_gradient", grad, above, Out(n, o), dropped, rate=rate)
    np.testing.assert_array_equal(actual, expected, strict=True)


@every_shape
@both_numbers
def test_weight_gradient(backend, random, n, i, o, numbers):
    x, grad = numbers(random, n, i), numbers(random, n, o)
    grad_weight, grad_bias = call(backend, "linear_weight_gradient", x, grad, Out(o, i), Out(o))
    compare(backend, numbers, grad_weight, product(grad.T, x), n)
    compare(backend, numbers, grad_bias, grad.sum(0, dtype=np.float64), n)


def test_weight_gradient_gives_only_what_is_asked(backend, random):
    x, grad = small_integers(random, 6, 5), small_integers(random, 6, 3)
    only_weight = call(backend, "linear_weight_gradient", x, grad, Out(3, 5), None)
    only_bias = call(backend, "linear_weight_gradient", None, grad, None, Out(3))
    assert_exact(only_weight, product(grad.T, x))
    assert_exact(only_bias, grad.sum(0, dtype=np.float64))


@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_forward_keeps_nan(backend, random, epilogue):
    x, weight = normal(random, 3, 9), normal(random, 17, 9)
    x[1, 4] = np.nan
    out = call(backend, "linear_forward", x, weight, None, Out(3, 17), epilogue=epilogue)
    assert np.isnan(out).all(axis=1).tolist() == [False, True, False]
    assert not np.isnan(out[[0, 2]]).any()


@pytest.mark.parametrize("epilogue", ["none", "relu"])
@pytest.mark.parametrize(("n", "i", "o", "directions"), [(2, 4, 3, 0), (9, 40, 30, 4)])
def test_finite_differences(reference, random, n, i, o, directions, epilogue):
    def forward(x, weight, bias):
        out = reference.empty((n, o))
        reference.linear_forward(x, weight, bias, out, epilogue=epilogue)
        return out

    def backward(grad, x, weight, bias):
        if epilogue == "relu":
            before = reference.empty((n, o))
            out = forward(x, weight, bias)
            reference.epilogue_gradient(grad, out, None, before, epilogue="relu")
            grad = before
        gradients = [reference.empty(array.shape) for array in (x, weight, bias)]
        reference.linear_input_gradient(grad, weight, gradients[0])
        reference.linear_weight_gradient(x, grad, *gradients[1:])
        return gradients

    def draw():
        return tuple(random.standard_normal(shape) for shape in ((n, i), (o, i), (o,)))

    check_gradients(forward, backward, draw, directions=directions)
