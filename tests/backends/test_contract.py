"""What holds for every method alike, tried on one small, valid call of each.

A compiled backend gets raw pointers, so it must refuse a buffer of another dtype, another layout or
another shape before it touches anything. The reference is spared: NumPy reads any array rightly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fercore.backends.interface import Augmentation, Backend
from tests.backends.harness import InPlace, Out, call, normal, relu, same_bits
from tests.backends.test_interface import METHODS

NO_ARITHMETIC = {
    "build_info",
    "runs_at_once",
    "empty",
    "from_host",
    "to_host",
    "write",
    "view",
    "fill",
    "scope",
    "share",
    "capture",
    "conv2d_gradient_slices",
    "free_memory",
    "hold",
    "synchronize",
    "leaves_room",
    "stream",
    "point",
    "wait",
}
RNG = np.array([1, 2, 3, 4], np.uint32)
RATES = np.array([0.1, 0.2, 0.3, 0.5])


def calls() -> dict[str, tuple[tuple, dict]]:
    """The arguments of one valid call of each method that computes, for ``harness.call``."""
    random = np.random.default_rng(0)

    def real(*shape):
        return normal(random, *shape)

    def byte(below, *shape):
        return random.integers(0, below, shape).astype(np.uint8)

    positive = np.abs(real(3)) + 1
    images, labels = byte(256, 5, 9, 8), random.integers(0, 7, 5).astype(np.int32)
    indices, moving = np.array([2, 0, -1, 4], np.int32), np.array([1, 0, 1], np.uint8)
    pool = {"window": 2, "stride": 2}
    norm_out = Out(4, 5, 3), Out(3), Out(3)
    moments = InPlace(real(6, 5)), InPlace(relu(real(6, 5)))
    conv_out = Out(2, 3, 4, 6), Out(2, 3, 4, 6, dtype=np.uint8)
    gradients, masks = [real(6, 5), real(7)], [byte(2, 6), None]
    return {
        "accumulate": ((InPlace(real(3, 4)), real(3, 4)), {}),
        "conv2d_forward": (
            (real(2, 7, 8, 5), real(6, 3, 3, 5), real(6), *conv_out),
            {"padding": 1, "epilogue": "relu_pool"},
        ),
        "conv2d_input_gradient": (
            (
                *(real(2, 7, 8, 6), real(6, 3, 3, 5), Out(2, 14, 17, 5)),
                *(relu(real(2, 7, 8, 5)), byte(4, 2, 7, 8, 5)),
            ),
            {"padding": 1},
        ),
        "conv2d_weight_gradient": (
            (real(2, 7, 8, 5), real(2, 7, 8, 6), Out(6, 3, 3, 5), Out(6)),
            {"padding": 1},
        ),
        "epilogue_gradient": (
            (real(2, 3, 4, 6), relu(real(2, 3, 4, 6)), byte(4, 2, 3, 4, 6), Out(2, 7, 8, 6)),
            {"epilogue": "relu_pool"},
        ),
        "linear_forward": ((real(4, 9), real(6, 9), real(6), Out(4, 6)), {"epilogue": "relu"}),
        "linear_input_gradient": (
            (real(4, 6), real(6, 9), Out(4, 7, 6, 1), relu(real(4, 9)), byte(4, 4, 9)),
            {},
        ),
        "linear_weight_gradient": ((real(4, 9), real(4, 6), Out(6, 9), Out(6)), {}),
        "max_pool_forward": (
            (real(2, 5, 6, 3), Out(2, 2, 3, 3), Out(2, 2, 3, 3, dtype=np.uint8)),
            pool,
        ),
        "max_pool_backward": ((real(2, 2, 3, 3), byte(4, 2, 2, 3, 3), Out(2, 5, 6, 3)), pool),
        "dropout": ((real(5, 7), RNG, Out(5, 7)), {"rate": 0.5, "layer": 1}),
        "batch_norm_forward": (
            (
                real(4, 5, 3),
                real(3),
                real(3),
                InPlace(real(3)),
                InPlace(positive),
                moving,
                *norm_out,
            ),
            {"epilogue": "relu"},
        ),
        "batch_norm_backward": (
            (real(4, 5, 3), real(4, 5, 3), real(3), real(3), positive, moving, *norm_out),
            {},
        ),
        "advance": (
            (
                InPlace(np.array([2, 1, 8], np.uint32)),
                indices,
                random.random((3, 4)),
                Out(3, dtype=np.int32),
                InPlace(RNG),
                Out(4, dtype=np.float64),
            ),
            {},
        ),
        "gather": ((real(5, 2, 3), indices, Out(4, 2, 3)), {"padding": 0}),
        "scatter": ((real(4, 2, 3), indices, InPlace(real(5, 2, 3))), {}),
        "augment": (
            (images, labels, indices, RNG, Out(4, 9, 8, 1), Out(4, dtype=np.int32)),
            {"augmentation": Augmentation(0.5, 2.0, 10.0, 0.1, 3)},
        ),
        "softmax_cross_entropy": (
            (real(5, 7), labels, np.abs(real(7)), InPlace(np.zeros(4)), Out(5, 7)),
            {"label_smoothing": 0.1},
        ),
        "clip_gradients": ((gradients, masks, InPlace(RATES)), {"max_norm": 1.0}),
        "sgd_update": (
            (InPlace(real(6, 5)), real(6, 5), InPlace(real(6, 5)), byte(2, 6), RATES),
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        ),
        "adam_update": (
            (InPlace(real(6, 5)), real(6, 5), *moments, byte(2, 6, 5), RATES),
            {"weight_decay": 0.1},
        ),
    }


CALLS = calls()
every_method = pytest.mark.parametrize("method", CALLS)


def test_every_method_is_here():
    assert CALLS.keys() == METHODS.keys() - NO_ARITHMETIC


@every_method
def test_writes_all_of_its_outputs(backend, method):
    """Nor does it touch anything else, or return anything: ``call`` asserts both."""
    arguments, options = CALLS[method]
    outputs = call(backend, method, *arguments, **options)
    for output in [outputs] if isinstance(outputs, np.ndarray) else outputs:
        assert np.isfinite(output).all()


@every_method
def test_the_same_call_gives_the_same_bits(backend, method):
    arguments, options = CALLS[method]
    first, second = (call(backend, method, *arguments, **options) for _ in range(2))
    assert all(same_bits(a, b) for a, b in zip(first, second, strict=True))


# -- refusals -----------------------------------------------------------------------------------


def valid(backend: Backend, method: str) -> list[Any]:
    """Fresh buffers for the call of ``method``, in its backend's dtype."""

    def make(argument: Any) -> Any:
        if isinstance(argument, list):
            return [make(item) for item in argument]
        if isinstance(argument, Out):
            return np.zeros(argument.shape, argument.dtype or backend.dtype)
        if isinstance(argument, InPlace):
            return argument.array.copy()
        return argument.copy() if isinstance(argument, np.ndarray) else argument

    return [make(argument) for argument in CALLS[method][0]]


