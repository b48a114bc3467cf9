"""fercore: train, freeze and measure convolutional networks, down to the kernel.

Modules load on first use, so that ``import fercore`` stays instant: ``fercore.models``,
``fercore.freeze``, ``fercore.data``, ``fercore.training``, ``fercore.protocol`` and the rest.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"

_MODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"fercore.{name}")
    raise AttributeError(f"module 'fercore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
