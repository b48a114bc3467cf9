"""BatchNorm: gradients through moving and constant statistics, and nothing kept in vain."""

import numpy as np
import pytest

from fercore.autograd import Tensor
from fercore.functions import BatchNorm
from tests.functions.checks import check_function, check_subsets, subsets, trace

MOVING = {"all": lambda c: np.ones(c), "none": None, "some": lambda c: np.arange(c) % 2}


def drawing(random, shape):
    channels = shape[-1:]
    return lambda: (
        2 * random.standard_normal(shape) + 1,
        random.standard_normal(channels),
        random.standard_normal(channels),
    )


def making(channels, moving, epilogue="none"):
    """Fresh running statistics each time: the forward pass moves them."""
    choose = MOVING[moving]

    def make(backend):
        running_mean = np.linspace(-1, 1, channels)
        running_variance = np.linspace(0.5, 2, channels)
        return BatchNorm(
            Tensor(backend, backend.from_host(running_mean)),
            Tensor(backend, backend.from_host(running_variance)),
            None if choose is None else backend.from_host(choose(channels).astype(np.uint8)),
            epilogue=epilogue,
        )

    return make


@pytest.mark.parametrize("epilogue", ["none", "relu"])
@pytest.mark.parametrize("moving", MOVING)
@pytest.mark.parametrize(
    ("shape", "directions"),
    [((2, 2, 1, 3), 0), ((3, 2), 0), ((4, 7, 5, 6), 3), ((9, 11), 3)],
)
def test_gradients(random, shape, directions, moving, epilogue):
    check_function(
        making(shape[-1], moving, epilogue), drawing(random, shape), directions=directions
    )


@pytest.mark.parametrize("moving", MOVING)
def test_every_backend_computes_what_is_wanted(backend, random, moving):
    check_subsets(backend, making(6, moving, "relu"), drawing(random, (3, 5, 4, 6))())


@pytest.mark.parametrize("wanted", subsets(3))
@pytest.mark.parametrize("epilogue", ["none", "relu"])
@pytest.mark.parametrize("moving", MOVING)
def test_computes_and_keeps_only_what_is_wanted(random, moving, epilogue, wanted):
    shape = (2, 3, 4, 5)
    seen = trace(making(5, moving, epilogue), drawing(random, shape)(), wanted)
    want_x, want_weight, want_bias = wanted
    reads_x = want_weight or (want_x and moving != "none")

    assert list(seen.calls()) == ["epilogue_gradient"] * (epilogue != "none") + [
        "batch_norm_backward"
    ]
    named = {"x", "grad_x", "grad_weight", "grad_bias"} & seen.backward[-1].given
    needed = {"x": reads_x, "grad_x": want_x, "grad_weight": want_weight, "grad_bias": want_bias}
    assert named == {name for name, need in needed.items() if need}

    # The scale and two vectors of statistics are always kept; maps only where they are read.
    assert seen.kept_inputs == ({0, 1} if reads_x else {1})
    assert [kept for kept in seen.kept if kept[0] == shape] == [(shape, "float64")] * (
        epilogue != "none"
    )
    assert seen.output_kept == (epilogue != "none")


def test_without_a_wanted_input_leaves_no_trace(random):
    seen = trace(making(5, "none"), drawing(random, (2, 3, 4, 5))(), (False, False, False))
    assert [call.method for call in seen.forward] == ["batch_norm_forward"]
    assert not seen.kept_inputs
    assert not seen.kept
    assert not seen.backward


def test_statistics_move_where_they_may(backend, random):
    x, weight, bias = (
        Tensor(backend, backend.from_host(array)) for array in drawing(random, (8, 3, 3, 4))()
    )
    normalise = making(4, "some")(backend)
    before = [backend.to_host(statistic.data) for statistic in normalise.running]
    normalise(x, weight, bias)
    after = [backend.to_host(statistic.data) for statistic in normalise.running]
    for old, new in zip(before, after, strict=True):
        assert (old != new).tolist() == [False, True, False, True]
    assert [statistic.version.number for statistic in normalise.running] == [1, 1]
