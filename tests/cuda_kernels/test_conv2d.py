"""Convolutions: every kernel against loops in float64, at the gates, at awkward shapes."""

import dataclasses
import functools
import re

import numpy as np
import pytest

from cuda_kernels import conv2d
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.runtime import KernelError
from tests.backends import oracle
from tests.backends.harness import normal, relative_error, relu, small_integers
from tests.backends.test_conv2d import LAYERS, SMALL, Case
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import with_mistake

CASES = [
    *(*SMALL, *LAYERS),
    Case(1, 1, 1, 1, 1, (1, 1)),
    Case(3, 9, 7, 70, 65, padding=1),  # beyond a tile in each direction
    Case(2, 29, 26, 3, 5, stride=2, padding=1),  # two slices, four phases, odd edges
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
poolable = pytest.mark.parametrize(
    "case", [case for case in CASES if min(case.pooled_shape) > 0], ids=str
)
both_numbers = pytest.mark.parametrize("numbers", [small_integers, normal])


@functools.cache
def drawn(case, numbers):
    """x, weight, bias and gradient, the same for every order of threads."""
    return case.draw(numbers, np.random.default_rng(case.terms))


@functools.cache
def expected_map(case, numbers, biased=True):
    x, weight, bias, _ = drawn(case, numbers)
    return oracle.conv2d(x, weight, bias if biased else None, **case.geometry)


@functools.cache
def expected_gradients(case, numbers):
    x, weight, _, grad = drawn(case, numbers)
    return oracle.conv2d_gradients(x, weight, grad, **case.geometry)


@functools.cache
def expected_pool(case, numbers):
    return oracle.max_pool(relu(expected_map(case, numbers)), 2, 2)


def check(runtime, buffer, expected, numbers, terms):
    actual = runtime.copy_out(buffer)
    if numbers is small_integers:
        np.testing.assert_array_equal(actual, expected.astype(np.float32), strict=True)
    else:
        error, gate = relative_error(actual, expected), 2e-6 * max(1, (terms / 4608) ** 0.5)
        assert error <= gate, f"relative error {error:.3g} > {gate:.3g}"


def launched_by(runtime):
    """The names of kernels that are launched from now on."""
    names = []
    runtime.on_launch = lambda kernel, grid: names.append(kernel.name)
    return names


# -- forward --------------------------------------------------------------------------------------


@every_case
@both_numbers
@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_forward(runtime, case, numbers, epilogue):
    biased = epilogue == "relu"
    x, weight, bias, _ = (to_device(runtime, array) for array in drawn(case, numbers))
    out = poisoned(runtime, *case.out_shape)
    conv2d.forward(
        runtime, x, weight, bias if biased else None, out, None, epilogue=epilogue, **case.geometry
    )
    expected = expected_map(case, numbers, biased)
    check(runtime, out, relu(expected) if biased else expected, numbers, case.terms)


@poolable
@both_numbers
def test_forward_relu_pool(runtime, case, numbers):
    x, weight, bias, _ = (to_device(runtime, array) for array in drawn(case, numbers))
    out = poisoned(runtime, *case.pooled_shape)
    argmax = poisoned(runtime, *case.pooled_shape, dtype=np.uint8)
    launched = launched_by(runtime)
    options = {**case.geometry, "epilogue": "relu_pool"}
    conv2d.forward(runtime, x, weight, bias, out, argmax, **options)
    assert launched == ["conv2d_forward_pool"]
    expected, first = expected_pool(case, numbers)
    check(runtime, out, expected, numbers, case.terms)

    without = poisoned(runtime, *case.pooled_shape)
    conv2d.forward(runtime, x, weight, bias, without, None, **options)
    out, argmax, without = (runtime.copy_out(one) for one in (out, argmax, without))
    np.testing.assert_array_equal(out, without)
    assert argmax.max() < 4
    if numbers is small_integers:  # others may be equal up to rounding
        np.testing.assert_array_equal(argmax[out > 0], first[out > 0])


def test_the_first_largest_wins_and_nan_is_the_largest(runtime):
    """Through a 1x1 kernel of 1; the last row and column of the image are in no window."""
    nan, inf = np.nan, np.inf
    windows = [  # entries in order, what is pooled, and where it was
        ([1, 2, 3, 4], 4, 3),
        ([5, 5, 5, 5], 5, 0),
        ([1, 7, 7, 2], 7, 1),
        ([nan, 9, nan, inf], nan, 0),
        ([inf, 1, nan, nan], nan, 2),
        ([-inf, -1, 0, nan], nan, 3),
        ([-4, -3, -2, -1], 0, None),
    ]
    x = np.full((1, 3, 2 * len(windows) + 1, 1), 99, np.float32)
    for i, (entries, _, _) in enumerate(windows):
        x[0, :2, 2 * i : 2 * i + 2, 0] = np.reshape(entries, (2, 2))
    out = poisoned(runtime, 1, 1, len(windows), 1)
    argmax = poisoned(runtime, 1, 1, len(windows), 1, dtype=np.uint8)
    one = to_device(runtime, np.ones((1, 1, 1, 1), np.float32))
    options = {"stride": 1, "padding": 0, "epilogue": "relu_pool"}
    conv2d.forward(runtime, to_device(runtime, x), one, None, out, argmax, **options)
    places = runtime.copy_out(argmax).ravel().tolist()
    np.testing.assert_array_equal(
        runtime.copy_out(out).ravel(), [pooled for _, pooled, _ in windows]
    )
    for (_, _, expected), place in zip(windows, places, strict=True):
        assert place == expected or (expected is None and place < 4)


@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_forward_keeps_nan(runtime, epilogue):
    case = Case(2, 9, 11, 3, 8, padding=1)
    x, weight, bias, _ = drawn(case, normal)
    x = x.copy()
    x[1, 4, 5, 0] = np.nan
    out = poisoned(runtime, *case.out_shape)
    operands = (to_device(runtime, array) for array in (x, weight, bias))
    conv2d.forward(runtime, *operands, out, None, epilogue=epilogue, **case.geometry)
    touched = np.zeros(case.out_shape, bool)
    touched[1, 3:6, 4:7] = True
    np.testing.assert_array_equal(np.isnan(runtime.copy_out(out)), touched)


# -- backward -------------------------------------------------------------------------------------


@every_case
@both_numbers
def test_input_gradient(runtime, case, numbers):
    x, weight, _, grad = drawn(case, numbers)
    grad_x = poisoned(runtime, *x.shape)
    operands = to_device(runtime, grad), to_device(runtime, weight)
    conv2d.input_gradient(runtime, *operands, grad_x, **case.geometry)
    terms = case.o * case.kernel[0] * case.kernel[1]
    check(runtime, grad_x, expected_gradients(case, numbers)[0], numbers, terms)


@every_case
@both_numbers
def test_weight_gradient(runtime, case, numbers):
    x, weight, bias, grad = drawn(case, numbers)
    grad_weight, grad_bias = poisoned(runtime, *weight.shape), poisoned(runtime, *bias.shape)
    operands = to_device(runtime, x), to_device(runtime, grad)
    conv2d.weight_gradient(runtime, *operands, grad_weight, grad_bias, **case.geometry)
    _, of_weight, of_bias = expected_gradients(case, numbers)
    terms = grad.size // case.o
    check(runtime, grad_weight, of_weight, numbers, terms)
    check(runtime, grad_bias, of_bias, numbers, terms)
    alone = poisoned(runtime, *bias.shape)
    conv2d.weight_gradient(runtime, None, operands[1], None, alone, **case.geometry)
    check(runtime, alone, of_bias, numbers, terms)


def test_what_is_not_wanted_is_not_launched(runtime):
    case = CASES[-1]  # two slices
    x, weight, bias, grad = drawn(case, normal)
    x, grad = to_device(runtime, x), to_device(runtime, grad)
    launched = launched_by(runtime)
    conv2d.weight_gradient(runtime, None, grad, None, None, **case.geometry)
    assert launched == []
    of_weight, of_bias = poisoned(runtime, *weight.shape), poisoned(runtime, *bias.shape)
    conv2d.weight_gradient(runtime, None, grad, None, of_bias, **case.geometry)
    assert launched == ["conv2d_bias_gradient", "conv2d_sum_slices"]
    conv2d.weight_gradient(runtime, x, grad, of_weight, None, **case.geometry)
    assert launched[2:] == ["conv2d_weight_gradient", "conv2d_sum_slices"]


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=str)
def test_a_gradient_left_in_slices_is_what_is_summed_otherwise(runtime, case):
    x, weight, bias, grad = drawn(case, normal)
    operands = to_device(runtime, x), to_device(runtime, grad)
    whole = poisoned(runtime, *weight.shape), poisoned(runtime, *bias.shape)
    conv2d.weight_gradient(runtime, *operands, *whole, **case.geometry)
    slices = conv2d.gradient_slices(runtime, x.shape, weight.shape, **case.geometry)
    sliced = [poisoned(runtime, slices, *one.shape) for one in whole]
    launched = launched_by(runtime)
    conv2d.weight_gradient(runtime, *operands, *sliced, **case.geometry)
    assert launched == ["conv2d_weight_gradient"], "which leaves the bias's, too"
    for partial, total in zip(sliced, whole, strict=True):
        parts = runtime.copy_out(partial)
        assert len(parts) <= 16, "so they are added one by one"
        in_order = functools.reduce(np.add, parts)
        np.testing.assert_array_equal(in_order, runtime.copy_out(total), strict=True)


