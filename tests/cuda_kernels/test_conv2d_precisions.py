"""Convolutions in bf16, tf32 and bf16x3, of both versions, against loops in float64."""

import functools
import re

import numpy as np
import pytest

from cuda_kernels import conv2d
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.runtime import KernelError
from cuda_kernels.specs import UnsuitableError
from tests.backends import oracle
from tests.backends.harness import normal, relu, small_integers
from tests.backends.test_conv2d import Case
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import with_mistake
from tests.cuda_kernels.precisions import Numbers

ANY_SHAPE = [
    Case(2, 6, 6, 1, 4, padding=1),
    Case(1, 9, 8, 5, 7, (2, 2)),
    Case(3, 7, 10, 4, 66, stride=2, padding=1),
    Case(2, 29, 26, 3, 5, stride=2, padding=1),  # two slices
]
WHOLE_CHUNKS = [
    Case(1, 1, 1, 8, 8, (1, 1)),
    Case(3, 5, 7, 8, 16, padding=1),
    Case(2, 9, 8, 16, 136, (2, 2)),  # beyond a tile
    Case(1, 11, 9, 40, 8, (5, 3), stride=2, padding=2),
    Case(3, 13, 12, 8, 24, stride=2, padding=1),
    Case(1, 10, 4, 8, 8, (1, 1), stride=3),  # pixels that no window reads
    Case(1, 2, 3, 8, 8, padding=2),  # an image smaller than its kernel
    Case(1, 6, 6, 64, 8, padding=1),
    Case(2, 19, 18, 8, 8, padding=1),  # three slices
]
FOURS = [Case(1, 5, 6, 12, 20, padding=1)]  # enough for floats, not for bf16

TENSOR_CORES = ("bf16", "tf32", "bf16x3")
CASES = [
    *(("bf16", 1, case) for case in ANY_SHAPE),
    ("tf32", 1, ANY_SHAPE[0]),  # by the kernels in fp32
    *((precision, 2, case) for precision in TENSOR_CORES for case in WHOLE_CHUNKS),
    *((precision, 2, case) for precision in ("tf32", "bf16x3") for case in FOURS),
]


def parametrize(cases):
    return pytest.mark.parametrize(
        ("precision", "version", "case"), cases, ids=["-".join(map(str, case)) for case in cases]
    )


every_case = parametrize(CASES)
poolable = parametrize([one for one in CASES if min(one[2].pooled_shape) > 0])
both_numbers = pytest.mark.parametrize("draw", [small_integers, normal])


@functools.cache
def arrays(case, draw):
    """x, weight, bias and gradient, the same for every precision and order of threads."""
    return case.draw(draw, np.random.default_rng(case.terms))


class Layer(Numbers):
    def __init__(self, runtime, precision, version, case, draw):
        super().__init__(runtime, precision, version, draw)
        x, weight, self.bias, grad = arrays(case, draw)
        operands = (self.operand(array) for array in (x, weight, grad))
        (self.x, self.weight, self.grad), self.exact = zip(*operands, strict=True)
        self.case = case
        self.options = {**case.geometry, "precision": precision}

    def forward(self, out, argmax=None, *, bias, epilogue):
        bias = to_device(self.runtime, bias)
        conv2d.forward(
            *(self.runtime, self.x, self.weight, bias, out, argmax),
            **{**self.options, "epilogue": epilogue},
        )

    @functools.cached_property
    def gradients(self):
        return oracle.conv2d_gradients(*self.exact, **self.case.geometry)

    def map(self, bias):
        x, weight, _ = self.exact
        return oracle.conv2d(x, weight, bias, **self.case.geometry)


# -- forward --------------------------------------------------------------------------------------


@every_case
@both_numbers
@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_forward(runtime, precision, version, case, draw, epilogue):
    layer = Layer(runtime, precision, version, case, draw)
    bias = layer.bias if epilogue == "relu" else None
    out = layer.output(*case.out_shape)
    layer.forward(out, bias=bias, epilogue=epilogue)
    expected = layer.map(bias)
    layer.check(out, relu(expected) if epilogue == "relu" else expected, case.terms)


