"""Tiles of the tensor cores' kernels: the same bits in each, and the one that takes least time."""

import dataclasses
import functools

import numpy as np
import pytest

from cuda_kernels import conv2d, linear, specs, tensor_cores
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.tiles import LARGE, TILES, Tile
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
    grad_bias = poisoned(runtime, case.o)
    conv2d.weight_gradient(runtime, layer.x, layer.grad, grad_weight, grad_bias, **layer.options)
    results = out, pooled, argmax, grad_x, grad_weight, grad_bias
    return [runtime.copy_out(one).tobytes() for one in results]


def of_product(runtime, precision, version, shape):
    n, i, o = shape
    layer = Numbers(runtime, precision, version, normal, np.random.default_rng(i))
    (x, _), (weight, _), (grad, _) = layer.drawn(n, i), layer.drawn(o, i), layer.drawn(n, o)
    bias = to_device(runtime, normal(layer.random, o))
    out, grad_x = layer.output(n, o), layer.output(n, i)
    grad_weight, grad_bias = poisoned(runtime, o, i), poisoned(runtime, o)
    linear.forward(runtime, x, weight, bias, out, relu=True, precision=precision)
    linear.input_gradient(runtime, grad, weight, grad_x, precision=precision)
    linear.weight_gradient(runtime, x, grad, grad_weight, grad_bias, precision=precision)
    results = out, grad_x, grad_weight, grad_bias
    return [runtime.copy_out(one).tobytes() for one in results]


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


def test_slices_do_not_depend_on_the_tile():
    """What one tile has room for is what all take, here 72 tiles of 128x128 in 7 slices."""
    conv = convolution(256, 6, 256, 512)
    grids = {kernel.tile: kernel.grid(conv) for kernel in tiled("conv2d_weight_gradient")}
    assert grids[LARGE] == (4 * 18, 7, 1)
    assert {grid[1] for grid in grids.values()} == {7}
    assert grids[TILES[-1]][0] == 8 * 36


def test_slices_counted_in_other_tiles_would_change_bits(monkeypatch):
    """The promise above is one that can be broken."""
    case = Case(1, 24, 24, 64, 136, (2, 2))
    monkeypatch.setattr(conv2d, "BLOCKS", 16)  # so that a small problem has few slices
    same = [of_convolution(EmulatedRuntime(), "tf32", v, case)[4] for v in (2, VERSIONS[-1])]
    assert same[0] == same[1]
    small = next(k for k in tiled("conv2d_weight_gradient", "tf32") if k.tile == TILES[-1])
    by_own = functools.partial(conv2d.Tiles.weight_gradient, conv2d.Tiles(64, 64, edge=64))
    other = dataclasses.replace(small, grid=by_own)
    monkeypatch.setattr(specs, "_versions", lambda operation: (other,))
    layer = Layer(EmulatedRuntime(), "tf32", VERSIONS[-1], case, normal)
    grad_weight = poisoned(layer.runtime, *layer.weight.shape)
    conv2d.weight_gradient(layer.runtime, layer.x, layer.grad, grad_weight, None, **layer.options)
    assert grad_weight.tobytes() != same[0]


# -- choices --------------------------------------------------------------------------------------


def convolution(n, side, c, o):
    """Of svgg10: 3x3, padded."""
    return conv2d.Convolution(n, side, side, c, o, 3, 3, stride=1, padding=1, bytes=0)


def tiled(operation, precision="bf16"):
    every = (kernel for kernel in specs.kernels() if kernel.operation == operation)
    return [kernel for kernel in every if kernel.tile and kernel.precision == precision]


def chosen(operation, problem, precision="bf16", **device):
    """The tile; on an H200 without a word."""
    kernel = specs.choose(operation, problem, precision=precision, **({"arch": 90} | device))
    return str(kernel.tile)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [256, 1024])
