"""Batch normalisation: channels that move, channels that rest, both at once, one to many slices."""

import numpy as np
import pytest

from cuda_kernels import batch_norm
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.runtime import KernelError
from cuda_kernels.specs import UnsuitableError
from tests.backends import oracle
from tests.backends.harness import normal, relative_error, same_bits, small_integers
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import with_mistake
from tests.cuda_kernels.precisions import (
    PRECISIONS,
    gate_of,
    numbers_in,
    rounded,
    stored,
    to_store,
)

GATE = 2e-6
SHAPES = [(2, 3), (1, 5, 7, 4), (37, 33), (3, 10, 10, 17)]  # the last in five slices
MOVING = ["none", "all", "mixed", "zeros"]
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_moving = pytest.mark.parametrize("moving", MOVING)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def mask(moving, channels):
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


def forward(runtime, inputs, moves, momentum=0.1, epsilon=1e-5, epilogue="none", precision="fp32"):
    """out, mean, 1/std and the running statistics after."""
    shape, channels = inputs[0].shape, inputs[0].shape[-1]
    x = stored(runtime, inputs[0], precision)
    weight, bias, *running = (to_device(runtime, array) for array in inputs[1:])
    outs = (
        to_store(runtime, *shape, precision=precision),
        *(poisoned(runtime, channels) for _ in range(2)),
    )
    batch_norm.forward(
        *(runtime, x, weight, bias, *running, to_device(runtime, moves), *outs),
        momentum=momentum,
        epsilon=epsilon,
        epilogue=epilogue,
        precision=precision,
    )
    return [numbers_in(runtime, buffer) for buffer in (*outs, *running)]


def check_forward(runtime, inputs, moves, epilogue="none", precision="fp32"):
    inputs = rounded(inputs[0], precision), *inputs[1:]
    actual = forward(runtime, inputs, moves, 0.2, 1e-3, epilogue, precision)
    expected = list(oracle.batch_norm(*inputs, moves, 0.2, 1e-3))
    if epilogue == "relu":
        expected[0] = np.maximum(expected[0], 0)
    assert relative_error(actual[0], expected[0]) <= gate_of(expected[0], precision, GATE)
    for one, wanted in zip(actual[1:], expected[1:], strict=True):
        assert relative_error(one, wanted) <= GATE


def backward_inputs(random, shape, moves, precision="fp32"):
    """x, gradient, weight, and the statistics in use as float32."""
    x, *others = draw(random, shape)
    inputs = rounded(x, precision), *others
    _, mean, inverse_std, *_ = oracle.batch_norm(*inputs, moves, 0.1, 1e-5)
    statistics = mean.astype(np.float32), inverse_std.astype(np.float32)
    return inputs[0], rounded(normal(random, *shape), precision), inputs[1], *statistics


def backward(runtime, inputs, moves, wanted=(True, True, True), precision="fp32"):
    shape, channels = inputs[1].shape, inputs[1].shape[-1]
    every = (
        to_store(runtime, *shape, precision=precision),
        *(poisoned(runtime, channels) for _ in range(2)),
    )
    outs = [out if asked else None for out, asked in zip(every, wanted, strict=True)]
    buffers = (
        *(stored(runtime, array, precision) for array in inputs[:2]),
        *(to_device(runtime, array) for array in (*inputs[2:], moves)),
    )
    batch_norm.backward(runtime, *buffers, *outs, precision=precision)
    return [None if out is None else numbers_in(runtime, out) for out in outs]


def check_backward(runtime, inputs, moves, precision="fp32"):
    x, grad, weight, mean, inverse_std = inputs
    expected = oracle.batch_norm_gradients(x, grad, weight, moves, mean, inverse_std)
    # What the moving statistics take away may leave little (of two rows, nearly nothing), so the
    # error is measured against what they took it from.
    sizes = [np.linalg.norm(weight * inverse_std * grad), *map(np.linalg.norm, expected[1:])]
    gates = [gate_of(expected[0], precision, 2 * GATE), 2 * GATE, 2 * GATE]
    actual = backward(runtime, inputs, moves, precision=precision)
    for one, wanted, gate, size in zip(actual, expected, gates, sizes, strict=True):
        assert np.linalg.norm(one - wanted) <= gate * size  # false for NaN


