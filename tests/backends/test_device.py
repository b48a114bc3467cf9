"""The device backends: ``cuda`` launches what ``emulated`` does, and says what it lacks.

CuPy is played by the stand-in of the runtime's own tests, so that this needs no GPU.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from cuda_kernels import compilers
from cuda_kernels.compilers import BuildError
from fercore import backends, environment
from fercore.errors import FercoreError
from tests.backends.harness import InPlace, Out
from tests.backends.test_bf16 import in_bf16
from tests.backends.test_contract import CALLS
from tests.cuda_kernels.test_gpu import Cupy


@pytest.fixture
def cupy(monkeypatch):
    """A machine with one GPU, as far as Python can see."""
    try:
        compilers.cuda_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    return install(monkeypatch, "90")


def install(monkeypatch, capability):
    stand_in = Cupy()
    stand_in.cuda.Device(0).compute_capability = capability
    stand_in.ranges = []
    stand_in.cuda.nvtx = SimpleNamespace(
        RangePush=stand_in.ranges.append, RangePop=lambda: stand_in.ranges.append(None)
    )
    stand_in.cuda.runtime.getDeviceProperties = lambda number: {"name": b"H200"}
    stand_in.cuda.runtime.driverGetVersion = lambda: 13000
    stand_in.cuda.runtime.deviceGetPCIBusId = lambda number: f"0000:{17 + number}:00.0"
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    return stand_in


def buffers(backend, method):
    """The arguments of a valid call, in the backend's memory."""

    def make(argument):
        if isinstance(argument, list):
            return [make(item) for item in argument]
        if isinstance(argument, Out):
            return backend.empty(argument.shape, argument.dtype)
        array = argument.array if isinstance(argument, InPlace) else argument
        if not isinstance(array, np.ndarray):
            return array
        buffer = backend.empty(array.shape, array.dtype)
        backend.write(buffer, array)
        return buffer

    given = in_bf16(method) if backend.compute_dtype != backend.dtype else CALLS[method][0]
    return [make(argument) for argument in given]


@pytest.mark.parametrize("precision", ["fp32", "bf16x3", "bf16"])
@pytest.mark.parametrize("method", CALLS)
def test_cuda_launches_what_emulated_launches(cupy, method, precision):
    names, launched = ("cuda", "emulated"), []
    cuda, emulated = (backends.get(name, precision=precision) for name in names)
    emulated._runtime.on_launch = lambda kernel, grid: launched.append((kernel.name, grid))
    for backend in (cuda, emulated):
        assert getattr(backend, method)(*buffers(backend, method), **CALLS[method][1]) is None
    assert launched
    assert [(name, grid) for name, grid, *_ in cupy.launches] == launched


@pytest.mark.parametrize("precision", ["tf32", "bf16x3"])
def test_a_precision_is_that_of_products(precision, random):
    backend, launched = backends.get("emulated", precision=precision), []
    backend._runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    matrix, images = (
        backend.from_host(random.standard_normal(shape)) for shape in ((8, 8), (1, 4, 4, 8))
    )
    weight, bias = (backend.from_host(random.standard_normal(shape)) for shape in ((8, 1, 1, 8), 8))
    out, image, kernel = (backend.empty(one.shape) for one in (matrix, images, weight))
    backend.linear_forward(matrix, matrix, bias, out)
    backend.linear_input_gradient(matrix, matrix, out)
    backend.linear_weight_gradient(matrix, matrix, out, None)
    backend.conv2d_forward(images, weight, bias, image)
    backend.conv2d_input_gradient(images, weight, image)
    backend.conv2d_weight_gradient(images, images, kernel, None)
    passes = ("forward", "input_gradient", "weight_gradient")
    layers = ("linear", "conv2d")
    # Little as there is to do, it is done in the smallest tiles.
    assert launched == [
        f"{layer}_{one}_{precision}_mma_64x64" for layer in layers for one in passes
    ]
    assert backend.build_info()["precision"] == precision


def test_scopes_are_nvtx_ranges(cupy):
    backend = backends.get("cuda")
    with pytest.raises(KeyError), backend.scope("conv1_1 forward"):
        raise KeyError
    with backend.scope("update"):
        pass
    assert cupy.ranges == ["conv1_1 forward", None, "update", None]


def test_cuda_says_what_it_runs_on(cupy):
    facts = environment.describe(backends.get("cuda"))
    assert (facts["backend"], facts["dtype"], facts["instructions"]) == ("cuda", "float32", "sm_90")
    assert (facts["gpu"], facts["driver"]) == ("H200", 13000)
    assert facts["pci_bus_id"] == "0000:17:00.0"
    assert facts["compiler"] == compilers.cuda_compiler().identity


# -- what is missing ------------------------------------------------------------------------------


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(FercoreError, match=r"backend cuda: CuPy is missing; install fercore\[cuda"):
        backends.get("cuda")


def test_no_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", Cupy(devices=None))
    with pytest.raises(FercoreError, match=r"backend cuda: no NVIDIA driver or no GPU .*smi"):
        backends.get("cuda")


def test_a_gpu_that_is_too_old(monkeypatch):
    install(monkeypatch, "70")
    with pytest.raises(FercoreError, match=r"this GPU is sm_70, and the kernels need sm_75 .*cpu"):
        backends.get("cuda")


