"""A pytest plugin: a JSON line a test, as soon as it is known. ``-p bench.pytest_lines``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--lines", type=Path, metavar="FILE", help="where to write them")


def pytest_configure(config: Any) -> None:
    path = config.getoption("--lines")
    if path and not hasattr(config, "workerinput"):  # xdist's workers report to the one that writes
        config.pluginmanager.register(_Lines(path))


class _Lines:
    def __init__(self, path: Path) -> None:
        self.file = path.open("w", buffering=1)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or not report.passed:
            self._write(report)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._write(report)

    def _write(self, report: Any) -> None:
        errors = [line[1:].strip() for line in report.longreprtext.splitlines() if line[:2] == "E "]
        missing = [line for line in errors if line.startswith("ModuleNotFoundError")]
        outcome = "could not run" if missing else report.outcome
        reason = [report.longrepr[2]] if isinstance(report.longrepr, tuple) else []  # of a skip
        message = (missing or errors or reason or [""])[0][:200]
        line = {"test": report.nodeid, "outcome": outcome, "message": message}
        self.file.write(json.dumps(line) + "\n")
