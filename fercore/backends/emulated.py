"""The emulated backend: the CUDA kernels on a machine with no GPU."""

from __future__ import annotations

from typing import Any

from cuda_kernels.compilers import find
from cuda_kernels.emulated import EmulatedRuntime
from cuda_kernels.specs import Precision
from fercore.backends.device import DeviceBackend, try_compiler


class EmulatedBackend(DeviceBackend):
    """The CUDA kernels, emulated on one processor core, every access checked: slow."""

    name = "emulated"

    def __init__(self, precision: Precision = "fp32") -> None:
        try_compiler(self.name, "host")
        super().__init__(EmulatedRuntime(), precision=precision)

    def build_info(self) -> dict[str, Any]:
        return {
            "instructions": f"emulated sm_{self._runtime.arch}",
            "precision": self._precision,
            "compiler": find("host").identity,
            "threads": 1,
        }
