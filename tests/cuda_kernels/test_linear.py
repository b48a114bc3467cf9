"""Fully connected layers: every version against float64, at the gates, at awkward shapes."""

import numpy as np
import pytest

from cuda_kernels import linear
from tests.backends.harness import normal, relative_error, small_integers
from tests.cuda_kernels.harness import poisoned, to_device

ANY_SHAPE = [(1, 1, 1), (3, 5, 7), (1, 700, 33), (70, 31, 65), (130, 16, 5)]
WHOLE_CHUNKS = [(1, 8, 8), (5, 136, 24), (130, 264, 136), (3, 1000, 8)]

CASES = [
    *((precision, 1, shape) for precision in ("fp32", "bf16") for shape in ANY_SHAPE),
    *(("bf16", 2, shape) for shape in WHOLE_CHUNKS),
]
every_case = pytest.mark.parametrize(
    ("precision", "version", "shape"), CASES, ids=["-".join(map(str, case)) for case in CASES]
)
both_numbers = pytest.mark.parametrize("numbers", [small_integers, normal])


class Layer:
    """Operands in a precision, in memory of a runtime, and as exact numbers."""

    def __init__(self, runtime, random, precision, version, numbers):
        if precision == "bf16" and version == 2 and runtime.arch < 80:
            pytest.skip("tensor cores need sm_80")
        self.runtime, self.random, self.numbers = runtime, random, numbers
        self.narrow = precision == "bf16"
        runtime.pins |= {
            f"linear_{what}": version for what in ("forward", "input_gradient", "weight_gradient")
        }

    def operand(self, *shape):
        """A buffer, and its content in float64."""
        array = self.numbers(self.random, *shape)
        if not self.narrow:
            return to_device(self.runtime, array), array.astype(np.float64)
        bits = linear.to_bf16(array)
        return to_device(self.runtime, bits), linear.from_bf16(bits).astype(np.float64)

    def output(self, *shape):
        return poisoned(self.runtime, *shape, dtype=np.uint16 if self.narrow else np.float32)

    def check(self, buffer, expected, terms):
        actual = self.runtime.copy_out(buffer)
        narrow = actual.dtype == np.uint16
        rounded = expected.astype(np.float32)
        if narrow:
            actual, rounded = linear.from_bf16(actual), linear.from_bf16(linear.to_bf16(rounded))
        if self.numbers is small_integers:
            return np.testing.assert_array_equal(actual, rounded, strict=True)
        if narrow:  # of few entries, rounding alone may make more than the gate's share
            gate = max(2.5e-3, 1.05 * relative_error(rounded, expected))
        else:
            gate = 1e-5 if self.narrow else 2e-6 * max(1, (terms / 4608) ** 0.5)
        error = relative_error(actual, expected)
        assert error <= gate, f"relative error {error:.3g} > {gate:.3g}"
        return None


@every_case
@both_numbers
@pytest.mark.parametrize("biased_relu", [True, False])
def test_forward(runtime, random, precision, version, shape, numbers, biased_relu):
    n, i, o = shape
    layer = Layer(runtime, random, precision, version, numbers)
    (x, exact_x), (weight, exact_weight) = layer.operand(n, i), layer.operand(o, i)
    bias, out = numbers(random, o), layer.output(n, o)
    linear.forward(
        runtime,
        x,
        weight,
        to_device(runtime, bias if biased_relu else None),
        out,
        relu=biased_relu,
        precision=precision,
    )
    expected = exact_x @ exact_weight.T
    if biased_relu:
        expected = np.maximum(expected + bias, 0)
    layer.check(out, expected, i)


@every_case
@both_numbers
def test_input_gradient(runtime, random, precision, version, shape, numbers):
    n, i, o = shape
    layer = Layer(runtime, random, precision, version, numbers)
    (grad, exact_grad), (weight, exact_weight) = layer.operand(n, o), layer.operand(o, i)
    grad_x = layer.output(n, i)
    linear.input_gradient(runtime, grad, weight, grad_x, precision=precision)
    layer.check(grad_x, exact_grad @ exact_weight, o)


@every_case
@both_numbers
@pytest.mark.parametrize("accumulate", [True, False])
def test_weight_gradient(runtime, random, precision, version, shape, numbers, accumulate):
    n, i, o = shape
    layer = Layer(runtime, random, precision, version, numbers)
    (x, exact_x), (grad, exact_grad) = layer.operand(n, i), layer.operand(n, o)
    before = numbers(random, o, i), numbers(random, o)
    if accumulate:
        grad_weight, grad_bias = (to_device(runtime, array) for array in before)
    else:
        grad_weight, grad_bias = poisoned(runtime, o, i), poisoned(runtime, o)
    linear.weight_gradient(
        runtime, x, grad, grad_weight, grad_bias, accumulate=accumulate, precision=precision
    )
    add = int(accumulate)
    layer.check(grad_weight, exact_grad.T @ exact_x + add * before[0], n)
    layer.check(grad_bias, exact_grad.sum(0) + add * before[1], n)


def test_what_is_not_wanted_is_not_launched(runtime, random):
    x, grad = (to_device(runtime, normal(random, 3, size)) for size in (5, 7))
    launched = []
    runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    linear.weight_gradient(runtime, None, grad, None, poisoned(runtime, 7))
    linear.weight_gradient(runtime, x, grad, poisoned(runtime, 7, 5), None)
    linear.weight_gradient(runtime, None, grad, None, None)
    assert launched == ["linear_bias_gradient", "linear_weight_gradient"]


def test_a_relu_keeps_nan(runtime, random):
    x = normal(random, 2, 8)
    x[1, 3] = np.nan
    weight, out = to_device(runtime, normal(random, 8, 8)), poisoned(runtime, 2, 8)
    linear.forward(runtime, to_device(runtime, x), weight, None, out, relu=True)
    assert np.isnan(runtime.copy_out(out)).tolist() == [[False] * 8, [True] * 8]


def test_all_orders_of_threads_give_the_same_bits(random):
    from cuda_kernels.emulated import ORDERS, EmulatedRuntime

    arrays = [linear.to_bf16(normal(random, *shape)) for shape in ((40, 72), (56, 72))]
    results = set()
    for order in ORDERS:
        runtime = EmulatedRuntime(order)
        out = poisoned(runtime, 40, 56, dtype=np.uint16)
        x, weight = (to_device(runtime, array) for array in arrays)
        linear.forward(runtime, x, weight, None, out, precision="bf16")
        results.add(out.tobytes())
    assert len(results) == 1


def test_shapes_that_do_not_fit_are_refused(runtime):
    x, weight, out = (poisoned(runtime, *shape) for shape in ((3, 5), (7, 6), (3, 7)))
    with pytest.raises(ValueError, match=r"linear_forward: \(3, 5\), \(7, 6\) and \(3, 7\)"):
        linear.forward(runtime, x, weight, None, out)
