"""Run every check that needs a GPU, the most important first, and write down what came out.

    bench/device_check.sh [--dry-run] [--seconds 540] [--out DIR] [--wheels DIR]

Each stage has a budget and is ended when it is spent; a stage that fails does not stop the next.
What a machine lacks is said, and what depends on it is left out. Results are written while stages
run: in DIR (default: $OUT, else ``bench/results/GPU``) one JSON, one short table and one log.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import device_report
from bench.machine import CANNOT

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("numpy", "cupy", "torch", "numba", "pytest", "xdist", "hypothesis", "pybind11"),
    *("msgspec", "safetensors", "PIL", "rich", "tomli_w"),
)
PROGRAMS = ("nvidia-smi", "nvcc", "g++", "cmake", "compute-sanitizer", "ncu", "nsys", "nvdisasm")
POLL = 1.0  # seconds
LEAST = 5.0  # seconds that are worth beginning a stage for


@dataclass(frozen=True)
class Stage:
    """One command with its budget, what it needs, and where it leaves results."""

    name: str
    command: list[str]
    seconds: float
    needs: tuple[str, ...] = ()
    results: str = ""
    """A JSON file that it writes, or ``stdout`` for the last line that it prints."""
    environment: dict[str, str] = field(default_factory=dict)


def stages(scratch: Path, dry: bool, arch: str) -> list[Stage]:
    """Those of a GPU, or their rehearsal: the same commands at a smaller size."""
    python, device = sys.executable, "emulated" if dry else "cuda"
    torch = ["--against", "torch"] if there("torch") else []
    size = ["--model", "tiny", "--batch", "1" if dry else "2"]

    def tests(name: str, keyword: str, paths: list[str], seconds: float) -> Stage:
        parallel = ["-n", "8"] if there("xdist") and not dry else []
        options = ["-q", "--continue-on-collection-errors", "-p", "no:cacheprovider", *parallel]
        report = scratch / f"{name}.jsonl"
        options += ["-p", "bench.pytest_lines", "--lines", str(report)]
        command = [python, "-m", "pytest", *options, "-k", keyword, *paths]
        return Stage(name, command, seconds, ("pytest",), report.name)

    def step(precision: str, seconds: float, measured: float) -> Stage:
        options = ["--device", device, "--precision", precision, "--json", *torch]
        wide = ["--model", "tiny", "--batch", "1", "--seconds", "0"]
        wide = (
            wide
            if dry
            else ["--batch", "256", "--seconds", f"{measured}", "--budget", f"{seconds - 25}"]
        )
        command = [python, "-m", "bench", "step", *options, *wide]
        return Stage(f"step-{precision}", command, seconds, results="stdout")

    def kernels(name: str, seconds: float, *options: str, tool: tuple[str, ...] = ()) -> Stage:
        report = scratch / f"{name}.json"
        command = [*tool, python, "-m", "bench", "kernels", "--device", device]
        command += ["--budget", str(0.9 * seconds), "--out", str(report), *options]
        return Stage(name, command, seconds, tool[:1], report.name)

    def sanitizer(tool: str, seconds: float) -> Stage:
        memory = () if dry else ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9")
        few = ["--layer", "fc3", "conv4_3"] if dry else []
        return kernels(tool, seconds, "--check", *size, *few, tool=memory)

    kernel_tests = ["tests/cuda_kernels"]
    backend_tests = ["tests/backends", "tests/functions"]
    if dry:
        kernel_tests = [f"tests/cuda_kernels/test_{name}.py" for name in ("runtime", "dropout")]
        backend_tests = ["tests/backends/test_dropout.py", "tests/functions/test_dropout.py"]
    others = ["tests", *(f"--ignore=tests/{name}" for name in ("cuda_kernels", "backends"))]
    others += [f"--ignore=tests/{name}" for name in ("functions", "data", "bench")]
    built, objects = str(scratch / "extension"), ("g++", "cmake", "pybind11")
    configure = ["cmake", "-S", ".", "-B", built, f"-DPython_EXECUTABLE={python}"]
    sweep = size if dry else []
    return [
        Stage("build", [python, "-m", "cuda_kernels", "build", "--arch", arch], 60),
        tests("tests-kernels", "forward" if dry else "gpu", kernel_tests, 100),
        tests("tests-backend", device, backend_tests, 70),
        step("fp32", 110, measured=24),
        kernels("kernels", 110, *sweep, *torch),
        sanitizer("memcheck", 45),
        sanitizer("racecheck", 45),
        *(step(precision, 45, measured=12) for precision in ("bf16", "tf32", "bf16x3")),
        tests("tests-rest", device, ["tests/test_models.py"] if dry else others, 60),
        Stage("configure", configure, 30, objects),
        Stage("extension", ["cmake", "--build", built, "--parallel"], 90, objects),
        Stage(
            "extension-works",
            [python, "-m", "bench", "step", "--model", "tiny", "--batch", "4", "--seconds", "1"],
            30,
            objects,
            environment={"PYTHONPATH": built},
        ),
    ]


def _checks(scratch: Path, folder: Path, given: argparse.Namespace) -> list[Stage]:
    return stages(scratch, given.dry_run, _architecture())


def main(
    argv: list[str] | None = None,
    make: Callable[[Path, Path, argparse.Namespace], list[Stage]] = _checks,
    what: str = "check",
    about: str | None = __doc__,
) -> int:
    """Carry out what ``make(scratch, results' folder, options)`` plans."""
    parser = argparse.ArgumentParser(prog=f"bench/device_{what}.sh", description=about)
    parser.add_argument("--dry-run", action="store_true", help="rehearse it on the emulator")
    parser.add_argument("--seconds", type=float, default=540.0, help="for everything (540)")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="missing packages, to be used")
    if what == "measure":
        parser.add_argument("--data", type=Path, metavar="DIR", help="real images")
    given = parser.parse_args(argv)
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory(prefix="device-check-") as name:
        scratch = Path(name)
        if given.wheels:
            _use_wheels(given.wheels, scratch / "wheels")
        folder = _folder(given.out, given.dry_run)
        report = device_report.Report(folder, scratch, given.dry_run, what)
        report.lacking = [n for n in (*PACKAGES, *PROGRAMS) if not there(n)]
        print(f"results: {report.folder}; missing here: {', '.join(report.lacking) or 'nothing'}")
        for stage in make(scratch, folder, given):
            _run(stage, report, end)
    print(report.table())
    return 1 if any(row["result"] in ("failed", "ended") for row in report.rows) else 0


