"""The tests of every backend, run on ``numba`` in its simulator.

The simulator is a choice for a whole process, so they run in one of their own. In this one they are
skipped, unless there is a GPU; those marked ``large`` would take it hours.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import pytest

TESTS = ("tests/backends", "tests/functions", "tests/test_numba_step.py")
FILES = {
    *("test_augment", "test_batch_norm", "test_batches", "test_contract", "test_conv2d"),
    *("test_dropout", "test_linear", "test_max_pool", "test_memory"),
    *("test_softmax_cross_entropy", "test_updates", "test_numba_step"),
}
"""Those that have to have run: one for each operation, and the whole step."""


def test_the_numba_backend_in_its_simulator(tmp_path, record_property, pytestconfig):
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed; install fercore[test]")
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-k", "numba", "-m", "not large", f"--junit-xml={report}", *TESTS]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["NUMBA_ENABLE_CUDASIM"] = "1"
    start = time.monotonic()
    run = subprocess.run(
        command, env=environment, cwd=pytestconfig.rootpath, capture_output=True, text=True
    )
    seconds = time.monotonic() - start
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    passed = [
        case.get("classname", "").rpartition(".")[2]
        for case in ElementTree.parse(report).iter("testcase")
        if case.find("skipped") is None
    ]
    assert set(passed) >= FILES, f"nothing ran of {FILES - set(passed)}"
    record_property("summary", f"Numba's simulator: {len(passed)} tests passed in {seconds:.0f} s")