def test_slices_may_be_others_and_accumulate_but_none_empty(runtime):
    case = CASES[-1]
    x, weight, bias, grad = drawn(case, small_integers)
    operands = to_device(runtime, x), to_device(runtime, grad)
    _, of_weight, of_bias = expected_gradients(case, small_integers)
    sliced = [to_device(runtime, np.ones((3, *one.shape), np.float32)) for one in (weight, bias)]
    conv2d.weight_gradient(runtime, *operands, *sliced, accumulate=True, **case.geometry)
    for partial, expected in zip(sliced, (of_weight, of_bias), strict=True):
        np.testing.assert_array_equal(runtime.copy_out(partial).sum(axis=0) - 3, expected)
    empty = poisoned(runtime, 1000, *bias.shape)
    with pytest.raises(
        ValueError, match=r"1000 slices of \d+ pixels cannot be alike and not empty"
    ):
        conv2d.weight_gradient(runtime, None, operands[1], None, empty, **case.geometry)
    whole = poisoned(runtime, *bias.shape)
    with pytest.raises(ValueError, match=r"grad_bias must have shape \(3, 5\), and has \(5,\)"):
        conv2d.weight_gradient(runtime, *operands, sliced[0], whole, **case.geometry)
    for shape in ((0, *bias.shape), (2, 2, *bias.shape)):
        wrong = poisoned(runtime, *shape)
        with pytest.raises(ValueError, match="more than slices before its last 1 axes"):
            conv2d.weight_gradient(runtime, None, operands[1], None, wrong, **case.geometry)


