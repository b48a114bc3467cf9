"""What a device check leaves behind: one dated JSON, one short table and the log of all stages."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import machine

NOTES = 12  # lines about tests that failed or could not run


def committed_folder(root: Path) -> Path:
    """Where results of this machine's GPU belong."""
    return root / "bench" / "results" / machine.gpu_name()


class Report:
    """The results so far; ``save`` writes them all."""

    def __init__(self, folder: Path, scratch: Path, dry: bool, what: str = "check") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        today = datetime.date.today().isoformat()
        self.folder, self.scratch = folder, scratch
        self.name = f"{today}-{what}{'-dry-run' if dry else ''}"
        self.suffix = ", rehearsed on the emulator" if dry else ""
        self.log = folder / f"{self.name}.log"
        self.log.write_bytes(b"")
        self.machine = machine.describe()
        self.lacking: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}

    def collect(self, stage: str, source: str, row: dict[str, Any]) -> None:
        """Read what a stage has written so far: a test report, a sweep or a printed object."""
        path = self.scratch / source
        if not source or not path.is_file():
            return
        try:
            if source.endswith(".jsonl"):
                self.results[stage] = _tests(path)
                row["tests"] = _counts(self.results[stage])
                self._judge(row, self.results[stage])
            elif text := path.read_text().strip():
                self.results[stage] = json.loads(
                    text.splitlines()[-1] if source == "stdout" else text
                )
        except ValueError:
            return  # half written

    @staticmethod
    def _judge(row: dict[str, Any], tests: dict[str, Any]) -> None:
        """Tests that were mostly skipped show nothing; a missing package is no fault."""
        if row["result"] == "passed" and tests["passed"] <= tests["skipped"]:
            row["result"], row["why"] = (
                "left out",
                tests.get("first skipped", "no test has this name"),
            )
        elif row["result"] == "failed" and tests["could not run"] and not tests["failed"]:
            row["result"], row["why"] = "partly", "packages are missing"

    def save(self) -> None:
        content = {
            "machine": self.machine,
            "missing": self.lacking,
            "stages": self.rows,
            "results": self.results,
        }
        (self.folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.folder / f"{self.name}.md").write_text(self.table())

    def table(self) -> str:
        """Markdown, short enough to be read whole."""
        gpu = self.machine.get("gpu", {})
        lines = [
            f"# {gpu.get('name', 'No GPU')}{self.suffix}, {self.machine['date']}",
            "",
            f"driver {gpu.get('driver_version', '-')}, {gpu.get('power.limit', '-')}, "
            + ", ".join(f"{name} {v}" for name, v in self.machine["versions"].items()),
            *([f"missing: {', '.join(self.lacking)}"] if self.lacking else []),
            "",
            *("| stage | result | s | |", "|---|---|---|---|"),
            *(
                f"| {row['stage']} | {row['result']} | {row['seconds']} | {remark(row)} |"
                for row in self.rows
            ),
            *self._notes(),
            *self._steps(),
            *self._fusions(),
            *self._repeats(),
            *self._studies(),
            *self._kernels(),
        ]
        return "\n".join(lines) + "\n"

    def _notes(self) -> Iterator[str]:
        for stage, tests in self.results.items():
            if stage.startswith("tests"):
                notes = tests["failed"] + tests["could not run"]
                yield from (f"* {note}" for note in notes[:NOTES])

    def _steps(self) -> Iterator[str]:
        steps = [r for name, r in self.results.items() if name.startswith("step")]
        if steps:
            yield from ("", "| step | batch | ours, images/s | PyTorch | its best | ratio |")
            yield "|---|---|---|---|---|---|"
        for step in steps:
            what = f"| {step['model']} {step['precision']} | {step['batch']} "
            theirs = " | ".join(
                str(step.get(key, "-")) for key in ("opponent_images_per_s", "opponent", "ratio")
            )
            yield f"{what}| {step['images_per_s']} ({step['configuration']}) | {theirs} |"

    def _fusions(self) -> Iterator[str]:
        found = self.results.get("ablation")
        if found:
            yield from ("", "| a step without | saved, us | MB | at the rate of a copy, us |")
            yield "|---|---|---|---|"
        for row in found["rows"] if found else []:
            yield (
                f"| {row['without']} | {row['saved_seconds'] * 1e6:.1f} | {row['bytes'] / 1e6:.1f} "
                f"| {row['predicted_seconds'] * 1e6:.1f} |"
            )

    def _repeats(self) -> Iterator[str]:
        for name, found in self.results.items():
            if name.startswith("repeat"):
                ways = ", ".join(found["digests"])
                same = "the same bits" if found["same"] else "DIFFERENT BITS"
                yield from ("", f"{found['precision']}, {found['steps']} steps, {ways}: {same}")

    def _studies(self) -> Iterator[str]:
        parts = [p for n, r in self.results.items() if n.startswith("study") for p in r["parts"]]
        if parts:
            yield from ("", "| training | s | an epoch, s | images/s | |", "|---|---|---|---|---|")
        for part in parts:
            if "failed" in part:
                yield f"| {part['part']} | {part['seconds']} | - | - | {part['failed']} |"
                continue
            sets = [line["validation"].values() for line in part["epochs"]]
            best = max(max(one["accuracy"] for one in several) for several in sets)
            yield (
                f"| {part['part']} | {part['seconds']} | {part['epoch_seconds']} "
                f"| {part['images_per_s']} | validation accuracy {best:.2%} |"
            )

    def _kernels(self) -> Iterator[str]:
        sweep = self.results.get("kernels")
        if not sweep:
            return
        rates = ", ".join(f"{name} {rate / 1e12:.4g} T/s" for name, rate in sweep["rates"].items())
        yield from ("", f"Kernels, batch as given, the fastest version of each; {rates}", "")
        yield "| layer | operation | precision | v | us | TFLOP/s | of the floor | PyTorch, us |"
        yield "|---|---|---|---|---|---|---|---|"
        best: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in sweep["rows"]:
            key = tuple(row[n] for n in ("layer", "operation", "precision", "batch"))
            if row.get("us", 1e30) < best.get(key, {"us": 1e30})["us"] and row["TFLOP_s"] > 0:
                best[key] = row
        for row in best.values():
            share = f"{row['percent_of_floor']:.0f} %" if "percent_of_floor" in row else "-"
            torch = f"{row['torch_us']:.1f}" if "torch_us" in row else "-"
            yield (
                f"| {row['layer']} | {row['operation']} | {row['precision']} | {row['version']} "
                f"| {row['us']:.1f} | {row['TFLOP_s']:.1f} | {share} | {torch} |"
            )
        wrong = [row for row in sweep["rows"] if "wrong" in row or "failed" in row]
        yield from (
            f"* {row['layer']} {row['operation']} {row['precision']} v{row['version']}: "
            f"{row.get('wrong') or row.get('failed')}"
            for row in wrong
        )


def _tests(path: Path) -> dict[str, Any]:
    """Counts, and a line for each test that failed and each file that could not be imported."""
    found: dict[str, Any] = {"passed": 0, "skipped": 0, "failed": [], "could not run": []}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if isinstance(found[line["outcome"]], list):
            found[line["outcome"]].append(f"{line['test']}: {line['message']}")
        else:
            found[line["outcome"]] += 1
        if line["outcome"] == "skipped":
            found.setdefault("first skipped", line["message"])
    return found


def remark(row: dict[str, Any]) -> str:
    return "; ".join(row[key][:160] for key in ("tests", "why") if row.get(key))


def _counts(tests: dict[str, Any]) -> str:
    names = ("passed", "skipped", "failed", "could not run")
    numbers = {name: n if isinstance(n := tests[name], int) else len(n) for name in names}
    return ", ".join(f"{count} {name}" for name, count in numbers.items() if count)
