"""A backend that is watched: which methods are called with what, and which buffers stay alive."""

from __future__ import annotations

import inspect
import weakref
from dataclasses import dataclass
from typing import Any

from fercore.backends.interface import Backend

MEMORY = ("from_host", "to_host", "write", "view", "scope", "conv2d_gradient_slices")
MEMORY += ("stream", "point", "wait")


@dataclass(frozen=True)
class Seen:
    """One call: the method, and the names of the arguments that were not ``None``."""

    method: str
    given: frozenset[str]


class Spy:
    """Passes everything on to ``backend``; keeps no argument alive itself."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._allocated: list[weakref.ref[Any]] = []
        self.calls: list[Seen] = []
        self.dtype, self.compute_dtype = backend.dtype, backend.compute_dtype

    def empty(self, shape: Any, dtype: Any = None) -> Any:
        buffer = self._backend.empty(shape, dtype)
        self._allocated.append(weakref.ref(buffer))
        return buffer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, name)
        if name in MEMORY:
            return method
        signature = inspect.signature(method)

        def watched(*args: Any, **kwargs: Any) -> None:
            arguments = signature.bind(*args, **kwargs).arguments
            given = frozenset(key for key, value in arguments.items() if value is not None)
            self.calls.append(Seen(name, given))
            method(*args, **kwargs)

        return watched

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    @property
    def allocations(self) -> int:
        """How many buffers were ever asked for."""
        return len(self._allocated)

    def alive(self) -> list[Any]:
        """The allocated buffers that something still holds, in the order of their allocation."""
        return [buffer for reference in self._allocated if (buffer := reference()) is not None]
