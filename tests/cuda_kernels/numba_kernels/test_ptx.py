"""Every Numba kernel compiled to PTX with the arguments it is launched with; no GPU is needed."""

from __future__ import annotations

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pytest

from fercore.backends.device import OPERATIONS, DeviceBackend
from tests.backends.test_contract import CALLS, valid

PACKAGE = "cuda_kernels.numba_kernels"
MODULES = (*OPERATIONS, "column_sums")

FLOAT32 = {
    "elementwise.accumulate_kernel",
    "elementwise.fill_kernel",
    "elementwise.relu_gradient_kernel",
    "conv2d.forward_kernel",
    "conv2d.forward_pool_kernel",
    "conv2d.input_gradient_kernel",
    "conv2d.input_gradient_pool_kernel",
    "conv2d.pool_gradient_kernel",
    "linear.unpooled_product_kernel",  # product_kernel compares draws with a rate in float64
    "max_pool.max_pool_kernel",
    "max_pool.max_pool_gradient_kernel",
}
"""Nothing in them is float64, which one careless constant would make of everything it touches."""

PRODUCTS = {
    "conv2d.forward_kernel",
    "conv2d.forward_pool_kernel",
    "conv2d.input_gradient_kernel",
    "conv2d.input_gradient_pool_kernel",
    "conv2d.weight_gradient_kernel",
    "linear.product_kernel",
    "linear.unpooled_product_kernel",
}
SHARED = {
    "batch_norm.backward_kernel",
    "batch_norm.forward_kernel",
    "column_sums.column_sums_kernel",
    "linear.product_kernel",
    "linear.unpooled_product_kernel",
    "softmax_cross_entropy.softmax_cross_entropy_kernel",
    "update.clip_factor_kernel",
    "update.sum_of_squares_kernel",
}


@pytest.fixture(scope="module")
def compiler():
    """Numba's compiler to PTX: a function of a kernel, its arguments and a compute capability."""
    cuda = pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
    numba = importlib.import_module("numba")
    if numba.config.ENABLE_CUDASIM:
        pytest.skip("Numba's simulator compiles nothing")
    try:
        cuda.compile_ptx(lambda: None, (), cc=(8, 0))
    except Exception as error:
        (reason, *_) = str(error).splitlines()
        pytest.skip(f"Numba cannot compile here ({reason}); install fercore[test]")

    def compile_ptx(kernel, arguments, capability):
        with pytest.MonkeyPatch.context() as patch:  # which kernels ask when they call a function
            gpu = SimpleNamespace(compute_capability=capability)
            patch.setattr("numba.cuda.dispatcher.get_current_device", lambda: gpu)
            types = tuple(numba.typeof(argument) for argument in arguments)
            return cuda.compile_ptx(kernel.py_func, types, cc=capability)[0]

    return compile_ptx


@pytest.fixture(scope="module")
def launches(compiler):
    """One launch of each kernel, ``operation.kernel``: the kernel and its arguments."""
    noted = {}

    class Notebook(importlib.import_module(f"{PACKAGE}.runtime").NumbaRuntime):
        def empty(self, shape, dtype):
            return np.zeros(tuple(shape), dtype)

        def launch(self, kernel, grid, block, *arguments):
            module = kernel.py_func.__module__.rpartition(".")[2]
            noted[f"{module}.{kernel.py_func.__name__}"] = kernel, arguments

    backend = DeviceBackend(Notebook(), PACKAGE)
    for method, (_, options) in CALLS.items():
        getattr(backend, method)(*valid(backend, method), **options)
    x, weight, out = (backend.empty(shape) for shape in ((1, 3, 3, 1), (2, 3, 3, 1), (1, 1, 1, 2)))
    backend.fill(x, 0.0)
    backend.conv2d_forward(x, weight, None, out)
    backend.conv2d_input_gradient(out, weight, x)
    backend.epilogue_gradient(out, out, None, out.copy(), epilogue="relu")
    return noted


def test_every_kernel_is_launched(launches):
    kernels = {
        f"{module}.{name}"
        for module in MODULES
        for name in vars(importlib.import_module(f"{PACKAGE}.{module}"))
        if name.endswith("_kernel")
    }
    assert launches.keys() == kernels
    assert kernels > FLOAT32 | PRODUCTS | SHARED


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=str)
def test_ptx_is_what_the_source_means(compiler, launches, capability):
    for name, (kernel, arguments) in launches.items():
        ptx = compiler(kernel, arguments, capability)
        assert ".target sm_{}{}".format(*capability) in ptx
        assert ".local" not in ptx, f"{name} uses local memory"
        assert not re.search(r"\b(atom|red)\.", ptx), f"{name}: the order of a sum is left open"
        assert not re.search(r"\bcall\b", ptx), f"{name} calls a function that was not inlined"
        for what in ("st.shared", "ld.shared", "bar.sync"):
            assert (what in ptx) == (name in SHARED), f"{name}: {what}"
        assert name not in PRODUCTS or "fma.rn.f32" in ptx, f"{name} multiplies, then adds"
        assert name not in FLOAT32 or ".f64" not in ptx, f"{name} computes in float64"


def test_what_is_looked_for_is_found(compiler):
    """Local memory, float64 and atomics show in the PTX of a kernel that uses them."""
    cuda = importlib.import_module("numba.cuda")

    @cuda.jit
    def careless(x, n):
        array = cuda.local.array(64, np.float32)
        for i in range(n):
            array[i % 64] = x[i]
        cuda.atomic.add(x, 0, array[n] * 0.1)

    ptx = compiler(careless, (np.zeros(4, np.float32), 3), (8, 0))
    assert ".local" in ptx
    assert ".f64" in ptx
    assert re.search(r"\b(atom|red)\.", ptx)
