"""Linear: gradients against finite differences, and nothing computed or kept in vain."""

import numpy as np
import pytest

from fercore.autograd import Tensor
from fercore.functions import Drop, Linear
from tests.functions.checks import check_function, check_subsets, subsets, trace


def drawing(random, n, inputs, outputs, bias=True):
    shapes = [(n, inputs), (outputs, inputs), (outputs,)][: 3 if bias else 2]
    return lambda: tuple(random.standard_normal(shape) for shape in shapes)


def making(epilogue):
    return lambda _backend: Linear(epilogue=epilogue)


@pytest.mark.parametrize("epilogue", ["none", "relu"])
@pytest.mark.parametrize(
    ("shape", "directions"),
    [((1, 1, 1), 0), ((3, 4, 2), 0), ((2, 1, 3), 0), ((7, 61, 13), 3), ((1, 33, 101), 3)],
)
def test_gradients(random, shape, directions, epilogue):
    check_function(making(epilogue), drawing(random, *shape), directions=directions)


def test_gradients_without_a_bias(random):
    check_function(
        lambda _backend: lambda x, weight: Linear(epilogue="relu")(x, weight, None),
        drawing(random, 3, 4, 2, bias=False),
    )


@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_every_backend_computes_what_is_wanted(backend, random, epilogue):
    check_subsets(backend, making(epilogue), drawing(random, 5, 17, 9)(), alone=(2, 1))


def dropping(backend):
    rng = backend.from_host(np.array([1, 2, 3, 4], np.uint32))
    return Linear(epilogue="relu", drop=Drop(rng, 0.3, 1))


def test_gradients_with_dropout(random):
    check_function(dropping, drawing(random, 7, 6, 13), directions=3)


def test_every_backend_drops_what_is_wanted(backend, random):
    check_subsets(backend, dropping, drawing(random, 5, 17, 9)(), alone=(2, 1))


def test_dropout_follows_relu_alone(reference):
    with pytest.raises(ValueError, match="dropout follows relu, not none"):
        Linear(drop=Drop(reference.from_host(np.zeros(4, np.uint32)), 0.5, 1))


@pytest.mark.parametrize("wanted", subsets(3))
@pytest.mark.parametrize("epilogue", ["none", "relu"])
def test_computes_and_keeps_only_what_is_wanted(random, epilogue, wanted):
    seen = trace(making(epilogue), drawing(random, 4, 6, 5)(), wanted)
    want_x, want_weight, want_bias = wanted

    expected = ["epilogue_gradient"] * (epilogue != "none")
    expected += ["linear_input_gradient"] * want_x
    expected += ["linear_weight_gradient"] * (want_weight or want_bias)
    assert list(seen.calls()) == expected
    for call in seen.backward:
        if call.method == "linear_weight_gradient":
            named = {"x", "grad_weight", "grad_bias"} & call.given
            needed = {"x": want_weight, "grad_weight": want_weight, "grad_bias": want_bias}
            assert named == {name for name, need in needed.items() if need}

    assert seen.kept_inputs == {i for i, need in ((0, want_weight), (1, want_x)) if need}
    assert seen.kept == [((4, 5), "float64")] * (epilogue != "none")
    assert seen.output_kept == (epilogue != "none")


def test_a_layer_without_a_wanted_input_leaves_no_trace(random):
    seen = trace(making("relu"), drawing(random, 4, 6, 5)(), (False, False, False))
    assert [call.method for call in seen.forward] == ["linear_forward"]
    assert not seen.kept_inputs
    assert not seen.kept
    assert not seen.backward


def test_shapes_that_do_not_fit(backend):
    x, weight = (Tensor(backend, backend.from_host(np.zeros((2, size)))) for size in (3, 4))
    with pytest.raises(ValueError, match="input has 3 features, the weight takes 4"):
        Linear()(x, weight, None)
