"""The backends, found by name and imported only when they are asked for."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fercore.errors import FercoreError, did_you_mean

if TYPE_CHECKING:
    from fercore.backends.interface import Backend

_CLASSES = {
    "cuda": "fercore.backends.cuda:CudaBackend",
    "cpu": "fercore.backends.cpu:CpuBackend",
    "reference": "fercore.backends.reference:ReferenceBackend",
    "emulated": "fercore.backends.emulated:EmulatedBackend",
    "numba": "fercore.backends.numba:NumbaBackend",
}


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


announce: Callable[[str], None] = _to_stderr
"""Receives a line when ``auto`` takes the GPU, or cannot take the one that is there."""

NAMES = tuple(_CLASSES)
"""Every backend that ``get`` can build, fastest first; ``auto`` is a choice among them."""


def check_name(name: str) -> None:
    """Raise FercoreError, with the nearest one, if no backend is called ``name``."""
    known = ("auto", *NAMES)
    if name not in known:
        meant = "cuda" if name.lower() in ("gpu", "nvidia") else name
        raise FercoreError(f"there is no device {name!r}; {did_you_mean(meant, known)}")


_TENSOR_CORES = {"cuda", "emulated"}
_PRECISIONS = ("fp32", "tf32", "bf16x3", "bf16")


def check_precision(name: str, precision: str) -> None:
    """Refuse, with FercoreError, a precision that the backend called ``name`` cannot compute in."""
    if precision not in _PRECISIONS:
        hint = did_you_mean(precision, _PRECISIONS)
        raise FercoreError(f"precision cannot be {precision!r}; {hint}")
    if precision != "fp32" and name not in _TENSOR_CORES:
        raise FercoreError(
            f"backend {name} computes in fp32, not in {precision}; choose precision fp32, or "
            "device cuda"
        )


def get(name: str = "auto", *, precision: str = "fp32", **options: Any) -> Backend:
    """The backend called ``name``, built with ``options`` (``dtype="float32"``, say).

    ``auto`` is the GPU where there is one, else the cpu; the others are too slow to be chosen so.
    Raises FercoreError for an unknown name, for a backend that cannot run on this machine, and for
    a ``precision`` that it does not have.
    """
    if name == "auto":
        return _automatic(precision, options)
    check_name(name)
    check_precision(name, precision)
    if name in _TENSOR_CORES:
        options["precision"] = precision
    module, class_name = _CLASSES[name].split(":")
    try:
        backend: Backend = getattr(importlib.import_module(module), class_name)(**options)
    except ImportError as error:
        if error.name != "_fercore_cpu":
            raise
        raise FercoreError(
            f"backend cpu: its compiled module cannot be loaded ({error}); build it with "
            "`pip install .` in fercore's folder"
        ) from error
    return backend


def _automatic(precision: str, options: dict[str, Any]) -> Backend:
    try:
        backend = get("cuda", precision=precision, **options)
    except FercoreError as error:
        if precision != "fp32":
            raise FercoreError(f"device auto: {precision} is for GPUs, and {error}") from error
        backend = get("cpu", **options)
        if shutil.which("nvidia-smi"):  # else there is no GPU to be missed
            announce(f"device auto takes cpu ({error})")
    else:
        announce(f"device auto takes cuda ({backend.build_info()['gpu']})")
    return backend


def describe(name: str) -> str:
    """One line about the backend called ``name``: what it is and in which dtype, or why not."""
    try:
        backend = get(name)
    except FercoreError as error:
        return f"{name}: not available ({error})"
    summary = (type(backend).__doc__ or "").partition("\n")[0]
    return f"{backend.name} ({backend.dtype}): {summary}"
