"""Winograd's convolutions of the cpu backend against loops in float64, and how they are chosen."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from fercore import backends, models
from fercore.autograd import Tensor, backward
from fercore.errors import FercoreError
from fercore.functions import SoftmaxCrossEntropy
from tests.backends import oracle
from tests.backends.harness import Out, call, normal, relative_error, relu, same_bits

pytest.importorskip("_fercore_cpu", reason="the compiled module is not installed")

GATE = 2e-5  # relative to float64, on unrounded inputs

SIZES = [(1, 1), (2, 3), (3, 3), (4, 4), (5, 7), (6, 6), (7, 1), (9, 13), (12, 12), (23, 22)]
CHANNELS = [(1, 3), (3, 8), (8, 17), (17, 1), (17, 64), (64, 64), (1, 64)]
GEOMETRIES = [
    (n, *size, *channels, padding)
    for n, size, channels, padding in itertools.product((1, 3), SIZES, CHANNELS, (0, 1, 2))
    if min(size) + 2 * padding >= 3
]
LAYERS = [
    (2, 48, 48, 64, 64, 1),
    (1, 6, 6, 512, 24, 1),  # 512 channels a sum
    (7, 6, 6, 24, 300, 1),  # several blocks of outputs
    (9, 12, 12, 300, 40, 1),  # several blocks of inputs
]
every_geometry = pytest.mark.parametrize(
    "geometry", GEOMETRIES + LAYERS, ids=lambda g: "-".join(map(str, g))
)


@pytest.fixture(scope="module")
def winograd():
    return backends.get("cpu", convolution="winograd")


def draw(geometry, random):
    """x, weight, bias and the gradient of the map before the epilogue."""
    n, h, w, c, o, padding = geometry
    p, q = h + 2 * padding - 2, w + 2 * padding - 2
    return (
        normal(random, n, h, w, c),
        normal(random, o, 3, 3, c),
        normal(random, o),
        normal(random, n, p, q, o),
    )


def halved(shape):
    n, p, q, o = shape
    return n, p // 2, q // 2, o


@every_geometry
def test_forward(winograd, random, geometry):
    x, weight, bias, grad = draw(geometry, random)
    padding = geometry[-1]
    before = oracle.conv2d(x, weight, bias, stride=1, padding=padding)
    for epilogue, after in (("none", before), ("relu", relu(before))):
        out = call(
            *(winograd, "conv2d_forward", x, weight, bias, Out(*grad.shape)),
            padding=padding,
            epilogue=epilogue,
        )
        assert relative_error(out, after) <= GATE
    if min(grad.shape[1:3]) < 2:
        return
    shape = halved(grad.shape)
    outputs = Out(*shape), Out(*shape, dtype=np.uint8)
    out, argmax = call(
        *(winograd, "conv2d_forward", x, weight, bias, *outputs),
        padding=padding,
        epilogue="relu_pool",
    )
    assert relative_error(out, oracle.max_pool(relu(before), 2, 2)[0]) <= GATE
    # Equal up to rounding may be resolved either way: what argmax points at must be as large.
    n, p, q, o = np.indices(shape, sparse=True)
    chosen = relu(before)[n, 2 * p + argmax // 2, 2 * q + argmax % 2, o]
    assert relative_error(out[out > 0], chosen[out > 0]) <= GATE


@every_geometry
def test_gradients(winograd, random, geometry):
    x, weight, bias, grad = draw(geometry, random)
    padding = geometry[-1]
    expected = oracle.conv2d_gradients(x, weight, grad, stride=1, padding=padding)
    grad_x = call(winograd, "conv2d_input_gradient", grad, weight, Out(*x.shape), padding=padding)
    outputs = Out(*weight.shape), Out(*bias.shape)
    others = call(winograd, "conv2d_weight_gradient", x, grad, *outputs, padding=padding)
    for actual, wanted in zip((grad_x, *others), expected, strict=True):
        assert relative_error(actual, wanted) <= GATE


def test_weight_gradient_without_bias(winograd, random):
    x, weight, bias, grad = draw((3, 9, 13, 17, 24, 1), random)
    method, out = "conv2d_weight_gradient", Out(*weight.shape)
    both, _ = call(winograd, method, x, grad, out, Out(*bias.shape), padding=1)
    alone = call(winograd, method, x, grad, out, None, padding=1)
    assert same_bits(both, alone)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("epilogue", ["none", "relu", "relu_pool"])
@pytest.mark.parametrize(("side", "at"), [(11, (0, 0)), (11, (4, 5)), (6, (5, 5))])
def test_what_is_not_finite_is_not_lost(winograd, random, bad, epilogue, side, at):
    x, weight, bias, grad = draw((2, side, side, 5, 8, 1), random)
    x[1, *at, 2] = grad[1, *at, 3] = bad
    shape = halved(grad.shape) if epilogue == "relu_pool" else grad.shape
    out = call(
        *(winograd, "conv2d_forward", x, weight, bias, Out(*shape)), padding=1, epilogue=epilogue
    )
    with np.errstate(invalid="ignore"):
        expected = oracle.conv2d(x, weight, bias, stride=1, padding=1)
        if epilogue != "none":
            expected = relu(expected)
        if epilogue == "relu_pool":
            expected, _ = oracle.max_pool(expected, 2, 2)
        gradients = oracle.conv2d_gradients(x, weight, grad, stride=1, padding=1)
    assert not np.isfinite(out[~np.isfinite(expected)]).any()
    assert np.isfinite(out[0]).all()
    grad_x = call(winograd, "conv2d_input_gradient", grad, weight, Out(*x.shape), padding=1)
    outputs = Out(*weight.shape), Out(*bias.shape)
    others = call(winograd, "conv2d_weight_gradient", x, grad, *outputs, padding=1)
    for actual, wanted in zip((grad_x, *others), gradients, strict=True):
        assert not np.isfinite(actual[~np.isfinite(wanted)]).any()


# -- which algorithm ----------------------------------------------------------------------------


def forward(convolution, x, weight, padding=0, stride=1):
    backend = backends.get("cpu", convolution=convolution)
    p, q = (oracle.out_size(size, weight.shape[1], stride, padding) for size in x.shape[1:3])
    shape = (len(x), p, q, len(weight))
    return call(
        *(backend, "conv2d_forward", x, weight, None, Out(*shape)), padding=padding, stride=stride
    )


def test_auto_is_one_of_the_two(random):
    x, weight = normal(random, 2, 24, 24, 64), normal(random, 64, 3, 3, 64)
    automatic, direct, winograd = (
        forward(convolution, x, weight, 1) for convolution in ("auto", "direct", "winograd")
    )
    assert not same_bits(direct, winograd)
    assert same_bits(automatic, winograd)
    x, weight = normal(random, 2, 24, 24, 1), normal(random, 64, 3, 3, 1)
    assert same_bits(forward("auto", x, weight, 1), forward("direct", x, weight, 1))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 1), (5, 1)])
def test_other_kernels_and_strides_are_convolved_directly(random, kernel, stride):
    x, weight = normal(random, 2, 12, 12, 16), normal(random, 16, kernel, kernel, 16)
    direct, winograd = (forward(way, x, weight, 1, stride) for way in ("direct", "winograd"))
    assert same_bits(direct, winograd)


def test_an_unknown_way_to_convolve_is_refused():
    with pytest.raises(FercoreError, match="must be auto, direct or winograd, not 'fft'"):
        backends.get("cpu", convolution="fft")


@pytest.mark.parametrize("instructions", ["portable", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set(instructions):
    environment = os.environ | {"FERCORE_INSTRUCTIONS": instructions}
    loaded = subprocess.run(
        [sys.executable, "-c", "import _fercore_cpu"], env=environment, capture_output=True
    )
    if loaded.returncode != 0:
        pytest.skip(f"this build or this processor has no {instructions}")
    chosen = f"{__file__}::test_forward", f"{__file__}::test_gradients"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    names = ["3-5-7-8-17-1", "1-6-6-17-64-2", "9-12-12-300-40-1", "1-48-48-64-64-1"]
    done = subprocess.run(
        [*command, "-k", " or ".join(names)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


# -- whole nets ---------------------------------------------------------------------------------


def gradients_of(backend, model_name, images, labels):
    model = models.build(model_name, backend=backend)
    statistics = backend.empty((4,), "float64")
    backend.fill(statistics, 0.0)
    x = Tensor(backend, backend.from_host(images))
    y = Tensor(backend, backend.from_host(labels))
    gradients = backward(SoftmaxCrossEntropy(statistics)(model(x), y))
    return {
        name: backend.to_host(gradients[parameter])
        for name, parameter in model.parameters().items()
    }


def test_gradients_of_a_whole_net(winograd, random):
    reference = backends.get("reference")

    def worst() -> float:
        images, labels = normal(random, 4, 48, 48, 1), np.array([0, 3, 6, 2], np.int32)
        expected = gradients_of(reference, "tiny", images, labels)
        actual = gradients_of(winograd, "tiny", images, labels)
        return max(relative_error(actual[name], wanted) for name, wanted in expected.items())

    # A draw may put an entry so near a kink that rounding, by any algorithm, takes its gradient
    # another way: an error of 1e-3 or so. Three such draws in a row would be no accident.
    assert any(worst() <= 1e-5 for _ in range(3))