def another_dtype(array):
    yield array.astype({1: np.int64, 4: np.float64, 8: np.float32}[array.itemsize])
    if array.dtype == np.float32:
        yield array.view(np.int32)
    if array.dtype.kind in "iu" and array.itemsize == 4:
        yield array.astype(np.float32)


def another_layout(array):
    """The same numbers, not C-contiguous, and where that is no difference, reversed."""
    twice = np.repeat(array, 2, axis=-1)
    yield twice[..., ::2]
    yield array[::-1]
    if min(array.shape) > 1 and array.ndim > 1:
        yield np.asfortranarray(array)


def another_shape(array):
    yield np.concatenate([array, array[:1]])
    yield array[None]
    if len(array) > 1:
        yield array[:-1].copy()
    if array.ndim > 1:
        yield np.concatenate([array, array[..., :1]], axis=-1)


BUFFERS = [
    (method, index)
    for method, (arguments, _) in CALLS.items()
    for index, argument in enumerate(arguments)
    if method != "accumulate"  # may be NumPy's own addition, which reads any array rightly
    if argument is not None and not isinstance(argument, list)
]


TABLES = {("augment", 0), ("augment", 1)}  # any number of images, any number of labels
TABLES |= {("advance", 1), ("advance", 2), ("advance", 3), ("gather", 0), ("scatter", 2)}  # rows


@pytest.mark.parametrize(
    ("method", "index", "spoil"),
    [
        (method, index, spoil)
        for method, index in BUFFERS
        for spoil in (another_dtype, another_layout, another_shape)
        if spoil is not another_shape or (method, index) not in TABLES
    ],
)
def test_refuses_a_buffer_and_touches_nothing(compiled_backend, method, index, spoil):
    for wrong in spoil(valid(compiled_backend, method)[index]):
        arguments = valid(compiled_backend, method)
        arguments[index] = wrong
        before = [np.copy(a) for a in arguments if isinstance(a, np.ndarray)]
        with pytest.raises((ValueError, TypeError)):
            getattr(compiled_backend, method)(*arguments, **CALLS[method][1])
        after = [a for a in arguments if isinstance(a, np.ndarray)]
        assert all(same_bits(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("method", "index"),
    [(m, i) for m, i in BUFFERS if isinstance(CALLS[m][0][i], Out | InPlace)],
)
def test_refuses_an_output_that_is_read_only(compiled_backend, method, index):
    arguments = valid(compiled_backend, method)
    arguments[index].flags.writeable = False
    with pytest.raises((ValueError, TypeError)):
        getattr(compiled_backend, method)(*arguments, **CALLS[method][1])


@pytest.mark.parametrize("spoil", [another_dtype, another_layout])
@pytest.mark.parametrize("index", [0, 1])
def test_refuses_a_wrong_gradient_or_mask_in_a_list(compiled_backend, index, spoil):
    for wrong in spoil(valid(compiled_backend, "clip_gradients")[index][0]):
        arguments = valid(compiled_backend, "clip_gradients")
        arguments[index][0] = wrong
        with pytest.raises((ValueError, TypeError)):
            compiled_backend.clip_gradients(*arguments, max_norm=1.0)
