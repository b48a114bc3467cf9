"""The runtimes and the compilers that these tests run on."""

from __future__ import annotations

import shutil

import pytest

from cuda_kernels import compilers
from cuda_kernels.compilers import BuildError
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from cuda_kernels.gpu import CupyRuntime
from cuda_kernels.runtime import Runtime, UnavailableError


@pytest.fixture(params=[*ORDERS, "gpu"])
def runtime(request) -> Runtime:
    """The emulator in each order of threads, and a GPU where there is one."""
    if request.param == "gpu":
        try:
            return CupyRuntime()
        except UnavailableError as error:
            pytest.skip(str(error))
    return EmulatedRuntime(request.param)


@pytest.fixture(params=ORDERS)
def emulated(request) -> EmulatedRuntime:
    return EmulatedRuntime(request.param)


@pytest.fixture
def cuda_compiler() -> compilers.Compiler:
    try:
        return compilers.cuda_compiler()
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def nvcc() -> compilers.Nvcc:
    if path := shutil.which("nvcc"):
        return compilers.Nvcc(path)
    pytest.skip("nvcc is not on the PATH")
