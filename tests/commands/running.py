"""Command lines that are run."""

import os
import subprocess
import sys
from pathlib import Path

from fercore import cli

ROOT = Path(__file__).parents[2]

QUICK = [
    *("--model", "tiny", "--epochs", "1", "--finetune-epochs", "1"),
    *("--set", "finetune.min_steps=0", "--set", "recipe.batch_size=16"),
]


def fails(capsys, *arguments, status=2):
    """Run a command that must fail with one line; the line."""
    assert cli.main(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("fercore-train: error: ")
    assert error.count("\n") == 1
    return error


def python(*arguments, **options):
    """Run another Python on the same code; what it did."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, **options
    )
