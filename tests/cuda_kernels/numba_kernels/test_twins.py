"""The Numba modules offer what their namesakes in ``cuda_kernels`` do, with the same arguments."""

from __future__ import annotations

import importlib
import inspect

import pytest

from fercore.backends.device import OPERATIONS

CUDA_ONLY = {"precision", "accumulate", "copy"}
"""Options of the CUDA C++ kernels: other number formats, copies in
them, and adding to a gradient."""


def functions(module) -> dict:
    """The public functions that take a runtime, with their parameters."""
    found = {}
    for name, function in vars(module).items():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            parameters = inspect.signature(function).parameters
            if "runtime" in parameters and not name.startswith("_"):
                found[name] = [(p.name, p.kind) for p in parameters.values()]
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_same_functions_and_parameters(operation):
    pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
    mine = functions(importlib.import_module(f"cuda_kernels.numba_kernels.{operation}"))
    twin = functions(importlib.import_module(f"cuda_kernels.{operation}"))
    twin = {
        name: [one for one in parameters if one[0] not in CUDA_ONLY]
        for name, parameters in twin.items()
        if name != "gradient_slices"  # a gradient is summed at once here
    }
    assert mine == twin
    assert mine