@pytest.mark.parametrize("precision", ["tf32", "bf16x3", "bf16"])
def test_a_gpu_without_the_tensor_cores(cupy, monkeypatch, precision):
    install(monkeypatch, "75")
    message = f"cuda: {precision} needs the tensor cores of sm_80 or newer, and this GPU is sm_75"
    with pytest.raises(FercoreError, match=message):
        backends.get("cuda", precision=precision)
    assert backends.get("cuda").build_info()["precision"] == "fp32"


@pytest.mark.parametrize("name", ["cuda", "emulated"])
def test_a_precision_that_nobody_has(cupy, name):
    with pytest.raises(FercoreError, match="precision cannot be 'fp16'; did you mean 'bf16'"):
        backends.get(name, precision="fp16")


@pytest.mark.parametrize(
    ("name", "where"), [("cuda", "cuda_compiler"), ("emulated", "host_compiler")]
)
def test_no_compiler(monkeypatch, name, where):
    def missing():
        raise BuildError("no compiler; install one")

    install(monkeypatch, "90")
    monkeypatch.setattr(compilers, where, missing)
    with pytest.raises(FercoreError, match=f"backend {name}: no compiler; install one"):
        backends.get(name)


# -- numba ----------------------------------------------------------------------------------------


@pytest.fixture
def numba_cuda(monkeypatch):
    """Numba on a machine with one GPU, as far as Python can see."""
    cuda = pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
    if importlib.import_module("numba").config.ENABLE_CUDASIM:
        pytest.skip("Numba's simulator is on, and needs none of this")
    gpu = SimpleNamespace(
        compute_capability=(9, 0), name=b"H200", PCI_DOMAIN_ID=0, PCI_BUS_ID=0x1B, PCI_DEVICE_ID=0
    )
    monkeypatch.setattr(cuda, "get_current_device", lambda: gpu)
    monkeypatch.setattr(cuda, "compile_ptx", lambda *_, cc: None)
    return cuda


def test_numba_says_what_it_runs_on(numba_cuda):
    facts = environment.describe(backends.get("numba"))
    assert (facts["backend"], facts["dtype"], facts["instructions"]) == (
        "numba",
        "float32",
        "sm_90",
    )
    assert (facts["gpu"], facts["pci_bus_id"]) == ("H200", "0000:1b:00.0")
    assert facts["compiler"].startswith("numba 0.")


def test_numba_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    with pytest.raises(FercoreError, match=r"backend numba: .*missing.*install fercore\[numba\]"):
        backends.get("numba")


def test_numba_without_a_gpu(numba_cuda, monkeypatch):
    def fail():
        raise numba_cuda.CudaSupportError("Error at driver init:\n")

    monkeypatch.setattr(numba_cuda, "get_current_device", fail)
    with pytest.raises(FercoreError, match=r"no GPU; .*smi .*NUMBA_ENABLE_CUDASIM=1") as raised:
        backends.get("numba")
    assert "\n" not in str(raised.value)


def test_numba_without_its_compiler(numba_cuda, monkeypatch):
    def fail(*_, cc):
        raise RuntimeError("libnvvm.so\nnot found")

    monkeypatch.setattr(numba_cuda, "compile_ptx", fail)
    with pytest.raises(FercoreError, match=r"\(libnvvm.so\); install fercore\[numba\]") as raised:
        backends.get("numba")
    assert "\n" not in str(raised.value)


# -- auto -----------------------------------------------------------------------------------------


def test_auto_takes_the_gpu_and_says_so(cupy, monkeypatch):
    said = []
    monkeypatch.setattr(backends, "announce", said.append)
    assert backends.get("auto").name == "cuda"
    assert said == ["device auto takes cuda (H200)"]


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """A machine whose driver is installed, and CuPy is not."""
    tool = tmp_path / "nvidia-smi"
    tool.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_auto_says_why_it_leaves_a_gpu_alone(nvidia_smi):
    pytest.importorskip("_fercore_cpu", reason="the compiled module is not installed")
    code = "import sys; sys.modules['cupy'] = None; import fercore.backends as b; b.get()"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout == ""
    assert finished.stderr.startswith("device auto takes cpu (backend cuda: CuPy is missing")


def test_auto_is_silent_where_there_is_no_gpu(monkeypatch):
    pytest.importorskip("_fercore_cpu", reason="the compiled module is not installed")
    said = []
    monkeypatch.setattr(backends, "announce", said.append)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert backends.get("auto").name == "cpu"
    assert said == []


# -- memory ---------------------------------------------------------------------------------------


def test_clipping_allocates_once_so_that_it_can_be_captured(random):
    backend = backends.get("emulated")
    gradient, rates = (
        backend.from_host(random.standard_normal(5000)),
        backend.empty((4,), "float64"),
    )

    def clip():
        backend.clip_gradients([gradient], [None], rates, max_norm=1.0)

    clip()
    with backend._runtime.capture() as graph:
        clip()
    backend.fill(rates, 0.0)
    graph.replay()
    norm = np.linalg.norm(backend.to_host(gradient).astype(np.float64))
    assert backend.to_host(rates)[3] == pytest.approx(1 / norm, rel=1e-12)
