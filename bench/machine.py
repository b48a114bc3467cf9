"""What a measurement was made on and with, and the rates that bound it."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from fercore.backends.device import DeviceBackend
from fercore.timing import EDGE, Clock, device_rates

PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "nvidia-cudnn-cu13", "triton")
GPU = (
    *("name", "driver_version", "power.limit", "temperature.gpu"),
    *("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem"),
)
CANNOT = 3  # the exit status where this machine, or the backend, cannot do what was asked for


def describe() -> dict[str, Any]:
    """GPU, clocks, power limit, driver, versions and date, as far as they can be found out."""
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": dict(_versions()),
    }
    if gpu := _nvidia_smi():
        facts["gpu"] = gpu
    if compiler := _output("nvcc", "--version"):
        facts["nvcc"] = compiler.splitlines()[-1]
    return facts


def cannot(what: str) -> NoReturn:
    """End the program: there is nothing to measure with."""
    print(what, file=sys.stderr)
    raise SystemExit(CANNOT)


def gpu_name() -> str:
    """As a folder is called: ``nvidia-h100-80gb-hbm3``, or ``no-gpu``."""
    return _nvidia_smi().get("name", "no gpu").lower().replace(" ", "-")


def _versions() -> Iterable[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _nvidia_smi() -> dict[str, str]:
    query = _output("nvidia-smi", f"--query-gpu={','.join(GPU)}", "--format=csv,noheader")
    values = query.partition("\n")[0].split(", ")
    return dict(zip(GPU, values, strict=True)) if len(values) == len(GPU) else {}


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


# -- rates ----------------------------------------------------------------------------------------


def rates(backend: DeviceBackend, clock: Clock, torch: Any | None) -> dict[str, float]:
    """Bytes a second of a copy, and FLOP a second of a large product, by precision.

    Without PyTorch the products of tensor cores are unknown: give them by hand.
    """
    found = device_rates(backend, clock, product=torch is None)
    if torch is not None:
        from bench import torch_kernels

        found |= torch_kernels.product_rates(EDGE)
    if "bf16" in found:
        found["bf16x3"] = found["bf16"] / 3
    return found
