"""The emulated backend in bf16: every method against float64, and what it refuses."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from cuda_kernels.linear import from_bf16, to_bf16
from fercore import backends
from fercore.backends.interface import Backend
from fercore.errors import FercoreError
from tests.backends.harness import InPlace, Out, call, normal, relative_error, same_bits
from tests.backends.test_contract import CALLS
from tests.cuda_kernels.precisions import gate_of, rounded

ACTIVATIONS = {"x", "out", "grad", "grad_x", "grad_before", "grad_logits", "total", "term"}
"""Parameters that are activations or their gradients, in whatever method."""


@pytest.fixture(scope="module")
def device():
    try:
        return backends.get("emulated", precision="bf16")
    except FercoreError as error:
        pytest.skip(str(error))


def is_narrow(method, name):
    weight = name == "weight" and method.startswith(("conv2d", "linear"))
    return name in ACTIVATIONS or weight or (method, name) == ("gather", "table")


def arguments(method):
    """(is it bf16, argument) of a valid call."""
    names = list(inspect.signature(getattr(Backend, method)).parameters)[1:]
    return [
        (is_narrow(method, name), argument)
        for name, argument in zip(names, CALLS[method][0], strict=False)
    ]


def in_bf16(method):
    """The same call with bits where the backend computes in bf16."""

    def convert(argument):
        if isinstance(argument, Out):
            return Out(*argument.shape, dtype=np.uint16)
        if isinstance(argument, InPlace):
            return InPlace(to_bf16(argument.array))
        return to_bf16(argument)

    return [convert(argument) if narrow else argument for narrow, argument in arguments(method)]


def exact(method):
    """The same call with numbers that bf16 holds."""

    def convert(argument):
        if isinstance(argument, Out):
            return argument
        if isinstance(argument, InPlace):
            return InPlace(rounded(argument.array, "bf16"))
        return rounded(argument, "bf16")

    return [convert(argument) if narrow else argument for narrow, argument in arguments(method)]


@pytest.mark.parametrize("method", CALLS)
def test_every_method_is_that_of_the_reference(device, reference, method):
    options = CALLS[method][1]
    actual = call(device, method, *in_bf16(method), **options)
    expected = call(reference, method, *exact(method), **options)
    outputs = [n for n, argument in arguments(method) if isinstance(argument, Out | InPlace)]
    if len(outputs) == 1:
        actual, expected = [actual], [expected]
    for narrow, mine, definition in zip(outputs, actual, expected, strict=True):
        if narrow:
            assert mine.dtype == np.uint16
            error = relative_error(from_bf16(mine), definition)
            assert error <= gate_of(definition, "bf16", 0.0)
        elif mine.dtype.kind == "f":
            assert relative_error(mine, definition) <= 1e-5
        else:  # an argmax says nothing where the ReLU after it gave 0
            matters = expected[0] > 0 if method == "conv2d_forward" else ...
            assert same_bits(mine[matters], definition[matters])


REFUSED = [
    (method, index)
    for method in CALLS
    for index, (narrow, _) in enumerate(arguments(method))
    if narrow
    if (method, index) != ("linear_forward", 3)  # a float32 result is logits
    if method != "accumulate"  # which adds the gradients of parameters, too
    if method != "gather"  # which takes rows of any kind
]


@pytest.mark.parametrize(("method", "index"), REFUSED)
def test_a_float32_activation_is_refused(device, method, index):
    given = in_bf16(method)
    given[index] = CALLS[method][0][index]
    with pytest.raises(ValueError, match="must be uint16 of shape"):
        call(device, method, *given, **CALLS[method][1])


def test_gradients_of_parameters_add_up_in_float32(device, random):
    total, term = normal(random, 3, 5), normal(random, 3, 5)
    assert same_bits(call(device, "accumulate", InPlace(total), term), total + term)
    for one, other in ((total, to_bf16(term)), (to_bf16(total), term)):
        with pytest.raises(ValueError, match="term must be"):
            call(device, "accumulate", InPlace(one), other)


@pytest.mark.parametrize("method", ["sgd_update", "adam_update"])
def test_an_update_writes_the_copy(device, method, random):
    given, options = CALLS[method]
    before = random.integers(0, 2**16, (6, 5)).astype(np.uint16)
    parameter, *_, copy = call(device, method, *given, InPlace(before), **options)
    mask = given[-2] != 0
    moves = np.broadcast_to(mask.reshape(mask.shape + (1,) * (2 - mask.ndim)), (6, 5))
    assert moves.any()
    assert not moves.all()
    assert same_bits(copy, np.where(moves, to_bf16(parameter), before))


@pytest.mark.parametrize("method", ["sgd_update", "adam_update"])
@pytest.mark.parametrize("wrong", [Out(6, 5), Out(5, 6, dtype=np.uint16)])
def test_a_copy_that_does_not_fit_is_refused(device, method, wrong):
    given, options = CALLS[method]
    with pytest.raises(ValueError, match=r"copy must be uint16 of shape \(6, 5\)"):
        call(device, method, *given, wrong, **options)


def test_a_bf16_buffer_is_written_by_numbers_or_bits(device, random):
    array, buffer = normal(random, 4, 3), device.empty((4, 3), device.compute_dtype)
    bits = to_bf16(array)
    for content in (array, array.astype(np.float64), bits):
        device.write(buffer, content)
        assert same_bits(device.to_host(buffer), bits)
    assert same_bits(device.to_host(device.from_host(bits)), bits)


def test_other_backends_compute_in_their_own_dtype(backend):
    assert backend.compute_dtype == backend.dtype