def test_no_images_have_no_gradient(runtime):
    x, grad = runtime.empty((0, 5, 5, 3), np.float32), runtime.empty((0, 5, 5, 4), np.float32)
    weight, bias = poisoned(runtime, 4, 3, 3, 3), poisoned(runtime, 4)
    conv2d.weight_gradient(runtime, x, grad, weight, bias, stride=1, padding=1)
    assert not runtime.copy_out(weight).any()
    assert not runtime.copy_out(bias).any()


def test_a_recorded_weight_gradient_sums_what_is_there_when_it_is_replayed(runtime):
    case = CASES[-1]
    x, weight, bias, grad = drawn(case, small_integers)
    x, grad = to_device(runtime, np.zeros_like(x)), to_device(runtime, grad)
    of_weight, of_bias = poisoned(runtime, *weight.shape), poisoned(runtime, *bias.shape)
    arguments = runtime, x, grad, of_weight, of_bias
    conv2d.weight_gradient(*arguments, **case.geometry)
    with runtime.capture() as graph:
        conv2d.weight_gradient(*arguments, **case.geometry)
    runtime.copy_in(x, drawn(case, small_integers)[0])
    graph.replay()
    _, expected, _ = expected_gradients(case, small_integers)
    check(runtime, of_weight, expected, small_integers, 1)


