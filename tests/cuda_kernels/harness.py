"""Kernels of the tests' own, and arrays on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cuda_kernels.runtime import Runtime
from cuda_kernels.specs import Kernel

FOLDER = Path(__file__).parent


def kernel(name: str, source: Path, threads: int = 32, shared_bytes: int = 0) -> Kernel:
    """A kernel that no registry knows, of one block."""
    return Kernel(name, name, 1, source, "a test", threads, lambda _: (1, 1, 1), shared_bytes)


def launch(runtime: Runtime, one: Kernel, blocks: int = 1, **arguments: Any) -> None:
    runtime.launch(one, (blocks, 1, 1), (one.threads, 1, 1), one.shared_bytes, arguments)


def to_device(runtime: Runtime, array: np.ndarray | None) -> Any:
    if array is None:
        return None
    buffer = runtime.empty(array.shape, array.dtype)
    runtime.copy_in(buffer, array)
    return buffer


def poisoned(runtime: Runtime, *shape: int, dtype: Any = np.float32) -> Any:
    """A buffer of NaN (or -1), so that an entry that is not written shows."""
    content = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xFF, np.uint8)
    return to_device(runtime, content.view(dtype).reshape(shape))


def line_of(source: Path, marker: str) -> str:
    """``FILE:LINE``, as messages have it, of the only line that ends in ``marker``."""
    text = source.read_text().splitlines()
    lines = [i for i, line in enumerate(text, 1) if line.strip().endswith(marker)]
    assert len(lines) == 1, f"{marker!r} ends lines {lines} of {source.name}"
    return f"{source.name}:{lines[0]}"
