"""Copies of kernels' sources with one mistake in them, for tests to show that they see it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuda_kernels.compilers import INCLUDE
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.specs import Kernel

ANY = r"\w+"


def plant(
    folder: Path, source: Path, text: str, mistake: str, file: str = "", only: str = ANY
) -> Path:
    """A copy of ``source`` in ``folder``, beside all headers, with ``mistake`` for ``text``.

    ``file`` is the name of the header that gets it; without it, the source does. Kernels that do
    not match ``only`` are left out, so that there is less to compile.
    """
    for original in (source, *INCLUDE.glob("*.cuh")):
        content = original.read_text()
        if original.name == (file or source.name):
            assert content.count(text) == 1, f"{text!r} is not in {original.name} once"
            content = content.replace(text, mistake)
        others = rf"^KERNEL\((?!{only},).*?^}}\n"
        (folder / original.name).write_text(re.sub(others, "", content, flags=re.M | re.S))
    return folder / source.name


def with_mistake(
    folder: Path, source: Path, text: str, mistake: str, file: str = "", only: str = ANY
) -> Iterator[EmulatedRuntime]:
    """For each order of threads, a runtime that takes kernels of the source from a planted copy."""
    copy = plant(folder, source, text, mistake, file, only)
    for order in ORDERS:
        yield _FromCopy(order, copy)


class _FromCopy(EmulatedRuntime):
    def __init__(self, order: Any, copy: Path) -> None:
        super().__init__(order)
        self._copy = copy

    def launch(self, kernel: Kernel, *rest: Any) -> None:
        if kernel.source.name == self._copy.name:
            kernel = dataclasses.replace(kernel, source=self._copy)
        super().launch(kernel, *rest)