@every_shape
@every_moving
@pytest.mark.parametrize("epilogue", ["none", "relu"])
@every_precision
def test_forward(runtime, random, shape, moving, epilogue, precision):
    check_forward(runtime, draw(random, shape), mask(moving, shape[-1]), epilogue, precision)


@every_precision
def test_sums_of_integers_are_exact(runtime, random, precision):
    """Rows are a power of 2, so the mean and the gradients' sums are exact in float32."""
    x, grad = small_integers(random, 256, 5), small_integers(random, 256, 5)
    ones, zeros = np.ones(5, np.float32), np.zeros(5, np.float32)
    moves, inputs = np.ones(5, np.uint8), (x, ones, zeros, zeros, ones)
    _, mean, *_ = forward(runtime, inputs, moves, precision=precision)
    np.testing.assert_array_equal(mean, x.mean(0, dtype=np.float64).astype(np.float32))
    inputs = (x, grad, ones, zeros, ones)
    _, grad_weight, grad_bias = backward(runtime, inputs, None, precision=precision)
    np.testing.assert_array_equal(grad_weight, (x * grad).sum(0))
    np.testing.assert_array_equal(grad_bias, grad.sum(0))


@every_moving
def test_statistics_of_channels_that_rest_stay_bit_for_bit(runtime, random, moving):
    inputs, moves = draw(random, (5, 4, 9)), mask(moving, 9)
    inputs[3][1], inputs[4][1] = -0.0, np.float32(1e-40)  # a denormal that may not be flushed
    *_, running_mean, running_variance = forward(runtime, inputs, moves)
    rest = np.ones(9, bool) if moves is None else moves == 0
    assert same_bits(running_mean[rest], inputs[3][rest])
    assert same_bits(running_variance[rest], inputs[4][rest])
    assert (running_mean != inputs[3])[~rest].all()


def test_a_single_row_moves_by_its_biased_variance(runtime, random):
    """One row has no unbiased variance; 0 / 0 must not reach the running statistics."""
    check_forward(runtime, draw(random, (1, 6)), np.ones(6, np.uint8))


def check_large_mean(runtime, random):
    x, weight, bias, *running = draw(random, (300, 3))
    inputs = x / 3 + np.float32(1000), weight, bias, *running
    *_, inverse_std, _, running_variance = forward(runtime, inputs, np.ones(3, np.uint8))
    expected = oracle.batch_norm(*inputs, np.ones(3), 0.1, 1e-5)
    assert relative_error(inverse_std, expected[2]) <= GATE
    assert relative_error(running_variance, expected[4]) <= GATE


def test_a_large_mean_does_not_cancel_the_variance(runtime, random):
    check_large_mean(runtime, random)


@every_precision
def test_keeps_nan(runtime, random, precision):
    inputs = draw(random, (3, 4, 4, 3))
    inputs[0][1, 2, 3, 1] = np.nan
    for moves, count in ((None, 1), (np.ones(3, np.uint8), 48)):
        for epilogue in ("none", "relu"):
            out, *_ = forward(runtime, inputs, moves, epilogue=epilogue, precision=precision)
            assert np.isnan(out).sum() == np.isnan(out[..., 1]).sum() == count


@every_shape
@every_moving
@every_precision
def test_backward(runtime, random, shape, moving, precision):
    moves = mask(moving, shape[-1])
    check_backward(runtime, backward_inputs(random, shape, moves, precision), moves, precision)


