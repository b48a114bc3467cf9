"""The emulated backend: the CUDA kernels on a machine with no GPU."""

from __future__ import annotations

from typing import Any

from cuda_kernels.compilers import find
from cuda_kernels.emulated import EmulatedRuntime
from fercore.backends.device import DeviceBackend, try_compiler


class EmulatedBackend(DeviceBackend):
    """The CUDA kernels, emulated on one processor core, every access checked: slow."""

    name = "emulated"

    def __init__(self) -> None:
        try_compiler(self.name, "host")
        super().__init__(EmulatedRuntime())

    def build_info(self) -> dict[str, Any]:
        return {
            "instructions": f"emulated sm_{self._runtime.arch}",
            "compiler": find("host").identity,
            "threads": 1,
        }
