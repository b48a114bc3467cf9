"""Conv2d: gradients against finite differences, and nothing computed or kept in vain."""

import numpy as np
import pytest

from fercore.autograd import Tensor
from fercore.functions import Conv2d
from tests.functions.checks import check_function, check_subsets, subsets, trace

EPILOGUES = ["none", "relu", "relu_pool"]

#    N  H  W  C  O KH KW stride padding
TINY = [
    (1, 3, 3, 1, 1, 3, 3, 1, 1),
    (2, 4, 3, 2, 2, 2, 2, 1, 0),  # even kernel, VALID
    (1, 5, 4, 1, 2, 1, 3, 2, 1),
    (1, 5, 6, 2, 1, 3, 2, 3, 2),  # rows and columns that no window reaches
    (1, 4, 4, 1, 2, 4, 4, 1, 0),  # one output
]
LARGER = [
    (2, 11, 9, 5, 7, 3, 3, 1, 1),
    (3, 12, 12, 3, 6, 2, 2, 1, 0),
    (2, 13, 10, 4, 5, 5, 5, 2, 2),
    (1, 9, 14, 6, 3, 4, 3, 1, 1),
]


def drawing(random, case, bias=True):
    n, h, w, c, o, kh, kw, _, _ = case
    shapes = [(n, h, w, c), (o, kh, kw, c), (o,)][: 3 if bias else 2]
    return lambda: tuple(random.standard_normal(shape) for shape in shapes)


def making(case, epilogue, bias=True):
    def make(_backend):
        conv = Conv2d(stride=case[-2], padding=case[-1], epilogue=epilogue)
        return conv if bias else lambda x, weight: conv(x, weight, None)

    return make


def pools(case):
    _, h, w, _, _, kh, kw, stride, padding = case
    return min((h + 2 * padding - kh) // stride, (w + 2 * padding - kw) // stride) + 1 >= 2


CASES = [
    (case, epilogue, directions)
    for cases, directions in ((TINY, 0), (LARGER, 3))
    for case in cases
    for epilogue in EPILOGUES
    if epilogue != "relu_pool" or pools(case)
]


@pytest.mark.parametrize(("case", "epilogue", "directions"), CASES, ids=str)
def test_gradients(random, case, epilogue, directions):
    check_function(making(case, epilogue), drawing(random, case), directions=directions)


def test_gradients_without_a_bias(random):
    case = TINY[1]
    check_function(making(case, "relu", bias=False), drawing(random, case, bias=False))


@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_every_backend_computes_what_is_wanted(backend, random, epilogue):
    case = LARGER[0]
    check_subsets(backend, making(case, epilogue), drawing(random, case)(), alone=(2, 1))


@pytest.mark.parametrize("wanted", subsets(3))
@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_computes_and_keeps_only_what_is_wanted(random, epilogue, wanted):
    case = (2, 6, 6, 3, 4, 3, 3, 1, 1)
    seen = trace(making(case, epilogue), drawing(random, case)(), wanted)
    want_x, want_weight, want_bias = wanted

    expected = ["epilogue_gradient"] * (epilogue != "none")
    expected += ["conv2d_input_gradient"] * want_x
    expected += ["conv2d_weight_gradient"] * (want_weight or want_bias)
    assert list(seen.calls()) == expected
    for call in seen.backward:
        if call.method == "conv2d_weight_gradient":
            named = {"x", "grad_weight", "grad_bias"} & call.given
            needed = {"x": want_weight, "grad_weight": want_weight, "grad_bias": want_bias}
            assert named == {name for name, need in needed.items() if need}

    assert seen.kept_inputs == {i for i, need in ((0, want_weight), (1, want_x)) if need}
    out_shape = (2, 3, 3, 4) if epilogue == "relu_pool" else (2, 6, 6, 4)
    kept = [(out_shape, "float64")] * (epilogue != "none")
    kept += [(out_shape, "uint8")] * (epilogue == "relu_pool")
    assert seen.kept == kept
    assert seen.output_kept == (epilogue != "none")


def test_a_convolution_without_a_wanted_input_leaves_no_trace(random):
    case = (2, 6, 6, 3, 4, 3, 3, 1, 1)
    seen = trace(making(case, "relu_pool"), drawing(random, case)(), (False, False, False))
    assert [call.method for call in seen.forward] == ["conv2d_forward"]
    assert "argmax" not in seen.forward[0].given
    assert not seen.kept_inputs
    assert not seen.kept
    assert not seen.backward


@pytest.mark.parametrize(
    ("x", "weight", "message"),
    [
        ((1, 4, 4, 3), (2, 3, 3, 2), "input has 3 channels, the weight takes 2"),
        ((1, 2, 4, 1), (2, 3, 3, 1), "3x3 kernel does not fit a 2x4 input with padding 0"),
        ((1, 4, 2, 1), (2, 3, 3, 1), "3x3 kernel does not fit a 4x2 input with padding 0"),
    ],
)
def test_shapes_that_do_not_fit(backend, x, weight, message):
    tensors = (Tensor(backend, backend.from_host(np.zeros(shape))) for shape in (x, weight))
    with pytest.raises(ValueError, match=message):
        Conv2d()(*tensors, None)


def test_a_map_too_small_to_pool(backend):
    x, weight = (Tensor(backend, backend.from_host(np.zeros((1, 3, 3, 1)))) for _ in range(2))
    with pytest.raises(ValueError, match="2x2 pool does not fit a 1x1 map"):
        Conv2d(epilogue="relu_pool")(x, weight, None)
