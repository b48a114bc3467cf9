"""Fully connected layers: every version against float64, at the gates, at awkward shapes."""

import numpy as np
import pytest

from cuda_kernels import linear
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from tests.backends import oracle
from tests.backends.harness import normal, relative_error, small_integers
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.precisions import Numbers, numbers_in

ANY_SHAPE = [(1, 1, 1), (3, 5, 7), (1, 700, 33), (70, 31, 65), (130, 16, 5)]
WHOLE_CHUNKS = [(1, 8, 8), (5, 136, 24), (130, 264, 136), (3, 1000, 8)]

CASES = [
    *((precision, 1, shape) for precision in ("fp32", "bf16") for shape in ANY_SHAPE),
    ("tf32", 1, (3, 5, 7)),  # by the kernels in fp32
    *((precision, 2, shape) for precision in ("bf16", "tf32", "bf16x3") for shape in WHOLE_CHUNKS),
    *((precision, 2, (5, 12, 132)) for precision in ("tf32", "bf16x3")),
]
every_case = pytest.mark.parametrize(
    ("precision", "version", "shape"), CASES, ids=["-".join(map(str, case)) for case in CASES]
)
both_numbers = pytest.mark.parametrize("numbers", [small_integers, normal])


@every_case
@both_numbers
@pytest.mark.parametrize("biased_relu", [True, False])
def test_forward(runtime, random, precision, version, shape, numbers, biased_relu):
    n, i, o = shape
    layer = Numbers(runtime, precision, version, numbers, random)
    (x, exact_x), (weight, exact_weight) = layer.drawn(n, i), layer.drawn(o, i)
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
    layer = Numbers(runtime, precision, version, numbers, random)
    (grad, exact_grad), (weight, exact_weight) = layer.drawn(n, o), layer.drawn(o, i)
    grad_x = layer.output(n, i)
    linear.input_gradient(runtime, grad, weight, grad_x, precision=precision)
    layer.check(grad_x, exact_grad @ exact_weight, o)


@every_case
@both_numbers
@pytest.mark.parametrize("accumulate", [True, False])
def test_weight_gradient(runtime, random, precision, version, shape, numbers, accumulate):
    n, i, o = shape
    layer = Numbers(runtime, precision, version, numbers, random)
    (x, exact_x), (grad, exact_grad) = layer.drawn(n, i), layer.drawn(n, o)
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
    layer.check_sums(grad_bias, exact_grad.sum(0) + add * before[1], n)
    alone = to_device(runtime, before[1]) if accumulate else poisoned(runtime, o)
    linear.weight_gradient(
        runtime, None, grad, None, alone, accumulate=accumulate, precision=precision
    )
    layer.check_sums(alone, exact_grad.sum(0) + add * before[1], n)


@every_case
@both_numbers
def test_dropout_in_both_directions(runtime, random, precision, version, shape, numbers):
    n, i, o = shape
    rate = 0.5 if numbers is small_integers else 0.3  # so that what is kept is exact, too
    layer = Numbers(runtime, precision, version, numbers, random)
    (x, exact_x), (weight, exact_weight) = layer.drawn(n, i), layer.drawn(o, i)
    rng, out = np.array([3, 1, 4, 15], np.uint32), layer.output(n, o)
    options = {"rate": rate, "precision": precision}
    linear.forward(
        *(runtime, x, weight, None, out),
        **{**options, "relu": True, "rng": to_device(runtime, rng), "layer": 2},
    )
    keeps = oracle.dropout_keeps(n * o, rng, rate, 2).reshape(n, o)
    expected = np.maximum(exact_x @ exact_weight.T, 0) * keeps / (1 - rate)
    layer.check(out, expected, i)

    grad, exact_grad = layer.drawn(n, i)  # of a layer of i outputs above
    (above, exact_above), grad_x = layer.drawn(i, o), layer.output(n, o)
    linear.input_gradient(runtime, grad, above, grad_x, out, **options)
    passes = numbers_in(runtime, out) > 0
    layer.check(grad_x, np.where(passes, exact_grad @ exact_above, 0) / (1 - rate), i)


