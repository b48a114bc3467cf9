"""The cuda backend: the CUDA kernels on a GPU, through CuPy."""

from __future__ import annotations

import importlib
from typing import Any

from cuda_kernels.compilers import find
from cuda_kernels.gpu import CupyRuntime
from cuda_kernels.runtime import UnavailableError
from cuda_kernels.specs import Precision
from fercore.backends.device import DeviceBackend, try_compiler
from fercore.errors import FercoreError

OLDEST_ARCH = 75
"""Turing: the oldest GPUs that the kernels are compiled and tested for."""


FULL = 1e11
"""Operations of steps under way that leave a GPU little to wait for.

A large one does them in a millisecond at 100 TFLOP/s. The 80 launches of a step, each with a tail
in which multiprocessors run dry, take some tenths of that whatever their size; steps of other runs
fill them. An estimate, which ``python -m bench runs`` measures.
"""


class CudaBackend(DeviceBackend):
    """The CUDA kernels on an NVIDIA GPU."""

    name = "cuda"

    def __init__(self, precision: Precision = "fp32") -> None:
        try:
            runtime = CupyRuntime()
        except UnavailableError as error:
            raise FercoreError(f"backend cuda: {error}") from error
        if runtime.arch < OLDEST_ARCH:
            raise FercoreError(
                f"backend cuda: this GPU is sm_{runtime.arch}, and the kernels need sm_"
                f"{OLDEST_ARCH} (Turing) or newer; use the cpu"
            )
        self._target = f"sm_{runtime.arch}"
        try_compiler(self.name, self._target)
        super().__init__(runtime, precision=precision)
        self._cuda = importlib.import_module("cupy").cuda

    def runs_at_once(self, operations: float) -> int:
        return max(1, round(FULL / max(operations, 1.0)))

    def build_info(self) -> dict[str, Any]:
        properties = self._cuda.runtime.getDeviceProperties(0)
        return {
            "instructions": self._target,
            "precision": self._precision,
            "compiler": find(self._target).identity,
            "gpu": properties["name"].decode(),
            "driver": self._cuda.runtime.driverGetVersion(),
            "pci_bus_id": self._cuda.runtime.deviceGetPCIBusId(0),
        }
