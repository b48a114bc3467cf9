"""Operations, bytes and floors of calls, against arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fercore import costs
from fercore.backends.accesses import operands
from fercore.costs import GPUS, NARROW, Limits


def f32(*shape):
    return np.broadcast_to(np.zeros((), np.float32), shape)


def u8(*shape):
    return np.broadcast_to(np.zeros((), np.uint8), shape)


CONV = {"stride": 2, "padding": 1}


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "flops", "terms"),
    [
        # 4x4 outputs of 5 channels from 3x3 patches of 2 channels, for 6 images.
        (
            "conv2d_forward",
            (f32(6, 7, 7, 2), f32(5, 3, 3, 2), None, f32(6, 4, 4, 5)),
            CONV,
            2 * 6 * 16 * 5 * 18,
            18,
        ),
        (
            "conv2d_input_gradient",
            (f32(6, 4, 4, 5), f32(5, 3, 3, 2), f32(6, 7, 7, 2)),
            CONV,
            2 * 6 * 16 * 5 * 18,
            45,
        ),
        (
            "conv2d_weight_gradient",
            (f32(6, 7, 7, 2), f32(6, 4, 4, 5), f32(5, 3, 3, 2), None),
            CONV,
            2 * 6 * 16 * 5 * 18,
            96,
        ),
        ("linear_forward", (f32(6, 8), f32(3, 8), f32(3), f32(6, 3)), {}, 2 * 6 * 8 * 3, 8),
        ("linear_input_gradient", (f32(6, 3), f32(3, 8), f32(6, 8)), {}, 2 * 6 * 8 * 3, 3),
        ("linear_weight_gradient", (f32(6, 8), f32(6, 3), f32(3, 8), None), {}, 288, 6),
        # A bias alone has no product.
        ("linear_weight_gradient", (None, f32(6, 3), None, f32(3)), {}, 0, 1),
        ("accumulate", (f32(6), f32(6)), {}, 0, 1),
    ],
)
def test_products(method, args, kwargs, flops, terms):
    given = operands(method, args, kwargs)
    assert costs.product(method, given) == (flops, terms)


def test_bytes_are_each_buffer_once_and_those_in_place_twice():
    args = (f32(10), f32(10), f32(10), u8(10), np.zeros(4))
    given = operands("sgd_update", args, {"momentum": 0.9})
    # parameter and velocity twice, gradient and mask once, four rates
    assert costs.traffic(given) == 4 * (20 + 10 + 20) + 10 + 32
    assert costs.traffic(given, NARROW) == costs.traffic(given), "the optimizer's state is float32"


def test_bytes_of_activations_and_weights_in_bf16():
    args = (f32(6, 8), f32(3, 8), f32(3), f32(6, 3))
    given = operands("linear_forward", args, {})
    assert costs.traffic(given) == 4 * (48 + 24 + 3 + 18)
    assert costs.traffic(given, NARROW) == 2 * (48 + 24 + 18) + 4 * 3


def test_a_buffer_that_is_given_twice_moves_once():
    x = f32(100)
    given = operands("epilogue_gradient", (x, x, None, f32(100)), {"epilogue": "relu"})
    assert costs.traffic(given) == 800


def test_of_a_data_set_only_the_batch_is_read():
    labels, indices = np.zeros(1000, np.int32), np.zeros(3, np.int32)
    rng = np.zeros(4, np.uint32)
    args = (u8(1000, 48, 48), labels, indices, rng, f32(3, 48, 48, 1), np.zeros(3, np.int32))
    given = operands("augment", args, {})
    assert costs.traffic(given) == 3 * (48 * 48 * (1 + 4) + 4 + 4 + 4) + 16


def test_lists_of_buffers():
    rates = np.zeros(4)
    args = ([f32(5), f32(6)], [None, u8(6)], rates)
    given = operands("clip_gradients", args, {"max_norm": 1.0})
    assert costs.traffic(given) == 4 * 11 + 6 + 32


# -- limits ---------------------------------------------------------------------------------------

LIMITS = Limits("a machine", "made up", copy=100.0, products={"fp32": 10.0, "bf16": 40.0})


@pytest.mark.parametrize(
    ("flops", "moved", "precision", "seconds"),
    [
        (1000, 100, "fp32", 100.0),
        (1000, 100, "bf16", 25.0),
        (10, 1000, "fp32", 10.0),
        (0, 0, "fp32", 0.0),
        (1000, 100, "tf32", 1.0),  # a rate that is not known bounds nothing
    ],
)
def test_the_floor_is_what_takes_longer(flops, moved, precision, seconds):
    assert LIMITS.floor(flops, moved, precision) == seconds


def test_limits_say_where_they_come_from():
    assert str(GPUS["h200"]) == (
        "h200: 50 TFLOP/s fp32, 410 TFLOP/s tf32, 790 TFLOP/s bf16, 263.3 TFLOP/s bf16x3, "
        "4.3 TB/s (reached by cuBLAS and a copy)"
    )


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla T4", "t4"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_gpus_are_known_by_their_drivers_names(name, known):
    found = costs.known_gpu(name)
    assert (found and found.name) == known