@every_moving
def test_backward_gives_only_what_is_asked(runtime, random, moving):
    moves = mask(moving, 6)
    inputs = backward_inputs(random, (3, 4, 5, 6), moves)
    together = backward(runtime, inputs, moves)
    for wanted in np.eye(3, dtype=bool):
        alone = backward(runtime, inputs, moves, wanted)
        (i,) = np.flatnonzero(wanted)
        assert same_bits(alone[i], together[i])


def test_backward_launches_only_what_is_asked(runtime, random):
    inputs = backward_inputs(random, (4, 3), None)
    launched = []
    runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    backward(runtime, inputs, np.ones(3, np.uint8), (False, False, False))
    assert launched == []
    backward(runtime, inputs, None, (True, False, False))
    assert launched == ["batch_norm_input_gradient"]


@pytest.mark.parametrize("moving", ["none", "zeros"])
def test_backward_needs_no_x_where_nothing_moves(runtime, random, moving):
    moves, wanted = mask(moving, 6), (True, False, True)
    x, *rest = backward_inputs(random, (3, 4, 5, 6), moves)
    with_x = backward(runtime, (x, *rest), moves, wanted)
    without = backward(runtime, (None, *rest), moves, wanted)
    assert same_bits(with_x[0], without[0])
    assert same_bits(with_x[2], without[2])


@every_precision
def test_all_orders_of_threads_give_the_same_bits(random, precision):
    inputs, moves = draw(random, (300, 5)), np.ones(5, np.uint8)
    runtimes = map(EmulatedRuntime, ORDERS)
    results = {
        tuple(array.tobytes() for array in forward(one, inputs, moves, precision=precision))
        for one in runtimes
    }
    assert len(results) == 1


def test_a_recorded_call_can_be_replayed(runtime, random):
    """Its scratch is there since the first call."""
    inputs = draw(random, (70, 5))
    buffers = [to_device(runtime, array) for array in (*inputs, np.ones(5, np.uint8))]
    outs = poisoned(runtime, 70, 5), poisoned(runtime, 5), poisoned(runtime, 5)
    options = {"momentum": 0.1, "epsilon": 1e-5, "epilogue": "none"}
    batch_norm.forward(runtime, *buffers, *outs, **options)
    first = runtime.copy_out(outs[0])
    with runtime.capture() as graph:
        batch_norm.forward(runtime, *buffers, *outs, **options)
    runtime.copy_in(outs[0], np.full((70, 5), np.nan, np.float32))
    graph.replay()
    assert same_bits(runtime.copy_out(outs[0]), first)


def test_what_does_not_fit_is_refused(runtime, random):
    inputs = draw(random, (2, 16385))
    with pytest.raises(UnsuitableError, match="sums of 16384 channels, not 16385"):
        forward(runtime, inputs, None)
    with pytest.raises(ValueError, match=r"batch_norm: \(2, 3\), \(2, 3\) and \(4,\) do not fit"):
        forward(runtime, (inputs[0][:, :3], *(array[:4] for array in inputs[1:])), None)


MISTAKES = {
    "no barrier before the lanes are added": ("__syncthreads();", ""),
    "squares in float32": ("const double value =", "const float value ="),
    "the variance is biased": ("variance * count / (count - 1.0)", "variance"),
    "a slice is left out": ("slice < slices; slice +=", "slice + 1 < slices; slice +="),
    "the variance is a constant": (
        "fmaf(normal, shares[c + channel], shares[channel])",
        "shares[channel]",
    ),
}


def check_everything(runtime, random):
    moves = np.array([1, 0, 1], np.uint8)
    check_forward(runtime, draw(random, (70, 3)), moves)
    check_large_mean(runtime, random)
    check_backward(runtime, backward_inputs(random, (70, 3), moves), moves)


def test_without_the_mistakes_nothing_is_seen(emulated, random):
    check_everything(emulated, random)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_seen(random, tmp_path, name):
    for runtime in with_mistake(tmp_path, batch_norm.SOURCE, *MISTAKES[name]):
        with pytest.raises((AssertionError, KernelError)):
            check_everything(runtime, random)