# -- before the epilogue --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 2, 2, 1), (2, 5, 7, 3), (3, 6, 4, 33), (1, 1, 5, 2)], ids=str
)
def test_relu_pool_gradient(runtime, random, shape):
    n, p, q, o = shape
    pooled = n, p // 2, q // 2, o
    grad, out = normal(random, *pooled), normal(random, *pooled)
    out[..., 0] = np.nan if o > 2 else out[..., 0]
    argmax = random.integers(0, 4, pooled).astype(np.uint8)
    before = poisoned(runtime, *shape)
    operands = (to_device(runtime, array) for array in (grad, out, argmax))
    conv2d.epilogue_gradient(runtime, *operands, before, epilogue="relu_pool")
    expected = oracle.max_pool_gradient(np.where(out > 0, grad, 0), argmax, shape, 2, 2)
    check(runtime, before, expected, small_integers, 1)


def test_relu_gradient(runtime, random):
    grad, out = normal(random, 2, 3, 5), normal(random, 2, 3, 5)
    before = poisoned(runtime, 2, 3, 5)
    operands = to_device(runtime, grad), to_device(runtime, out)
    conv2d.epilogue_gradient(runtime, *operands, None, before, epilogue="relu")
    check(runtime, before, np.where(out > 0, grad, 0), small_integers, 1)


# -- refusals and order ---------------------------------------------------------------------------


def test_shapes_that_do_not_fit_are_refused(runtime):
    x, weight, out = (poisoned(runtime, *s) for s in ((1, 4, 4, 3), (5, 3, 3, 3), (1, 4, 4, 5)))
    wrong = poisoned(runtime, 1, 2, 4, 5)
    size = {"stride": 1, "padding": 1}
    with pytest.raises(ValueError, match=r"out must have shape \(1, 4, 4, 5\), and has \(1, 2,"):
        conv2d.forward(runtime, x, weight, None, wrong, None, epilogue="none", **size)
    with pytest.raises(ValueError, match=r"out must have shape \(1, 2, 2, 5\)"):
        conv2d.forward(runtime, x, weight, None, out, None, epilogue="relu_pool", **size)
    with pytest.raises(ValueError, match=r"weight must have shape \(5, 3, 3, 5\)"):
        conv2d.forward(runtime, out, weight, None, out, None, epilogue="none", **size)
    with pytest.raises(ValueError, match=r"bias must have shape \(5,\)"):
        conv2d.forward(runtime, x, weight, x, out, None, epilogue="none", **size)
    with pytest.raises(ValueError, match="grad must have shape"):
        conv2d.input_gradient(runtime, wrong, weight, x, **size)
    with pytest.raises(ValueError, match="grad must have shape"):
        conv2d.weight_gradient(runtime, x, wrong, weight, None, **size)
    with pytest.raises(ValueError, match="argmax"):
        conv2d.epilogue_gradient(runtime, out, out, None, out, epilogue="relu_pool")


def everything(runtime, case, numbers):
    """Each operation once: what it gives and what it should, by its name."""
    x, weight, bias, grad = drawn(case, numbers)
    out, pooled = poisoned(runtime, *case.out_shape), poisoned(runtime, *case.pooled_shape)
    argmax = poisoned(runtime, *case.pooled_shape, dtype=np.uint8)
    grad_x, grad_weight, grad_bias, alone, before = (
        poisoned(runtime, *array.shape) for array in (x, weight, bias, bias, grad)
    )
    expected, (largest, place) = expected_map(case, numbers), expected_pool(case, numbers)
    size = case.geometry
    conv2d.forward(runtime, x, weight, bias, out, None, epilogue="none", **size)
    conv2d.forward(runtime, x, weight, bias, pooled, argmax, epilogue="relu_pool", **size)
    conv2d.input_gradient(runtime, grad, weight, grad_x, **size)
    conv2d.weight_gradient(runtime, x, grad, grad_weight, grad_bias, **size)
    conv2d.weight_gradient(runtime, None, grad, None, alone, **size)
    conv2d.epilogue_gradient(runtime, pooled, pooled, argmax, before, epilogue="relu_pool")
    given = [out, pooled, np.where(pooled > 0, argmax, 0)]
    given += [grad_x, grad_weight, grad_bias, alone, before]
    gradients = expected_gradients(case, numbers)
    wanted = [
        *(expected, largest, np.where(largest > 0, place, 0)),
        *(*gradients, gradients[2]),
        oracle.max_pool_gradient(largest, place, case.out_shape, 2, 2),
    ]
    names = ["map", "pooled", "argmax", "grad_x", "grad_weight", "grad_bias", "alone", "before"]
    return dict(zip(names, zip(given, wanted, strict=True), strict=True))


