"""MaxPool: gradients against finite differences, and nothing computed or kept in vain."""

import numpy as np
import pytest

from fercore.autograd import Tensor
from fercore.functions import MaxPool
from tests.functions.checks import check_function, check_subsets, trace

#        shape   window stride
TINY = [
    ((1, 4, 4, 1), 2, 2),
    ((2, 5, 3, 2), 2, 2),  # odd sizes: the last row and column are dropped
    ((1, 5, 5, 1), 3, 2),  # overlapping windows
    ((1, 3, 4, 2), 2, 1),
    ((1, 5, 5, 1), 2, 3),  # gaps between windows
    ((1, 3, 3, 2), 3, 1),  # one window
]
LARGER = [((2, 15, 12, 7), 2, 2), ((1, 17, 13, 5), 3, 2), ((2, 9, 9, 3), 4, 1)]
CASES = [(case, 0) for case in TINY] + [(case, 3) for case in LARGER]


def making(window, stride):
    return lambda _backend: MaxPool(window=window, stride=stride)


@pytest.mark.parametrize(("case", "directions"), CASES, ids=str)
def test_gradients(random, case, directions):
    shape, window, stride = case
    check_function(
        making(window, stride), lambda: (random.standard_normal(shape),), directions=directions
    )


def test_every_backend_computes_what_is_wanted(backend, random):
    check_subsets(backend, making(3, 2), (random.standard_normal((2, 11, 8, 5)),))


def test_keeps_only_the_places_of_the_largest(random):
    seen = trace(making(2, 2), (random.standard_normal((2, 7, 6, 3)),), (True,))
    assert list(seen.calls()) == ["max_pool_backward"]
    assert not seen.kept_inputs
    assert not seen.output_kept
    assert seen.kept == [((2, 3, 3, 3), "uint8")]


def test_a_pool_without_a_wanted_input_leaves_no_trace(random):
    seen = trace(making(2, 2), (random.standard_normal((2, 7, 6, 3)),), (False,))
    assert [call.method for call in seen.forward] == ["max_pool_forward"]
    assert "argmax" not in seen.forward[0].given
    assert not seen.kept_inputs
    assert not seen.kept
    assert not seen.backward


def test_a_map_smaller_than_the_window(backend):
    x = Tensor(backend, backend.from_host(np.zeros((1, 2, 5, 1))))
    with pytest.raises(ValueError, match="3x3 pool does not fit a 2x5 map"):
        MaxPool(window=3)(x)
