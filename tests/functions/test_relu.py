"""Relu: gradients against finite differences, and nothing computed or kept in vain."""

import numpy as np

from fercore.autograd import Tensor
from fercore.functions import Relu
from tests.functions.checks import check_function, check_subsets, trace


def make(_backend):
    return Relu()


def test_values(backend):
    x = Tensor(backend, backend.from_host(np.array([[-2.0, 0.0, 3.0]])))
    assert backend.to_host(Relu()(x).data).tolist() == [[0, 0, 3]]


def test_gradients(random):
    check_function(make, lambda: (random.standard_normal((3, 4)),))


def test_every_backend_computes_what_is_wanted(backend, random):
    check_subsets(backend, make, (random.standard_normal((2, 5, 3)),))


def test_keeps_only_its_output(random):
    seen = trace(make, (random.standard_normal((2, 5)),), (True,))
    assert list(seen.calls()) == ["epilogue_gradient"]
    assert not seen.kept_inputs
    assert seen.output_kept


def test_a_relu_without_a_wanted_input_leaves_no_trace(random):
    seen = trace(make, (random.standard_normal((2, 5)),), (False,))
    assert not seen.kept_inputs
    assert not seen.output_kept
    assert not seen.backward
