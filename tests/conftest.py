"""Fixtures that every test may use: the backends, each in turn, and a seeded generator."""

from __future__ import annotations

import functools
import os
import zlib

# One thread a process: pytest runs one process a core, and threads that wait for one another across
# processes cost more than they bring. Set before NumPy and the compiled backend read it.
for variable in ("FERCORE_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from fercore import backends  # noqa: E402
from fercore.backends.interface import Backend  # noqa: E402
from fercore.errors import FercoreError  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory):
    """One cache for all processes of a test run, so that a CUDA kernel is compiled once."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if folder.name.startswith("popen-gw") else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERCORE_CACHE", str(shared / "kernel-cache"))
        yield


def pytest_terminal_summary(terminalreporter):
    """What a test that passed has to tell, even from a process of its own."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary" and report.when == "call":
                terminalreporter.write_line(value)


Case = tuple[str, dict[str, str]]
"""A backend's name and its options."""

DTYPES = {"reference": ("float64", "float32")}
"""The dtypes to test a backend in, for the backends that offer a choice."""

BACKENDS: list[Case] = [
    (name, {} if dtype is None else {"dtype": dtype})
    for name in backends.NAMES
    for dtype in DTYPES.get(name, (None,))
]

EXACT: list[Case] = [
    (name, {"convolution": "direct"} if name == "cpu" else options) for name, options in BACKENDS
]
"""Every backend, convolving so that sums of small integers are exact: not by Winograd."""


@functools.cache
def build(name: str, **options: str) -> Backend | str:
    """A backend, or the reason why this machine has none."""
    try:
        return backends.get(name, **options)
    except FercoreError as error:
        return str(error)


def backend_fixture(cases: list[Case]):
    """A fixture that is each of ``cases``; those that cannot run here are skipped, visibly."""

    @pytest.fixture(params=cases, ids=["-".join((name, *o.values())) for name, o in cases])
    def fixture(request: pytest.FixtureRequest) -> Backend:
        name, options = request.param
        built = build(name, **options)
        if isinstance(built, str):
            pytest.skip(built)
        return built

    return fixture


backend = backend_fixture(BACKENDS)
compiled_backend = backend_fixture([case for case in BACKENDS if case[0] != "reference"])
"""Those that get raw pointers, and so have to check what they are given."""


@pytest.fixture
def reference() -> Backend:
    """The float64 reference, on which gradients are checked."""
    return backends.get("reference")


@pytest.fixture
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: the same in every run and every process."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
