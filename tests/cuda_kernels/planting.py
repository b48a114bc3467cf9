"""Copies of kernels' sources with one mistake in them, for tests to show that they see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.specs import Kernel


def with_mistake(folder: Path, source: Path, text: str, mistake: str) -> Iterator[EmulatedRuntime]:
    """For each order of threads, a runtime that takes every kernel from the copy in ``folder``."""
    original = source.read_text()
    assert original.count(text) == 1, f"{text!r} is not in {source.name} once"
    copy = folder / source.name
    copy.write_text(original.replace(text, mistake))
    for order in ORDERS:
        yield _FromCopy(order, copy)


class _FromCopy(EmulatedRuntime):
    def __init__(self, order: Any, copy: Path) -> None:
        super().__init__(order)
        self._copy = copy

    def launch(self, kernel: Kernel, *rest: Any) -> None:
        super().launch(dataclasses.replace(kernel, source=self._copy), *rest)
