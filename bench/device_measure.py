"""Measure everything that only a GPU can decide, the most important first, and write it down.

    bench/device_measure.sh [--dry-run] [--data DIR] [--seconds 540] [--out DIR] [--wheels DIR]

``--data`` is a folder with FER2013 (``fer2013*.zip``) and CK+48 (``ck48.zip``); without them drawn
faces stand in. Stages, results and their files are those of ``bench/device_check.sh``, which tells
whether the kernels are right: run that first.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from bench import device_check
from bench.device_check import Stage, there
from cuda_kernels import specs
from cuda_kernels.tiles import LARGE

FERCORE = [sys.executable, "-c", "from fercore.cli import main; raise SystemExit(main())"]
SHORT = ["--epochs", "1", "--fit-epochs", "1", "--short"]  # a study that is rehearsed
SETTING_UP = 25.0  # seconds of a stage in which no opponent begins


def stages(scratch: Path, folder: Path, given: argparse.Namespace) -> list[Stage]:
    """Those of a GPU, or their rehearsal: one of each kind, at a smaller size."""
    dry: bool = given.dry_run
    device = "emulated" if dry else "cuda"
    torch = ["--against", "torch"] if there("torch") else []
    bench = [sys.executable, "-m", "bench"]
    on = ["--device", device]

    def step(precision: str, batch: int, seconds: float) -> Stage:
        size = ["--batch", str(batch), "--seconds", str(seconds / 3)]
        size += ["--budget", str(seconds - SETTING_UP)]
        if dry:
            size = ["--model", "tiny", "--batch", "1", "--seconds", "0"]
        words = [*bench, "step", *on, "--precision", precision, *size, "--json", *torch]
        return Stage(f"step-{precision}-{batch}", words, seconds, results="stdout")

    def ours(name: str, words: list[str], seconds: float, *needs: str) -> Stage:
        """A benchmark that writes its results while it runs."""
        report = scratch / f"{name}.json"
        return Stage(name, [*bench, *words, "--out", str(report)], seconds, needs, report.name)

    def repeat(precision: str) -> Stage:
        size = ["--model", "tiny", "--batch", "1", "--steps", "2"] if dry else ["--steps", "50"]
        words = [*bench, "repeat", *on, "--precision", precision, "--json", *size]
        return Stage(f"repeat-{precision}", words, 90 if dry else 30, results="stdout")

    def study(name: str, words: list[str], seconds: float, *needs: str) -> Stage:
        source, target = images(scratch, given.data)
        few = [*SHORT, "--model", "tiny"] if dry else []
        whole = ["study", "--source", source, *few, *words]
        return ours(
            name, whole + (["--target", target] if name == "study" else []), seconds, *needs
        )

    sweep = ["kernels", *on, "--budget", "100", *torch]
    sweep += ["--layer", "fc3", "--model", "tiny", "--batch", "1"] if dry else []
    fused = ["ablation", *on, "--precision", "bf16"]
    fused += (
        ["--model", "tiny", "--batch", "1", "--seconds", "0", "--fusion", "relu"] if dry else []
    )
    profile = [*FERCORE, "profile", *on, "--precision", "bf16", "--json"]
    profile += ["--trace", str(folder / "step.trace.json")]
    profile += ["--model", "tiny", "--batch", "1", "--images", "1"] if dry else ["--batch", "256"]
    profile += ["--seconds", "0" if dry else "5"]
    # The emulator takes seconds for an image, so training is rehearsed on the cpu.
    where = ["--device", "cpu", "--precision", "fp32"] if dry else ["--device", "cuda"]
    ways = ["cpu:fp32"] if dry else ["cuda:bf16", "cuda:fp32"]
    one = _newest("conv2d_forward")
    once = [*bench, "kernels", "--layer", "conv3_2", "--batch", "256", "--profile", one]
    counters = ["ncu", "--clock-control", "none", "--set", "basic", "-k", one, *once]
    timeline = [
        "nsys",
        "profile",
        "-t",
        "cuda,nvtx",
        "--stats",
        "true",
        "-o",
        str(scratch / "step"),
    ]
    timeline += [*bench, "step", *on, "--precision", "bf16", "--batch", "256", "--seconds", "1"]
    extension = ("_fercore_cpu", "msgspec")
    return [
        step("bf16", 256, 95),
        *([] if dry else [step("bf16", 1024, 75)]),
        *(step(precision, 256, 50) for precision in ([] if dry else ["fp32", "tf32", "bf16x3"])),
        ours("kernels", sweep, 110),
        ours("ablation", fused, 90 if dry else 45, "msgspec"),
        *(repeat(precision) for precision in (["bf16"] if dry else ["bf16", "fp32"])),
        Stage("profile", profile, 40, ("msgspec",), "stdout"),
        *([] if given.data else [Stage("faces", _draw(scratch), 60, ("msgspec",))]),
        study("study", [*where, "--fit", *ways], 200, "msgspec", "tomli_w"),
        *([] if dry else [Stage("counters", counters, 40, ("ncu",))]),
        *([] if dry else [Stage("timeline", timeline, 40, ("nsys",))]),
        *([] if dry else [study("study-cpu", ["--fit", "cpu:fp32"], 90, *extension)]),
    ]


def images(scratch: Path, data: Path | None) -> tuple[str, str]:
    """Source and target as the command line has them; drawn where no data are given."""
    if data is None:
        return tuple(f"{name}={scratch / 'faces' / name}" for name in ("fer2013", "ckplus"))
    whole = sorted(data.glob("fer2013*.zip"), key=lambda path: -path.stat().st_size)
    if not whole or not (data / "ck48.zip").is_file():
        raise SystemExit(f"{data}: holds no fer2013*.zip, or no ck48.zip")
    return f"fer2013={whole[0].resolve()}", f"ckplus={(data / 'ck48.zip').resolve()}"


def _draw(scratch: Path) -> list[str]:
    """Both datasets, small, by one program."""
    code = (
        "import sys; from fercore.cli import main; "
        "sys.exit(any(main(['synth', f'{sys.argv[1]}/{name}', '--only', name, '--scale', '0.1'])"
        " for name in ('fer2013', 'ckplus')))"
    )
    return [sys.executable, "-c", code, str(scratch / "faces")]


def _newest(operation: str) -> str:
    """The newest kernel in bf16 of an operation; of those that differ by tile, the largest."""
    found = [
        kernel
        for kernel in specs.kernels()
        if (kernel.operation, kernel.precision) == (operation, "bf16")
        and kernel.tile in (None, LARGE)
    ]
    return max(found, key=lambda kernel: kernel.version).name


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(device_check.main(make=stages, what="measure", about=__doc__))
