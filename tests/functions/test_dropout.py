"""Dropout: the same mask forward and backward, and nothing kept for it."""

import numpy as np
import pytest

from fercore.autograd import Tensor
from fercore.functions import Dropout
from tests.functions.checks import check_function, gradients, trace


def making(rate=0.5, number=1, counters=(3, 0, 2, 7)):
    def make(backend):
        rng = backend.from_host(np.array(counters, dtype=np.uint32))
        return Dropout(rng, rate=rate, number=number)

    return make


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("shape", "directions"), [((2, 3), 0), ((1, 1), 0), ((13, 37), 3)])
def test_gradients(random, shape, directions, rate):
    check_function(making(rate), lambda: (random.standard_normal(shape),), directions=directions)


def test_backward_drops_what_forward_dropped(backend, random):
    ones = np.ones((9, 31))
    x = Tensor(backend, backend.from_host(ones))
    output = backend.to_host(making(0.5)(backend)(x).data)
    (gradient,) = gradients(backend, making(0.5), (random.standard_normal((9, 31)),), (True,), ones)
    np.testing.assert_array_equal(output, gradient, strict=True)
    assert set(np.unique(output)) == {0, 2}


def test_layers_and_steps_draw_different_masks(backend):
    x = Tensor(backend, backend.from_host(np.ones((4, 50))))
    masks = {
        backend.to_host(make(backend)(x).data).tobytes()
        for make in (
            making(),
            making(number=2),
            making(counters=(3, 0, 2, 8)),
            making(counters=(3, 1, 2, 7)),
            making(counters=(4, 0, 2, 7)),
        )
    }
    assert len(masks) == 5


def test_keeps_nothing(random):
    seen = trace(making(), (random.standard_normal((4, 6)),), (True,))
    assert list(seen.calls()) == ["dropout"]
    assert not seen.kept_inputs
    assert not seen.kept
    assert not seen.output_kept