@poolable
@both_numbers
def test_forward_relu_pool(runtime, precision, version, case, draw):
    layer = Layer(runtime, precision, version, case, draw)
    out, without = layer.output(*case.pooled_shape), layer.output(*case.pooled_shape)
    argmax = poisoned(runtime, *case.pooled_shape, dtype=np.uint8)
    layer.forward(out, argmax, bias=layer.bias, epilogue="relu_pool")
    layer.forward(without, bias=layer.bias, epilogue="relu_pool")
    expected, first = oracle.max_pool(relu(layer.map(layer.bias)), 2, 2)
    layer.check(out, expected, case.terms)
    out, argmax, without = (runtime.copy_out(one) for one in (out, argmax, without))
    np.testing.assert_array_equal(out, without)
    assert argmax.max() < 4
    if draw is small_integers:  # others may be equal up to rounding
        np.testing.assert_array_equal(argmax[expected > 0], first[expected > 0])


@pytest.mark.parametrize("precision", TENSOR_CORES)
@pytest.mark.parametrize("epilogue", ["none", "relu", "relu_pool"])
def test_forward_keeps_nan(emulated, precision, epilogue):
    case = Case(2, 8, 10, 8, 8, padding=1)
    layer = Layer(emulated, precision, 2, case, normal)
    layer.x[1, 4, 5, 0] = 0x7FFF if layer.narrow else np.nan
    out = layer.output(*(case.pooled_shape if epilogue == "relu_pool" else case.out_shape))
    layer.forward(out, bias=layer.bias, epilogue=epilogue)
    touched = np.zeros(case.out_shape, bool)
    touched[1, 3:6, 4:7] = True
    if epilogue == "relu_pool":
        touched = touched[:, ::2, ::2] | touched[:, 1::2, ::2] | touched[:, ::2, 1::2]
    nan = (out & 0x7FFF) > 0x7F80 if layer.narrow else np.isnan(out)
    np.testing.assert_array_equal(nan, touched)


# -- backward -------------------------------------------------------------------------------------


@every_case
@both_numbers
def test_input_gradient(runtime, precision, version, case, draw):
    layer = Layer(runtime, precision, version, case, draw)
    grad_x = layer.output(*layer.x.shape)
    conv2d.input_gradient(runtime, layer.grad, layer.weight, grad_x, **layer.options)
    layer.check(grad_x, layer.gradients[0], case.o * case.kernel[0] * case.kernel[1])


@every_case
@both_numbers
@pytest.mark.parametrize("accumulate", [False, True])
def test_weight_gradient(runtime, precision, version, case, draw, accumulate):
    layer = Layer(runtime, precision, version, case, draw)
    before = draw(layer.random, *layer.weight.shape), draw(layer.random, case.o)
    if accumulate:
        grad_weight, grad_bias = (to_device(runtime, array) for array in before)
    else:
        grad_weight, grad_bias = (poisoned(runtime, *array.shape) for array in before)
    operands = layer.x, layer.grad, grad_weight, grad_bias
    conv2d.weight_gradient(runtime, *operands, accumulate=accumulate, **layer.options)
    terms, add = layer.grad.size // case.o, int(accumulate)
    layer.check(grad_weight, layer.gradients[1] + add * before[0], terms)
    layer.check_sums(grad_bias, layer.gradients[2] + add * before[1], terms)
    alone = to_device(runtime, before[1]) if accumulate else poisoned(runtime, case.o)
    operands = None, layer.grad, None, alone
    conv2d.weight_gradient(runtime, *operands, accumulate=accumulate, **layer.options)
    layer.check_sums(alone, layer.gradients[2] + add * before[1], terms)


@pytest.mark.parametrize("epilogue", ["relu", "relu_pool"])
def test_epilogue_gradient_in_bf16(runtime, epilogue):
    shape, pooled = (2, 5, 7, 3), (2, 2, 3, 3)
    layer = Numbers(runtime, "bf16", 1, small_integers)
    after = pooled if epilogue == "relu_pool" else shape
    (grad, exact_grad), (out, exact_out) = layer.drawn(*after), layer.drawn(*after)
    argmax, before = layer.random.integers(0, 4, pooled).astype(np.uint8), layer.output(*shape)
    conv2d.epilogue_gradient(
        *(runtime, grad, out, to_device(runtime, argmax), before),
        epilogue=epilogue,
        precision="bf16",
    )
    expected = np.where(exact_out > 0, exact_grad, 0)
    if epilogue == "relu_pool":
        expected = oracle.max_pool_gradient(expected, argmax, shape, 2, 2)
    layer.check(before, expected, 1)


