"""The numba backend: the kernels in Numba CUDA, on a GPU or in Numba's simulator."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from typing import Any

from fercore.backends.device import DeviceBackend
from fercore.errors import FercoreError

_PACKAGE = "cuda_kernels.numba_kernels"
_SWITCH_INTERVAL = 1e-5  # seconds; threads of a simulated block wait so long for one another


class NumbaBackend(DeviceBackend):
    """The readable kernels in Numba, on an NVIDIA GPU or simulated: slow."""

    name = "numba"
    leaves_slices = False

    def __init__(self) -> None:
        try:
            self._cuda: Any = importlib.import_module("numba.cuda")
        except ImportError as error:
            raise FercoreError(
                f"backend numba: numba-cuda is missing ({error}); install fercore[numba]"
            ) from error
        runtime = importlib.import_module(f"{_PACKAGE}.runtime")
        self._simulated: bool = runtime.SIMULATED
        if self._simulated:
            sys.setswitchinterval(_SWITCH_INTERVAL)
        else:
            self._gpu = self._find_gpu()
            warnings.filterwarnings("ignore", "Grid size .* under-utilization")  # by small layers
        super().__init__(runtime.NumbaRuntime(), _PACKAGE)

    def _find_gpu(self) -> Any:
        """The GPU, once a kernel that does nothing has been compiled for it."""
        try:
            gpu = self._cuda.get_current_device()
        except self._cuda.CudaSupportError as error:
            raise FercoreError(
                "backend numba: no NVIDIA driver or no GPU; see whether nvidia-smi lists one, or "
                "set NUMBA_ENABLE_CUDASIM=1, which simulates one"
            ) from error
        try:
            self._cuda.compile_ptx(_nothing, (), cc=gpu.compute_capability)
        except Exception as error:  # each version of Numba has its own for a missing library
            raise FercoreError(
                f"backend numba: Numba cannot compile for this GPU ({_first_line(error)}); install "
                "fercore[numba], which brings the compiler"
            ) from error
        return gpu

    def build_info(self) -> dict[str, Any]:
        compiler = " ".join(f"{p} {importlib.metadata.version(p)}" for p in ("numba", "numba-cuda"))
        if self._simulated:
            return {"instructions": "simulated", "compiler": compiler, "threads": 1}
        major, minor = self._gpu.compute_capability
        return {
            "instructions": f"sm_{major}{minor}",
            "compiler": compiler,
            "gpu": self._gpu.name.decode(),
            "pci_bus_id": self._pci_bus_id(),
        }

    def _pci_bus_id(self) -> str:
        gpu = self._gpu
        return f"{gpu.PCI_DOMAIN_ID:04x}:{gpu.PCI_BUS_ID:02x}:{gpu.PCI_DEVICE_ID:02x}.0"


def _nothing() -> None:
    pass


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
