"""What methods are said to write is what they write."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from fercore import backends
from fercore.backends.accesses import WRITTEN, accesses
from fercore.backends.interface import Backend
from fercore.config import Recipe
from fercore.errors import FercoreError
from tests.backends.harness import InPlace, Out, call, same_bits
from tests.backends.test_contract import CALLS, NO_ARITHMETIC, every_method
from tests.backends.test_interface import METHODS
from tests.narrow import MASKS, Training, narrow

RECIPES = {
    "sgd": Recipe(optimizer="sgd", momentum=0.9, clip_norm=0.5),
    "adam": Recipe(optimizer="adam"),
}


def test_every_method_that_computes_is_there():
    assert WRITTEN.keys() == METHODS.keys() - NO_ARITHMETIC | {"fill"}


def test_every_name_is_an_argument():
    for method, written in WRITTEN.items():
        names = inspect.signature(METHODS[method]).parameters.keys()
        assert written.anew | written.in_place <= names, method
        assert not written.anew & written.in_place, method


@every_method
def test_what_one_call_changes_is_what_is_declared(method):
    """In ``CALLS``, all of whose other buffers ``call`` proves to be untouched."""
    arguments, options = CALLS[method]
    given = inspect.signature(METHODS[method]).bind(None, *arguments, **options).arguments
    changed = {name for name, value in given.items() if isinstance(value, Out | InPlace)}
    written = WRITTEN[method]
    assert changed == {name for name in written.anew | written.in_place if name in given}


@every_method
def test_what_is_written_anew_is_not_read(backend, method):
    """Whether it held ``call``'s poison, or zeros."""
    arguments, options = CALLS[method]

    def zeroed(value: Any) -> Any:
        if not isinstance(value, Out):
            return value
        return InPlace(np.zeros(value.shape, backend.dtype if value.dtype is None else value.dtype))

    def outputs(*given: Any) -> list[np.ndarray]:
        found = call(backend, method, *given, **options)
        return found if isinstance(found, list) else [found]

    for one, other in zip(outputs(*arguments), outputs(*map(zeroed, arguments)), strict=True):
        assert same_bits(one, other)


class Watch:
    """Passes every call on, and notes the buffers that it changed and did not say it would."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.dtype, self.compute_dtype = backend.dtype, backend.compute_dtype
        self.methods: set[str] = set()
        self.undeclared: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, name)
        if name not in WRITTEN:
            return method

        def watched(*args: Any, **kwargs: Any) -> None:
            touched = list(accesses(name, args, kwargs))
            before = [self._backend.to_host(buffer).tobytes() for buffer, _ in touched]
            method(*args, **kwargs)
            for (buffer, written), content in zip(touched, before, strict=True):
                if not written and self._backend.to_host(buffer).tobytes() != content:
                    self.undeclared.append(f"{name} changed a buffer of shape {buffer.shape}")
            self.methods.add(name)

        return watched


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_whole_step_changes_only_what_is_declared(precision, recipe):
    """On the emulated device: with the copies of weights in bf16 that updates write, too."""
    try:
        backend = backends.get("emulated", precision=precision)
    except FercoreError as error:
        pytest.skip(str(error))
    model = narrow("tiny-bn", backend, seed=3)
    MASKS["channels"](model)
    watch = Watch(backend)
    Training(backend, model, RECIPES[recipe]).step(3, backend=watch)
    assert watch.undeclared == []
    assert {"augment", f"{recipe}_update", "conv2d_weight_gradient"} <= watch.methods


def test_an_undeclared_write_is_seen(reference, monkeypatch):
    monkeypatch.setitem(WRITTEN, "accumulate", WRITTEN["dropout"])
    watch: Any = Watch(reference)
    watch.accumulate(reference.from_host(np.ones(3)), reference.from_host(np.ones(3)))
    assert watch.undeclared == ["accumulate changed a buffer of shape (3,)"]


def test_buffers_in_lists_are_touched(reference):
    gradients = [reference.empty((2,)), reference.empty((3,))]
    rates = reference.empty((4,), "float64")
    found = list(accesses("clip_gradients", (gradients, [None, None], rates), {"max_norm": 1.0}))
    assert [(buffer.shape, written) for buffer, written in found] == [
        *(((2,), False), ((3,), False)),
        ((4,), True),
    ]