def _run(stage: Stage, report: device_report.Report, end: float) -> None:
    """Carry a stage out within its budget and what is left of the whole."""
    row: dict[str, Any] = {"stage": stage.name, "result": "running", "seconds": 0.0}
    report.rows.append(row)
    lacking = [need for need in stage.needs if not there(need)]
    limit = min(stage.seconds, end - time.monotonic())
    if lacking or limit < LEAST:
        row["result"] = "left out"
        row["why"] = f"missing: {', '.join(lacking)}" if lacking else "no time left"
    else:
        started = time.monotonic()
        row["result"], row["why"] = _carry_out(stage, limit, row, report)
        row["seconds"] = round(time.monotonic() - started, 1)
    report.collect(stage.name, stage.results, row)
    report.save()
    line = f"{row['stage']:<18}{row['result']:<10}{row['seconds']:>7.1f} s"
    print(f"{line}  {device_report.remark(row)}", flush=True)


def _carry_out(
    stage: Stage, limit: float, row: dict[str, Any], report: device_report.Report
) -> tuple[str, str]:
    """The result of a stage, and a word on it. All that it writes goes to the log."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = stage.environment.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if own:
        environment["PYTHONPATH"] = os.pathsep.join((own, path))
    started = time.monotonic()
    with report.log.open("ab") as log, (report.scratch / "stdout").open("wb") as output:
        log.write(f"\n==== {stage.name}: {' '.join(stage.command)}\n".encode())
        log.flush()
        out = output if stage.results == "stdout" else log
        process = subprocess.Popen(
            stage.command, cwd=ROOT, env=environment, stdout=out, stderr=log, start_new_session=True
        )
        try:
            while process.poll() is None and time.monotonic() < started + limit:
                time.sleep(POLL)
                row["seconds"] = round(time.monotonic() - started, 1)
                report.collect(stage.name, stage.results, row)
                report.save()
        finally:
            if ended := process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if ended:
        return "ended", f"after its {limit:.0f} s"
    if process.returncode == 0:
        return "passed", ""
    last = report.log.read_text(errors="replace").strip().splitlines()[-1]
    return ("left out" if process.returncode == CANNOT else "failed"), last[:200]


def there(*names: str) -> bool:
    """Whether all of these packages or programs are installed."""
    return all(shutil.which(name) or importlib.util.find_spec(name) for name in names)


def _architecture() -> str:
    """``sm_90``, of the GPU that is there; else of one to rehearse for."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "sm_90"
    return f"sm_{answer.split()[0].replace('.', '')}"


def _folder(given: Path | None, dry: bool) -> Path:
    if given or "OUT" in os.environ:
        return (given or Path(os.environ["OUT"])).resolve()
    return ROOT / "build" / "device-check" if dry else device_report.committed_folder(ROOT)


def _use_wheels(folder: Path, site: Path) -> None:
    """Install packages that somebody brought along, for this check alone."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), *map(str, folder.glob("*.whl"))], check=False)
    sys.path.insert(0, str(site))
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), path]))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
