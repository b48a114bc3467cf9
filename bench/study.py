"""The protocol and short trainings on real images, as a user runs them: time and accuracy.

``protocol`` is the whole study with its target; ``--fit DEVICE:PRECISION`` trains the source alone
in each of several ways from one seed, so that their accuracies lie side by side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import machine
from fercore import models

COMMAND = [sys.executable, "-c", "from fercore.cli import main; raise SystemExit(main())"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", required=True, metavar="NAME=PATH")
    parser.add_argument("--target", metavar="NAME=PATH", help="without one: no protocol")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--model", default="svgg10", choices=models.NAMES)
    parser.add_argument("--epochs", type=int, help="of the protocol (the recipe's)")
    parser.add_argument("--short", action="store_true", help="two strategies, few updates")
    parser.add_argument("--fit", nargs="+", default=[], metavar="DEVICE:PRECISION")
    parser.add_argument("--fit-model", default="tiny", choices=models.NAMES)
    parser.add_argument("--fit-epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="written part by part")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    result: dict[str, Any] = {"benchmark": "study", "machine": machine.describe(), "parts": []}
    with tempfile.TemporaryDirectory(prefix="bench-study-") as name:
        for number, part in enumerate(parts(arguments)):
            result["parts"].append(carry_out(*part, Path(name) / str(number)))
            print(describe(result["parts"][-1]), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if any("failed" in part for part in result["parts"]):
        raise SystemExit("bench study: a part failed")


def parts(arguments: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """What is run, by name."""
    found = []
    for way in arguments.fit:
        device, _, precision = way.partition(":")
        words = ["fit", arguments.source, "--model", arguments.fit_model, "--device", device]
        words += ["--precision", precision or "fp32", "--epochs", str(arguments.fit_epochs)]
        found.append((f"fit {way}", words))
    if arguments.target:
        words = ["protocol", "--source", arguments.source, "--target", arguments.target]
        words += ["--model", arguments.model, "--device", arguments.device]
        words += ["--precision", arguments.precision]
        words += ["--epochs", str(arguments.epochs)] if arguments.epochs else []
        if arguments.short:
            words += [
                "--finetune-epochs",
                "1",
                "--set",
                "recipe.min_steps=1",
                "--strategies",
                "BL,FC",
            ]
        found.append(("protocol", words))
    return found


def carry_out(name: str, words: list[str], folder: Path) -> dict[str, Any]:
    """Seconds of it all and of its epochs, and what the networks scored."""
    started = time.perf_counter()
    command = [*COMMAND, *words, "--out", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    part: dict[str, Any] = {"part": name, "seconds": round(time.perf_counter() - started, 2)}
    if done.returncode:
        return part | {"failed": done.stdout.strip().splitlines()[-1][:300]}
    lines = [json.loads(line) for line in _metrics(folder).read_text().splitlines()]
    part["epoch_seconds"] = statistics.median(line["seconds"] for line in lines)
    part["images_per_s"] = statistics.median(line["images_per_s"] for line in lines)
    part["epochs"] = lines
    if (results := folder / "results.json").is_file():
        part["records"] = json.loads(results.read_text())
    return part


def _metrics(folder: Path) -> Path:
    """Of the only run, or of the first of a study."""
    return next(path for path in sorted(folder.rglob("metrics.jsonl")))


def describe(part: dict[str, Any]) -> str:
    if "failed" in part:
        return f"{part['part']:<18}failed: {part['failed']}"
    return (
        f"{part['part']:<18}{part['seconds']:>8.1f} s; an epoch {part['epoch_seconds']:.2f} s, "
        f"{part['images_per_s']:,.0f} images/s"
    )
