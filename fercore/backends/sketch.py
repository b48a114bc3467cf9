"""A backend that computes nothing: a step on it shows what a device would allocate and launch."""

from __future__ import annotations

from typing import cast

import numpy as np

from cuda_kernels.noting import Launch as Launch  # what it notes, for those who price it
from cuda_kernels.noting import NotingRuntime, Sketch
from cuda_kernels.specs import Precision
from fercore.backends.device import DeviceBackend
from fercore.backends.interface import Buffer

LAUNCHING = ("cuda", "emulated")
"""Backends that launch the kernels that are noted here."""


class SketchBackend(DeviceBackend):
    """Buffers have a shape and no memory; kernels are chosen and noted, as for an ``arch``.

    What it allocates is what the backend called ``device`` would, on a GPU of so many
    ``multiprocessors`` (by default an H200's or H100's) where that is cuda.
    """

    name = "sketch"

    def __init__(
        self,
        precision: str = "fp32",
        arch: int = 90,
        device: str = "cuda",
        multiprocessors: int = 132,
    ) -> None:
        self.leaves_slices = device in LAUNCHING
        self._noting = NotingRuntime(arch)
        self._noting.multiprocessors = multiprocessors if device == "cuda" else 0
        super().__init__(self._noting, precision=cast(Precision, precision))

    @property
    def allocated(self) -> int:
        """Bytes of the buffers that exist now."""
        return self._noting.bytes

    @property
    def peak(self) -> int:
        """The most bytes that existed at any time."""
        return self._noting.peak

    def take_launches(self) -> list[Launch]:
        """What would have been launched since the last time this was asked."""
        launches, self._noting.launches = self._noting.launches, []
        return launches

    def waves(self, launch: Launch) -> float | None:
        """How often its blocks fill the GPU; None where they have no tiles."""
        return self._noting.waves(launch)

    def hold(self, array: np.ndarray) -> Buffer:
        """A buffer that does not count: a device holds nothing that leaves no room."""
        return Sketch(array.shape, array.dtype)

    def write(self, buffer: Buffer, array: np.ndarray) -> None:
        """Nothing: there is no memory to write to."""