def test_float32_results_of_bf16_operands_are_not_dropped(runtime):
    x, weight = (poisoned(runtime, *shape, dtype=np.uint16) for shape in ((3, 8), (7, 8)))
    rng = to_device(runtime, np.zeros(4, np.uint32))
    with pytest.raises(ValueError, match="float32 results of bf16 operands have no dropout"):
        linear.forward(runtime, x, weight, None, poisoned(runtime, 3, 7), rng=rng, precision="bf16")


def test_what_is_not_wanted_is_not_launched(runtime, random):
    x, grad = (to_device(runtime, normal(random, 3, size)) for size in (5, 7))
    launched = []
    runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    linear.weight_gradient(runtime, None, grad, None, poisoned(runtime, 7))
    linear.weight_gradient(runtime, x, grad, poisoned(runtime, 7, 5), None)
    linear.weight_gradient(runtime, None, grad, None, None)
    linear.weight_gradient(runtime, x, grad, poisoned(runtime, 7, 5), poisoned(runtime, 7))
    assert launched == ["linear_bias_gradient", "linear_weight_gradient", "linear_weight_gradient"]


def test_a_relu_keeps_nan(runtime, random):
    x = normal(random, 2, 8)
    x[1, 3] = np.nan
    weight, out = to_device(runtime, normal(random, 8, 8)), poisoned(runtime, 2, 8)
    linear.forward(runtime, to_device(runtime, x), weight, None, out, relu=True)
    assert np.isnan(runtime.copy_out(out)).tolist() == [[False] * 8, [True] * 8]


@pytest.mark.parametrize("shape", ANY_SHAPE)
@pytest.mark.parametrize("numbers", [small_integers, normal])
@pytest.mark.parametrize("biased_relu", [False, True])
def test_forward_to_float32(runtime, random, shape, numbers, biased_relu):
    """Of bf16 operands: what logits are made by."""
    n, i, o = shape
    layer = Numbers(runtime, "bf16", 1, numbers, random)
    (x, exact_x), (weight, exact_weight) = layer.drawn(n, i), layer.drawn(o, i)
    bias, out = numbers(random, o) if biased_relu else None, poisoned(runtime, n, o)
    launched = []
    runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    operands = x, weight, to_device(runtime, bias)
    linear.forward(runtime, *operands, out, relu=biased_relu, precision="bf16")
    assert launched == ["linear_forward_wide_bf16"]
    expected = exact_x @ exact_weight.T + (0 if bias is None else bias)
    layer.check(out, np.maximum(expected, 0) if biased_relu else expected, i)


@pytest.mark.parametrize("precision", ["bf16", "tf32", "bf16x3"])
def test_all_orders_of_threads_give_the_same_bits(random, precision):
    arrays, results = [normal(random, *shape) for shape in ((40, 72), (56, 72))], set()
    for order in ORDERS:
        layer = Numbers(EmulatedRuntime(order), precision, 2, normal)
        (x, _), (weight, _) = (layer.operand(array) for array in arrays)
        out = layer.output(40, 56)
        linear.forward(layer.runtime, x, weight, None, out, precision=precision)
        results.add(out.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("tf32", 1e-4, 4.5e-4), ("bf16x3", 1e-6, 8e-6)],  # tf32 cut off rather than rounded: 7e-4
    ids=["tf32", "bf16x3"],
)
def test_errors_are_those_of_the_precision(emulated, random, precision, least, most):
    (x, weight), out = (normal(random, 64, 512) for _ in range(2)), poisoned(emulated, 64, 64)
    operands = to_device(emulated, x), to_device(emulated, weight)
    linear.forward(emulated, *operands, None, out, precision=precision)
    assert least < relative_error(out, x.astype(float) @ weight.T) < most


def test_tf32_of_rounded_operands_is_nearly_exact(emulated, random):
    x, weight = (
        (normal(random, *shape).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        for shape in ((33, 264), (24, 264))
    )
    out = poisoned(emulated, 33, 24)
    operands = to_device(emulated, x), to_device(emulated, weight)
    linear.forward(emulated, *operands, None, out, precision="tf32")
    assert relative_error(out, x.astype(float) @ weight.T) <= 1e-5


def test_shapes_that_do_not_fit_are_refused(runtime):
    x, weight, out = (poisoned(runtime, *shape) for shape in ((3, 5), (7, 6), (3, 7)))
    with pytest.raises(ValueError, match=r"linear_forward: \(3, 5\), \(7, 6\) and \(3, 7\)"):
        linear.forward(runtime, x, weight, None, out)
