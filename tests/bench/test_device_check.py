"""The device check, as far as it can be known without a GPU that it will work on one."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import device_check, device_report
from bench.device_check import Stage, stages

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[True, False], ids=["dry", "gpu"])
def planned(request, tmp_path, monkeypatch):
    monkeypatch.setattr(device_check, "there", lambda *names: True)
    return stages(tmp_path, request.param, "sm_90")


def test_stages_fit_into_a_ten_minute_machine(planned):
    assert sum(stage.seconds for stage in planned[:5]) <= 540, "those that matter most"
    assert len({stage.name for stage in planned}) == len(planned)


def test_commands_have_options_that_exist(planned):
    """A misspelt one would cost the first minutes on a GPU."""
    seen = set()
    for stage in planned:
        words = stage.command
        if "-m" in words and words[words.index("-m") + 1] == "bench":
            name, *given = words[words.index("-m") + 2 :]
            parser = argparse.ArgumentParser(exit_on_error=False)
            importlib.import_module(f"bench.{name}").add_arguments(parser)
            parser.parse_args(given)
            seen.add(name)
        for word in words:
            if word.startswith(("tests", "--ignore=tests")):
                assert (ROOT / word.removeprefix("--ignore=")).exists(), word
    assert seen == {"kernels", "step"}


def test_keywords_select_tests(planned):
    """Both a GPU's tests and those that stand in for them are collected by name."""
    keywords = {
        stage.name: stage.command[stage.command.index("-k") + 1]
        for stage in planned
        if "pytest" in stage.command
    }
    path = "tests/cuda_kernels/test_dropout.py"
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-k"]
    command = [sys.executable, "-m", "pytest", *options, keywords["tests-kernels"], path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 test" in done.stdout or " tests collected" in done.stdout


def python(name, code, seconds=30.0, **more):
    return Stage(name, [sys.executable, "-c", code], seconds, **more)


def test_stages_fail_hang_and_go_on(monkeypatch, tmp_path, capsys):
    partly = (
        "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('[1]'); time.sleep(60)"
    )

    def planned(scratch, dry, arch):
        hanging = Stage(
            "hangs", [sys.executable, "-c", partly, str(scratch / "x.json")], 6.0, (), "x.json"
        )
        return [
            python("fails", "raise SystemExit('the reason')"),
            hanging,
            python("cannot", "import sys; print('no GPU', file=sys.stderr); sys.exit(3)"),
            python("needs", "", needs=("a-package-that-nobody-has",)),
            python("prints", "print('{\"a\": 1}')", results="stdout"),
        ]

    monkeypatch.setattr(device_check, "stages", planned)
    monkeypatch.setattr(device_check, "POLL", 0.1)
    assert device_check.main(["--dry-run", "--out", str(tmp_path)]) == 1
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    outcome = {row["stage"]: (row["result"], row["why"]) for row in content["stages"]}
    assert outcome == {
        "fails": ("failed", "the reason"),
        "hangs": ("ended", "after its 6 s"),
        "cannot": ("left out", "no GPU"),
        "needs": ("left out", "missing: a-package-that-nobody-has"),
        "prints": ("passed", ""),
    }
    assert content["results"] == {"hangs": [1], "prints": {"a": 1}}, "what was done is kept"
    assert "| hangs | ended |" in next(tmp_path.glob("*.md")).read_text()
    assert "the reason" in capsys.readouterr().out


def test_tests_are_counted_as_they_end(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "def test_right(): pass\n"
        "def test_wrong(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='no GPU')\n"
        "def test_skipped(): pass\n"
    )
    (tmp_path / "test_b.py").write_text("import a_package_that_nobody_has\n")
    lines = tmp_path / "lines.jsonl"
    options = ["-q", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    options += ["-p", "bench.pytest_lines", "--lines", str(lines), "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, "-c", "/dev/null", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True)
    report = device_report.Report(tmp_path / "out", tmp_path, dry=True)
    row = {"stage": "tests", "result": "failed", "seconds": 1.0}
    report.rows.append(row)
    report.collect("tests", lines.name, row)
    assert device_report.remark(row) == "1 passed, 1 skipped, 1 failed, 1 could not run"
    assert "test_a.py::test_wrong: assert 1 == 2" in report.table()
    assert "No module named 'a_package_that_nobody_has'" in report.table()


@pytest.mark.parametrize(
    ("outcomes", "result", "judged"),
    [
        (["passed"] * 3 + ["skipped"], "passed", "passed"),
        (["skipped"] * 3, "passed", "left out"),
        ([], "passed", "left out"),
        (["passed", "could not run"], "failed", "partly"),
        (["passed", "failed", "could not run"], "failed", "failed"),
    ],
)
def test_what_a_stage_of_tests_shows(tmp_path, outcomes, result, judged):
    lines = [json.dumps({"test": "t", "outcome": o, "message": "m"}) for o in outcomes]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    row = {"stage": "tests", "result": result, "seconds": 1.0}
    device_report.Report(tmp_path, tmp_path, dry=True).collect("tests", "x.jsonl", row)
    assert row["result"] == judged


def test_the_table_of_a_gpu(tmp_path):
    report = device_report.Report(tmp_path, tmp_path, dry=False)
    report.machine["gpu"] = {"name": "NVIDIA H100", "driver_version": "580", "power.limit": "700 W"}
    key = {"operation": "conv2d_forward", "layer": "conv1_2", "precision": "fp32", "batch": 1024}
    fast = {"us": 50.0, "TFLOP_s": 100.0, "percent_of_floor": 61.4, "torch_us": 80.0}
    report.results = {
        "kernels": {
            "rates": {"copy": 3e12, "bf16": 790e12},
            "rows": [
                key | {"version": 1, "us": 100.0, "TFLOP_s": 50.0},
                key | fast | {"version": 2},
                key | {"version": 3, "wrong": "relative error 0.1"},
                key | {"version": 4, "refused": "no"},
            ],
        },
        "step-fp32": {
            "model": "svgg10",
            "precision": "fp32",
            "batch": 256,
            "images_per_s": 10.0,
            "configuration": "fercore cuda graph",
            "ratio": 2.0,
            "opponent": "torch bf16",
            "opponent_images_per_s": 5.0,
        },
    }
    lines = report.table().splitlines()
    assert lines[0].startswith("# NVIDIA H100, 20")
    assert "| svgg10 fp32 | 256 | 10.0 (fercore cuda graph) | 5.0 | torch bf16 | 2.0 |" in lines
    assert "| conv1_2 | conv2d_forward | fp32 | 2 | 50.0 | 100.0 | 61 % | 80.0 |" in lines
    assert "* conv1_2 conv2d_forward fp32 v3: relative error 0.1" in lines
    assert not any("| 1 | 100.0" in line for line in lines), "only the fastest version"
