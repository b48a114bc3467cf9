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


def plant(
    folder: Path, source: Path, text: str, mistake: str, file: str = "", only: str = r"\w+"
) -> Path:
    """A copy of ``source`` in ``folder``, beside all headers, with ``mistake`` for ``text``.

    ``file`` is the name of the header that gets it; without it, the source does. Kernels other than
    ``only`` are left out, so that there is less to compile.
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
    folder: Path, source: Path, text: str, mistake: str, file: str = ""
) -> Iterator[EmulatedRuntime]:
    """For each order of threads, a runtime that takes every kernel from the planted copy."""
    copy = plant(folder, source, text, mistake, file)
    for order in ORDERS:
        yield _FromCopy(order, copy)


class _FromCopy(EmulatedRuntime):
    def __init__(self, order: Any, copy: Path) -> None:
        super().__init__(order)
        self._copy = copy

    def launch(self, kernel: Kernel, *rest: Any) -> None:
        super().launch(dataclasses.replace(kernel, source=self._copy), *rest)
