"""Tiles of the tensor cores' kernels: the same bits in each, and the one that takes least time."""


import numpy as np
import pytest

from cuda_kernels import conv2d, linear
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.tiles import TILES
from tests.backends.harness import normal
from tests.backends.test_conv2d import Case
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.precisions import Numbers
from tests.cuda_kernels.test_conv2d_precisions import Layer

VERSIONS = range(2, 2 + len(TILES))
PRECISIONS = ("bf16", "tf32", "bf16x3")

CONVOLUTIONS = {
    "beyond every tile": Case(2, 9, 9, 16, 136, (2, 2), padding=1),
    "three slices": Case(2, 19, 18, 8, 72, padding=1),
    "stride": Case(1, 11, 9, 40, 8, (5, 3), stride=2, padding=2),
}
PRODUCTS = [(5, 136, 24), (130, 264, 136)]


def of_convolution(runtime, precision, version, case):
    """The bytes of everything that its kernels compute."""
    layer = Layer(runtime, precision, version, case, normal)
    out, pooled = layer.output(*case.out_shape), layer.output(*case.pooled_shape)
    argmax = poisoned(runtime, *case.pooled_shape, dtype=np.uint8)
    grad_x, grad_weight = layer.output(*layer.x.shape), poisoned(runtime, *layer.weight.shape)
    layer.forward(out, bias=layer.bias, epilogue="relu")
    layer.forward(pooled, argmax, bias=layer.bias, epilogue="relu_pool")
    conv2d.input_gradient(runtime, layer.grad, layer.weight, grad_x, **layer.options)
    conv2d.weight_gradient(runtime, layer.x, layer.grad, grad_weight, None, **layer.options)
    results = out, pooled, argmax, grad_x, grad_weight
    return [runtime.copy_out(one).tobytes() for one in results]


def of_product(runtime, precision, version, shape):
    n, i, o = shape
    layer = Numbers(runtime, precision, version, normal, np.random.default_rng(i))
    (x, _), (weight, _), (grad, _) = layer.drawn(n, i), layer.drawn(o, i), layer.drawn(n, o)
    bias = to_device(runtime, normal(layer.random, o))
    out, grad_x, grad_weight = layer.output(n, o), layer.output(n, i), poisoned(runtime, o, i)
    linear.forward(runtime, x, weight, bias, out, relu=True, precision=precision)
    linear.input_gradient(runtime, grad, weight, grad_x, precision=precision)
    linear.weight_gradient(runtime, x, grad, grad_weight, None, precision=precision)
    return [runtime.copy_out(one).tobytes() for one in (out, grad_x, grad_weight)]


def launched(runtime):
    names = []
    runtime.on_launch = lambda kernel, grid: names.append(kernel.name)
    return names


# -- bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_have_the_same_bits_in_every_tile(precision, name):
    case = CONVOLUTIONS[name]
    expected = of_convolution(EmulatedRuntime(), precision, 2, case)
    for version, tile in zip(VERSIONS[1:], TILES[1:], strict=True):
        names = launched(runtime := EmulatedRuntime())
        assert of_convolution(runtime, precision, version, case) == expected, tile
        assert sum(one.endswith(f"_mma_{tile}") for one in names) == 4


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", PRODUCTS)
def test_products_have_the_same_bits_in_every_tile(precision, shape):
    expected = of_product(EmulatedRuntime(), precision, 2, shape)
    for version, tile in zip(VERSIONS[1:], TILES[1:], strict=True):
        names = launched(runtime := EmulatedRuntime())
        assert of_product(runtime, precision, version, shape) == expected, tile
        assert sum(one.endswith(f"_mma_{tile}") for one in names) == 3


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_all_orders_of_threads_give_the_same_bits(version):
    case = CONVOLUTIONS["three slices"]
    results = [of_convolution(EmulatedRuntime(order), "bf16", version, case) for order in ORDERS]
    assert results[0] == results[1] == results[2]
    results = [
        of_product(EmulatedRuntime(order), "tf32", version, (70, 72, 80)) for order in ORDERS
    ]
    assert results[0] == results[1] == results[2]
