"""What two sweeps say."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def row(layer, us=None, spread=0.001, **more):
    key = {"call": "conv2d_forward", "operation": "conv2d_forward", "precision": "fp32"}
    measured = {} if us is None else {"us": us, "spread": spread}
    return key | {"layer": layer, "version": 1, "batch": 8} | measured | more


def compare(tmp_path, old, new, *options, emulated=False):
    for name, rows in (("old", old), ("new", new)):
        sweep = {"emulated": emulated, "machine": {"gpu": {"name": "H100"}}, "rows": rows}
        (tmp_path / name).write_text(json.dumps(sweep))
    command = [sys.executable, "-m", "bench", "compare", str(tmp_path / "old")]
    command += [str(tmp_path / "new"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


OLD = [row("a", 100), row("b", 100), row("c", 100, spread=0.3), row("d", 100), row("e", 100)]
NEW = [
    *(row("a", 200), row("b", 50), row("c", 120, spread=0.3), row("d", 101)),
    *(row("e", refused="needs sm_90"), row("f", 7)),
]


def test_differences_beyond_noise(tmp_path):
    done = compare(tmp_path, OLD, NEW)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "  2.00x faster  100.0 -> 50.0 us  conv2d_forward b conv2d_forward fp32 1 8",
        "  2.00x slower  100.0 -> 200.0 us  conv2d_forward a conv2d_forward fp32 1 8",
        "lost: conv2d_forward e conv2d_forward fp32 1 8 (needs sm_90)",
        "gained: conv2d_forward f conv2d_forward fp32 1 8",
        "4 compared: 1 faster, 1 slower beyond noise",
    ]


def test_regressions_fail_only_when_asked(tmp_path):
    assert compare(tmp_path, OLD, NEW, "--fail-on-regression").returncode == 1
    assert compare(tmp_path, OLD, OLD, "--fail-on-regression").returncode == 0


def test_emulated_times_are_not_compared(tmp_path):
    done = compare(tmp_path, [], [], emulated=True)
    assert done.returncode == 1
    assert "emulated times say nothing about a GPU" in done.stderr


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x").write_text("[]")
    command = [sys.executable, "-m", "bench", "compare", str(tmp_path / "x"), str(tmp_path / "y")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is no sweep of kernels" in done.stderr