@pytest.mark.parametrize("arch", [80, 90])
def test_64_channels_get_a_tile_of_64(precision, batch, arch):
    conv = convolution(batch, 48, 64, 64)
    given = {"precision": precision, "arch": arch}
    assert chosen("conv2d_forward_pool", conv, **given) == "128x64"
    assert chosen("conv2d_input_gradient", conv, **given) == "128x64"
    assert chosen("conv2d_weight_gradient", conv, **given) == "64x128"


@pytest.mark.parametrize(
    "operation", ["forward", "forward_pool", "input_gradient", "weight_gradient"]
)
def test_large_layers_get_the_large_tile(operation):
    for conv in (convolution(1024, 24, 128, 128), convolution(1024, 6, 512, 512)):
        assert chosen(f"conv2d_{operation}", conv) == "128x128"


def test_few_blocks_are_made_more():
    """In tiles of 128x128 fc1 would be 32 blocks for 132 multiprocessors."""
    fc1 = linear.Product(256, 4608, 2048, bytes=0)
    assert chosen("linear_forward", fc1) == "64x64"
    assert chosen("linear_forward", dataclasses.replace(fc1, n=4096)) == "128x128"


def test_fuller_waves_win_where_a_product_costs_the_same():
    """Block 4 at batch 256 on an A40, whose tensor cores keep every tile waiting: of 84
    multiprocessors the fullest has 4 tiles of 128x128, where 3.43 would be fair, or 14 of 64x64,
    where 13.7 would. With 72, there are 4 of 128x128 for each."""
    conv = convolution(256, 6, 512, 512)
    costs = {tensor_cores.step_cycles(t, "bf16", 86) / t.rows / t.columns for t in TILES}
    assert len(costs) == 1
    assert chosen("conv2d_forward", conv, arch=86) == "64x64"
    assert chosen("conv2d_forward", conv, arch=86, multiprocessors=72) == "128x128"


def test_smaller_tiles_cost_more_a_product_where_memory_is_what_waits():
    """So block 4 at batch 256 stays in tiles of 128x128 on an H200: 1.09 waves of them take less
    than 1.45 of 128x64."""
    cost = {t: tensor_cores.step_cycles(t, "bf16", 90) / t.rows / t.columns for t in TILES}
    assert cost[TILES[-1]] > 1.2 * cost[TILES[1]] > 1.2 * cost[LARGE]
    assert chosen("conv2d_forward", convolution(256, 6, 512, 512)) == "128x128"


def test_a_pinned_tile_is_taken():
    conv = convolution(256, 48, 64, 64)
    for version, tile in zip(VERSIONS, TILES, strict=True):
        assert chosen("conv2d_forward", conv, pins={"conv2d_forward": version}) == str(tile)


def test_time_of_a_wave_is_that_of_its_fullest_multiprocessor():
    kernel = tiled("linear_forward")[0]  # of 128x128, two at once

    def cycles(blocks, multiprocessors=132):
        problem = linear.Product(128 * blocks, 3200, 128, bytes=0)
        return kernel.cycles(problem, 90, multiprocessors)

    one, step = cycles(1), tensor_cores.step_cycles(LARGE, "bf16", 90)
    assert one == pytest.approx(100 * (step + tensor_cores.WAIT) + tensor_cores.START)
    assert cycles(132) == one
    assert cycles(133) == cycles(264) == pytest.approx(2 * 100 * step)
    assert cycles(265) == cycles(264) + one
    assert cycles(265, 265) == one


@pytest.mark.parametrize(
    ("tile", "arch", "blocks"),
    [
        (LARGE, 80, 2),  # 3 would fit the 164 KB, not the registers
        (Tile(128, 64, blocks=3), 90, 3),
        (Tile(128, 64, blocks=3), 86, 2),  # of 49 KB each in 100 KB
        (Tile(64, 64, blocks=4), 80, 4),
        (Tile(64, 64, blocks=4), 89, 3),  # of 33 KB
        (Tile(64, 64, blocks=4), 103, 4),  # newer than what is known: as sm_100
    ],
)
def test_blocks_at_once(tile, arch, blocks):
    assert tile.at_once(arch) == blocks
