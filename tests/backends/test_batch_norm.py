"""Batch normalisation: channels that move, channels that do not, and both at once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends import oracle
from tests.backends.harness import (
    InPlace,
    Out,
    assert_close,
    call,
    gate,
    normal,
    relative_error,
    same_bits,
)
from tests.gradient_check import check_gradients

SHAPES = [(2, 3), (1, 5, 7, 4), (6, 4, 4, 17), (37, 33), (3, 24, 24, 8)]
MOVING = ["none", "all", "mixed", "zeros"]
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_moving = pytest.mark.parametrize("moving", MOVING)


def mask(moving: str, channels: int) -> np.ndarray | None:
    return {
        "none": None,
        "zeros": np.zeros(channels, np.uint8),
        "all": np.ones(channels, np.uint8),
        "mixed": (np.arange(channels) % 3 != 1).astype(np.uint8),
    }[moving]


def draw(random, shape):
    """x, weight, bias and running statistics, none of them near 0 or 1."""
    channels = shape[-1]
    x = 3 * normal(random, *shape) + 2 * normal(random, channels)
    variance = random.uniform(0.5, 4, channels).astype(np.float32)
    return x, normal(random, channels), normal(random, channels), normal(random, channels), variance


def forward(backend, x, weight, bias, mean, variance, moving, **options):
    """out, running mean and variance, and the mean and 1/std in use."""
    channels = x.shape[-1]
    running_mean, running_variance, *rest = call(
        backend,
        "batch_norm_forward",
        x,
        weight,
        bias,
        InPlace(mean),
        InPlace(variance),
        moving,
        Out(*x.shape),
        Out(channels),
        Out(channels),
        **options,
    )
    return rest[0], running_mean, running_variance, *rest[1:]


@every_shape
@every_moving
@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_forward(backend, random, shape, moving, epilogue):
    inputs, moves = draw(random, shape), mask(moving, shape[-1])
    out, running_mean, running_variance, mean, inverse_std = forward(
        backend, *inputs, moves, momentum=0.2, epsilon=1e-3, epilogue=epilogue
    )
    expected = oracle.batch_norm(*inputs, moves, 0.2, 1e-3)
    expected_out = np.maximum(expected[0], 0) if epilogue == "relu" else expected[0]
    assert_close(backend, out, expected_out)
    assert_close(backend, mean, expected[1])
    assert_close(backend, inverse_std, expected[2])
    assert_close(backend, running_mean, expected[3])
    assert_close(backend, running_variance, expected[4])


@every_moving
def test_statistics_of_channels_that_do_not_move_stay_bit_for_bit(backend, random, moving):
    x, weight, bias, mean, variance = draw(random, (5, 4, 4, 9))
    mean[1], variance[1] = -0.0, np.float32(1e-40)  # a denormal that arithmetic might flush
    moves = mask(moving, 9)
    _, running_mean, running_variance, _, _ = forward(
        backend, x, weight, bias, mean, variance, moves
    )
    stays = np.ones(9, bool) if moves is None else moves == 0
    assert same_bits(running_mean[stays], mean[stays].astype(backend.dtype))
    assert same_bits(running_variance[stays], variance[stays].astype(backend.dtype))
    assert (running_mean != mean)[~stays].all()
    assert (running_variance != variance)[~stays].all()


def test_defaults(backend, random):
    inputs, moves = draw(random, (4, 5, 3)), np.ones(3, np.uint8)
    expected = oracle.batch_norm(*inputs, moves, 0.1, 1e-5)
    out, running_mean, running_variance, *_ = forward(backend, *inputs, moves)
    assert_close(backend, out, expected[0])
    assert_close(backend, running_mean, expected[3])
    assert_close(backend, running_variance, expected[4])


def test_a_single_row_moves_by_its_biased_variance(backend, random):
    """One row has no unbiased variance; 0 / 0 must not reach the running statistics."""
    inputs, moves = draw(random, (1, 6)), np.ones(6, np.uint8)
    out, running_mean, running_variance, *_ = forward(backend, *inputs, moves)
    assert_close(backend, out, np.broadcast_to(inputs[2], (1, 6)))
    assert_close(
        backend, running_mean, 0.9 * inputs[3].astype(float) + 0.1 * inputs[0][0].astype(float)
    )
    assert_close(backend, running_variance, 0.9 * inputs[4].astype(float))


def test_a_large_mean_does_not_cancel_the_variance(backend, random):
    """E[x^2] - E[x]^2 in float32 would be off by several per cent here."""
    x, weight, bias, *running = draw(random, (16, 12, 12, 3))
    x = x / 3 + np.float32(1000)
    out, *_, inverse_std = forward(backend, x, weight, bias, *running, np.ones(3, np.uint8))
    expected = oracle.batch_norm(x, weight, bias, *running, np.ones(3), 0.1, 1e-5)
    rounding_of_the_mean = 50 * gate(backend)
    assert relative_error(out, expected[0]) <= rounding_of_the_mean
    assert relative_error(inverse_std, expected[2]) <= rounding_of_the_mean


def test_keeps_nan(backend, random):
    x, *rest = draw(random, (3, 4, 4, 3))
    x[1, 2, 3, 1] = np.nan
    for moves, count in ((None, 1), (np.ones(3, np.uint8), 48)):
        for epilogue in ("none", "relu"):
            out, *_ = forward(backend, x, *rest, moves, epilogue=epilogue)
            assert np.isnan(out).sum() == np.isnan(out[..., 1]).sum() == count


def gradients(backend, x, grad, weight, mean, inverse_std, moves, *wanted):
    return call(backend, "batch_norm_backward", x, grad, weight, mean, inverse_std, moves, *wanted)


def backward_inputs(backend, random, shape, moves):
    """x, weight, statistics in use (as the forward pass leaves them) and a gradient."""
    inputs = draw(random, shape)
    *_, mean, inverse_std = forward(backend, *inputs, moves)
    return inputs[0], normal(random, *shape), inputs[1], mean, inverse_std


@every_shape
@every_moving
def test_backward(backend, random, shape, moving):
    channels, moves = shape[-1], mask(moving, shape[-1])
    x, grad, weight, mean, inverse_std = backward_inputs(backend, random, shape, moves)
    actual = gradients(
        backend,
        x,
        grad,
        weight,
        mean,
        inverse_std,
        moves,
        Out(*shape),
        Out(channels),
        Out(channels),
    )
    expected = oracle.batch_norm_gradients(x, grad, weight, moves, mean, inverse_std)
    # What the moving statistics take away may leave little (of two rows, nearly nothing), so the
    # error is measured against what they took it from.
    sizes = [np.linalg.norm(weight * inverse_std * grad), *map(np.linalg.norm, expected[1:])]
    for one, wanted, size in zip(actual, expected, sizes, strict=True):
        assert np.linalg.norm(one - wanted) <= 2 * gate(backend) * size


@every_moving
def test_backward_gives_only_what_is_asked(backend, random, moving):
    shape, channels = (3, 4, 5, 6), 6
    moves = mask(moving, channels)
    inputs = backward_inputs(backend, random, shape, moves)
    outs = Out(*shape), Out(channels), Out(channels)
    together = gradients(backend, *inputs, moves, *outs)
    for wanted in range(3):
        asked = [out if i == wanted else None for i, out in enumerate(outs)]
        assert same_bits(gradients(backend, *inputs, moves, *asked), together[wanted])


@pytest.mark.parametrize("moving", ["none", "zeros"])
def test_backward_needs_no_x_where_nothing_moves(backend, random, moving):
    shape, channels = (3, 4, 5, 6), 6
    moves = mask(moving, channels)
    x, *rest = backward_inputs(backend, random, shape, moves)
    wanted = Out(*shape), None, Out(channels)
    with_x = gradients(backend, x, *rest, moves, *wanted)
    without = gradients(backend, None, *rest, moves, *wanted)
    assert all(same_bits(a, b) for a, b in zip(with_x, without, strict=True))


@every_moving
@pytest.mark.parametrize("epilogue", ["none", "relu"])
@pytest.mark.parametrize(("shape", "directions"), [((2, 2, 1, 4), 0), ((7, 5, 5, 6), 4)])
def test_finite_differences(reference, random, shape, directions, moving, epilogue):
    channels = shape[-1]
    moves = mask(moving, channels)
    _, _, _, *statistics = draw(random, shape)

    def run(x, weight, bias):
        out, mean, inverse_std = (reference.empty(s) for s in (shape, (channels,), (channels,)))
        running = [reference.from_host(array) for array in statistics]
        reference.batch_norm_forward(
            x, weight, bias, *running, moves, out, mean, inverse_std, epilogue=epilogue
        )
        return out, mean, inverse_std

    def backward(grad, x, weight, bias):
        out, mean, inverse_std = run(x, weight, bias)
        if epilogue == "relu":
            before = reference.empty(shape)
            reference.epilogue_gradient(grad, out, None, before, epilogue="relu")
            grad = before
        wanted = [reference.empty(array.shape) for array in (x, weight, bias)]
        reference.batch_norm_backward(x, grad, weight, mean, inverse_std, moves, *wanted)
        return wanted

    def new_inputs():
        # Spread out, so that no channel's variance is so small that it bends within a step.
        x = random.standard_normal(shape) + 3 * np.arange(shape[0]).reshape(
            -1, *[1] * (len(shape) - 1)
        )
        return x, random.standard_normal(channels), random.standard_normal(channels)

    check_gradients(lambda *inputs: run(*inputs)[0], backward, new_inputs, directions=directions)
