"""Training above frozen layers: ours alone, and beside PyTorch's two ways."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.frozen import summarise

ROOT = Path(__file__).parents[2]
OPTIONS = ["--model", "tiny", "--batch", "4", "--images", "8", "--epochs", "2"]


def run(*options):
    command = [sys.executable, "-m", "bench", "frozen", *OPTIONS, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_ours_alone():
    pytest.importorskip("_fercore_cpu", reason="the compiled module is not installed")
    first, after = run().splitlines()
    assert first.startswith("fercore, first epoch")
    assert after.startswith("fercore ")


def test_against_pytorch():
    pytest.importorskip("torch", reason="PyTorch, the opponent, is not installed")
    result = json.loads(run("--against", "torch", "--json"))
    assert set(result["ratios"]) == {"PyTorch, frozen trunk", "PyTorch, kept features"}
    assert min(result["images_per_s"].values()) > 0


def test_ratios_are_ours_over_theirs():
    result = summarise({"fercore, first epoch": 10.0, "fercore": 90.0, "PyTorch": 30.0})
    assert result["ratios"] == {"PyTorch": 3.0}
