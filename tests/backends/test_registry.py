"""``fercore.backends``: names to backends, and sentences for those that cannot be had."""

import subprocess
import sys

import pytest

from fercore import backends
from fercore.backends.interface import Backend
from fercore.errors import FercoreError


@pytest.fixture
def no_compiled_module(monkeypatch):
    """Nor a GPU that ``auto`` could take instead."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "fercore.backends.cpu", raising=False)
    monkeypatch.setitem(sys.modules, "_fercore_cpu", None)  # makes importing it fail


@pytest.mark.parametrize("name", backends.NAMES)
def test_a_name_is_built_or_refused_with_a_reason(name):
    try:
        backend = backends.get(name)
    except FercoreError as error:
        pytest.skip(str(error))
    assert isinstance(backend, Backend)
    assert backend.name == name


def test_options_reach_the_backend():
    assert backends.get("reference").dtype == "float64"
    assert backends.get("reference", dtype="float32").dtype == "float32"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("gpu", "did you mean 'cuda'"),
        ("CPU", "did you mean 'cpu'"),
        ("tpux", "choose from auto, cuda, cpu, reference, emulated"),
    ],
)
def test_an_unknown_name_gets_a_hint(name, mend):
    with pytest.raises(FercoreError, match=f"there is no device '{name}'; {mend}"):
        backends.get(name)


@pytest.mark.parametrize("name", ["cpu", "reference", "numba"])
def test_other_backends_refuse_the_precisions_of_tensor_cores(name):
    for precision in ("tf32", "bf16x3", "bf16"):
        message = f"backend {name} computes in fp32, not in {precision}; choose precision fp32"
        with pytest.raises(FercoreError, match=message):
            backends.get(name, precision=precision)
    backends.check_precision(name, "fp32")


def test_auto_without_a_gpu_refuses_the_precisions_of_tensor_cores(no_compiled_module):
    message = r"device auto: tf32 is for GPUs, and backend cuda: CuPy is missing"
    with pytest.raises(FercoreError, match=message):
        backends.get("auto", precision="tf32")


def test_reference_refuses_dtypes_that_do_not_float():
    with pytest.raises(ValueError, match="int32"):
        backends.get("reference", dtype="int32")


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_cpu_without_its_compiled_module_says_how_to_build_it(no_compiled_module, name):
    with pytest.raises(FercoreError, match="pip install"):
        backends.get(name)


def test_describe_tells_what_a_backend_is_or_why_it_is_not(no_compiled_module):
    assert backends.describe("reference").startswith("reference (float64): NumPy")
    assert backends.describe("cpu").startswith("cpu: not available (")


def test_importing_the_registry_loads_no_numpy():
    code = "import sys, fercore.backends; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
