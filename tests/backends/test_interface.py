"""Every backend has exactly the interface's methods, parameters, kinds and defaults."""

from __future__ import annotations

import importlib
import inspect

import pytest

from fercore import backends
from fercore.backends.interface import Backend
from fercore.backends.reference import ReferenceBackend

METHODS = {
    name: method
    for name, method in vars(Backend).items()
    if inspect.isfunction(method) and not name.startswith("_")
}


def parameters(method) -> list[tuple]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]


def differences(cls: type) -> list[str]:
    """Where a backend's public methods differ from the interface's."""
    public = {
        name
        for name, value in inspect.getmembers(cls)
        if callable(value) and not name.startswith("_")
    }
    found = [f"{name} is not in the interface" for name in sorted(public - METHODS.keys())]
    for name, method in METHODS.items():
        if parameters(getattr(cls, name)) != parameters(method):
            found.append(f"{name}{inspect.signature(getattr(cls, name))} differs")
    return found


def backend_class(name: str) -> type:
    """The class itself, which needs no hardware; the cpu's needs its compiled module to import."""
    module, class_name = backends._CLASSES[name].split(":")
    try:
        return getattr(importlib.import_module(module), class_name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", backends.NAMES)
def test_backend_has_the_interface(name):
    assert differences(backend_class(name)) == []


@pytest.mark.parametrize("name", backends.NAMES)
def test_backend_is_complete(name):
    assert backend_class(name).__abstractmethods__ == frozenset()


def changed_default(self, x, out, argmax, *, window, stride=2):
    pass


def renamed_parameter(self, x, out, indices, *, window, stride):
    pass


def positional(self, x, out, argmax, window, stride):
    pass


@pytest.mark.parametrize("method", [changed_default, renamed_parameter, positional])
def test_a_changed_signature_is_noticed(method):
    cls = type("Changed", (ReferenceBackend,), {"max_pool_forward": method})
    assert len(differences(cls)) == 1


def test_a_method_of_its_own_is_noticed():
    cls = type("Wider", (ReferenceBackend,), {"conv3d_forward": lambda self: None})
    assert differences(cls) == ["conv3d_forward is not in the interface"]
