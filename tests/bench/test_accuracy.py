"""One epoch by each trainer, on a few drawn faces."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faces import write_folder

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("trainer", ["direct", "winograd", "pytorch"])
def test_a_trainer_says_what_its_best_epoch_scores(trainer, tmp_path):
    pytest.importorskip("_fercore_cpu", reason="the compiled module is not installed")
    if trainer == "pytorch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    data = f"drawn=folder:{write_folder(tmp_path / 'faces', 4, seed=1)}"
    options = ["--data", data, "--trainer", trainer, "--recipe", '{"epochs": 1}']
    command = [sys.executable, "-m", "bench", "accuracy", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    epoch, best = done.stdout.splitlines()
    assert epoch.startswith("epoch 1: loss ")
    assert best.startswith(f"{trainer} tiny, seed 0: best epoch 1, validation ")