# -- choices --------------------------------------------------------------------------------------


def launched_in(precision, case, pins=None):
    """The kernels of one pass forward and back."""
    layer = Layer(EmulatedRuntime(), precision, 1, case, small_integers)
    layer.runtime.pins, names = pins or {}, []
    layer.runtime.on_launch = lambda kernel, grid: names.append(kernel.name)
    layer.forward(layer.output(*case.out_shape), bias=None, epilogue="none")
    grad_x, grad_weight = layer.output(*layer.x.shape), poisoned(layer.runtime, *layer.weight.shape)
    conv2d.input_gradient(layer.runtime, layer.grad, layer.weight, grad_x, **layer.options)
    conv2d.weight_gradient(layer.runtime, layer.x, layer.grad, grad_weight, None, **layer.options)
    return {name.removeprefix("conv2d_") for name in names}


@pytest.mark.parametrize(
    ("precision", "channels", "suffix"),
    [
        ("bf16", 16, "_bf16_mma_64x64"),
        ("bf16", 12, "_bf16"),
        ("bf16", 1, "_bf16"),
        ("tf32", 12, "_tf32_mma_64x64"),
        ("tf32", 1, ""),
        ("bf16x3", 12, "_bf16x3_mma_64x64"),
        ("bf16x3", 1, ""),
    ],
)
def test_channels_decide(precision, channels, suffix):
    launched = launched_in(precision, Case(1, 4, 4, channels, 8, padding=1))
    assert launched == {
        f"{what}{suffix}" for what in ("forward", "input_gradient", "weight_gradient")
    }


def test_a_pinned_version_says_why_it_refuses():
    with pytest.raises(UnsuitableError, match="needs C and O to be multiples of 8, not 12 and 8"):
        launched_in("bf16", Case(1, 4, 4, 12, 8), pins={"conv2d_forward": 2})


def test_buffers_that_begin_anywhere_are_not_for_tensor_cores(emulated):
    case, launched = Case(1, 4, 4, 8, 8, padding=1), []
    layer = Layer(emulated, "tf32", 2, case, small_integers)
    emulated.pins, memory = {}, emulated.empty((layer.x.size + 1,), np.float32)
    moved = emulated.view(memory, 4, layer.x.shape, np.float32)
    emulated.copy_in(moved, layer.x)
    layer.x = moved
    emulated.on_launch = lambda kernel, grid: launched.append(kernel.name)
    out = layer.output(*case.out_shape)
    layer.forward(out, bias=None, epilogue="none")
    layer.check(out, layer.map(None), case.terms)
    assert launched == ["conv2d_forward"]


# -- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", TENSOR_CORES)
def test_all_orders_of_threads_give_the_same_bits(precision):
    case, results = WHOLE_CHUNKS[-1], []
    for order in ORDERS:
        layer = Layer(EmulatedRuntime(order), precision, 2, case, normal)
        out, grad_x = layer.output(*case.out_shape), layer.output(*layer.x.shape)
        gradients = [poisoned(layer.runtime, *one.shape) for one in (layer.weight, layer.bias)]
        layer.forward(out, bias=layer.bias, epilogue="relu")
        conv2d.input_gradient(layer.runtime, layer.grad, layer.weight, grad_x, **layer.options)
        conv2d.weight_gradient(layer.runtime, layer.x, layer.grad, *gradients, **layer.options)
        results.append([one.tobytes() for one in (out, grad_x, *gradients)])
    assert results[0] == results[1] == results[2]


def test_no_images_have_no_gradient(emulated):
    x, grad = emulated.empty((0, 5, 5, 8), np.float32), emulated.empty((0, 5, 5, 8), np.float32)
    weight = poisoned(emulated, 8, 3, 3, 8)
    conv2d.weight_gradient(
        *(emulated, x, grad, weight, None), stride=1, padding=1, precision="tf32"
    )
    assert not weight.any()


# -- planted mistakes -----------------------------------------------------------------------------

