"""What a run was carried out with, as far as it can change a number."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import fercore
from fercore.backends.interface import Backend

DECIDES_BITS = (
    "fercore",
    "numpy",  # draws first weights and orders
    "backend",
    "dtype",
    "instructions",
    "compiler",
    "blas",
    "blas_core",
    "convolution",
)
"""Entries that must be the same for the same seed to give the same bits."""


def describe(backend: Backend) -> dict[str, Any]:
    """Versions, processor and backend, as plain values for ``environment.json``."""
    return {
        "fercore": fercore.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("numpy", "pillow")},
        "system": platform.platform(),
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "backend": backend.name,
        "dtype": str(backend.dtype),
        **backend.build_info(),
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two environments and decides bits, one phrase each."""
    return [
        f"{key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}"
        for key in DECIDES_BITS
        if old.get(key) != new.get(key)
    ]


def _processor() -> str:
    """The processor's name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