def test_all_orders_of_threads_give_the_same_bits():
    runs = [everything(EmulatedRuntime(order), CASES[-1], normal) for order in ORDERS]
    for name in runs[0]:
        assert len({run[name][0].tobytes() for run in runs}) == 1, name


# -- planted mistakes -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bug:
    """``text`` of the source, or of a header, replaced by ``mistake``.

    ``seen`` is in a message, or the name of a wrong result.
    """

    text: str
    mistake: str
    seen: str
    file: str = ""


UNWRITTEN, RACE = "nobody has written yet", "race in shared memory"
BUGS = {
    "barrier removed before reading": Bug(
        "__syncthreads();  // the tiles are complete", "", f"{UNWRITTEN}|{RACE}"
    ),
    "barrier removed before refilling": Bug(
        "__syncthreads();  // nobody reads them any more", "", RACE
    ),
    "barrier removed between parts": Bug(
        "= sum;\n    __syncthreads();", "= sum;", f"{UNWRITTEN}|{RACE}"
    ),
    "padding read from memory": Bug(
        "static_cast<u32>(at.y) < height",
        "at.y > -99",
        r"x\[-?\d+\] is outside its 4524 entries",
        "place.cuh",
    ),
    "matrix read past the end": Bug(
        "place_if(i < count,",
        "place_if(i <= count,",
        r"weight\[\d+\] is outside its 135 entries",
        "place.cuh",
    ),
    "equals go to the last": Bug(
        "return a > b ||", "return a >= b ||", "argmax", "convolution.cuh"
    ),
    "windows misread": Bug("+ entry / 2,", "+ entry % 2,", "pooled", "convolution.cuh"),
    "phases forgotten": Bug(
        "first = (phase + stride - padding % stride) % stride;",
        "first = phase;",
        "grad_x",
        "convolution.cuh",
    ),
    "slices overlap": Bug("min(k0 + slice, s.pixels())", "s.pixels()", "grad_weight"),
    "bias of another slice": Bug("(blockIdx.y * s.o + row)", "row", "grad_bias"),
    "a term for another": Bug("+ i / 2 * 8]", "+ i / 2 * 7]", "grad_bias", "row_sums.cuh"),
    "last slice left out": Bug(
        "slice < slices; slice += step",
        "slice + 1 < slices; slice += step",
        "grad_bias",
        "sliced_sums.cuh",
    ),
    "odd edges left as they were": Bug("across = (q + 1) / 2;", "across = q / 2;", "before"),
}


def what_is_wrong(runtime):
    """A kernel's message, or the names of wrong results."""
    try:
        results = everything(runtime, CASES[-1], small_integers)
    except KernelError as error:
        return str(error)
    return [name for name, (given, wanted) in results.items() if not np.array_equal(given, wanted)]


@pytest.mark.parametrize("name", BUGS)
def test_mistake_is_seen(tmp_path, name):
    bug = BUGS[name]
    for runtime in with_mistake(tmp_path, conv2d.SIMPLE, bug.text, bug.mistake, bug.file):
        assert re.search(bug.seen, str(what_is_wrong(runtime)))


@pytest.mark.parametrize("order", ORDERS)
def test_without_a_mistake_nothing_is_seen(order):
    assert what_is_wrong(EmulatedRuntime(order)) == []