BUGS = {  # text of conv2d_mma.cu or of a header, the mistake, and what is seen
    "digits carry once": (
        "while (third >= thirds)",
        "if (third >= thirds)",
        "",
        "map|x.* is outside",
    ),
    "digits never start again": (
        "second = 0;\n                ++first",
        "++first",
        "",
        "map|outside",
    ),
    "pixels of no image": ("place_if(n < s.n,", "place_if(true,", "", "x.* is outside"),
    "windows misread": ("return row / 8 % 4;", "return row % 4;", "tile_epilogue.cuh", "pooled"),
    "slices overlap": ("min(k0 + slice, s.pixels())", "s.pixels()", "", "grad_weight"),
    "a column's neighbour": (
        *("Lines::first(lane % 4,", "Lines::first(lane / 4 % 4,"),
        *("fragments.cuh", "'grad_x', 'grad_weight'"),
    ),
    "gradients overwritten": (
        "accumulate ? out[at] +",
        "false ? out[at] +",
        "tile_epilogue.cuh",
        "sum",
    ),
    "bias of another slice": ("+ blockIdx.y * s.o)", ")", "", "'grad_bias'"),
    "a term for another": (
        *("* run + i % run;", "* run + i % run / 2;"),
        *("tile_row_sums.cuh", "'grad_bias'"),
    ),
    "lanes left out": (
        *("step < 32; step *= 2", "step < 16; step *= 2"),
        *("tile_row_sums.cuh", "'grad_bias'"),
    ),
    "a bias overwritten": (
        *("accumulate ? out[row] +", "false ? out[row] +"),
        *("tile_row_sums.cuh", "bias's sum"),
    ),
    "bias of a neighbour": ("? bias[column]", "? bias[column ^ 1]", "tile_epilogue.cuh", "'map'"),
}


def what_is_wrong(runtime, precision="tf32"):
    """A kernel's message, or the names of wrong results."""
    case, wrong = WHOLE_CHUNKS[-1], []
    layer = Layer(runtime, precision, 2, case, normal)
    mapped, pooled = layer.output(*case.out_shape), layer.output(*case.pooled_shape)
    grad_x, grad_weight = layer.output(*layer.x.shape), poisoned(runtime, *layer.weight.shape)
    grad_bias = poisoned(runtime, *layer.bias.shape)
    one = Layer(runtime, precision, 2, WHOLE_CHUNKS[1], normal)  # of one slice
    before = [normal(one.random, *array.shape) for array in (one.weight, one.bias)]
    totals = [to_device(runtime, array) for array in before]
    expected = layer.map(layer.bias)
    try:
        layer.forward(mapped, bias=layer.bias, epilogue="none")
        layer.forward(pooled, bias=layer.bias, epilogue="relu_pool")
        conv2d.input_gradient(runtime, layer.grad, layer.weight, grad_x, **layer.options)
        operands = layer.x, layer.grad, grad_weight, grad_bias
        conv2d.weight_gradient(runtime, *operands, **layer.options)
        conv2d.weight_gradient(runtime, one.x, one.grad, *totals, accumulate=True, **one.options)
    except KernelError as error:
        return str(error)
    for name, buffer, wanted in (
        ("map", mapped, expected),
        ("pooled", pooled, oracle.max_pool(relu(expected), 2, 2)[0]),
        ("grad_x", grad_x, layer.gradients[0]),
        ("grad_weight", grad_weight, layer.gradients[1]),
        ("grad_bias", grad_bias, layer.gradients[2]),
        ("sum", totals[0], one.gradients[1] + before[0]),
        ("bias's sum", totals[1], one.gradients[2] + before[1]),
    ):
        try:
            layer.check(buffer, wanted, 1)
        except AssertionError:
            wrong.append(name)
    return str(wrong)


@pytest.mark.parametrize("name", BUGS)
def test_mistake_is_seen(tmp_path, name):
    text, mistake, file, seen = BUGS[name]
    for runtime in with_mistake(tmp_path, conv2d.MMA, text, mistake, file, only=r"\w+_tf32_mma"):
        assert re.search(seen, what_is_wrong(runtime))


def test_forgotten_rests_are_seen(tmp_path):
    change = "for (u32 i = 0; i < 3; ++i)", "for (u32 i = 2; i < 3; ++i)", "fragments.cuh"
    for runtime in with_mistake(tmp_path, conv2d.MMA, *change, only=r"\w+_bf16x3_mma"):
        assert what_is_wrong(runtime, "bf16x3").count(",") == 4, "all five are wrong"


@pytest.mark.parametrize("precision", TENSOR_CORES)
def test_without_a_mistake_nothing_is_seen(emulated, precision):
    assert what_is_wrong(emulated, precision) == "[]"
