"""Flatten: a view in NHWC order, forward and backward, that calls nothing."""

import numpy as np

from fercore.autograd import Tensor
from fercore.functions import Flatten
from tests.functions.checks import check_function, check_subsets, trace


def make(_backend):
    return Flatten()


def test_gradients(random):
    check_function(make, lambda: (random.standard_normal((2, 3, 1, 2)),))


def test_every_backend_computes_what_is_wanted(backend, random):
    check_subsets(backend, make, (random.standard_normal((2, 3, 5, 4)),))


def test_is_a_view_in_nhwc_order(backend, random):
    array = random.standard_normal((2, 3, 5, 4)).astype(np.float32)
    x = Tensor(backend, backend.from_host(array))
    flat = Flatten()(x)
    np.testing.assert_array_equal(backend.to_host(flat.data), array.reshape(2, 60))
    x.overwrite(array + 1)
    np.testing.assert_array_equal(backend.to_host(flat.data), (array + 1).reshape(2, 60))


def test_calls_and_allocates_nothing(random):
    seen = trace(make, (random.standard_normal((2, 3, 5, 4)),), (True,))
    assert not seen.forward
    assert not seen.backward
    assert not seen.kept
