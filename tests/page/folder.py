"""A run directory written by hand, so that every figure in it is known."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from fercore import answers
from fercore.data.dataset import BASIC, CLASSES
from fercore.run_directory import RunDirectory
from tests.records import record

PARTS = {"train": 4, "validation": 2, "test": 3}
"""Images of each class in each part."""

TESTED = 7 * PARTS["test"]
VALIDATED = 7 * PARTS["validation"]

CONFIG = """\
strategies = ["BL", "FC", "FU", "TO"]
amounts = [50, 100]
model = "tiny"
seed = 0
seeds = 1
out = "run"

[source]
name = "src"
format = "folder"
path = "/faces/src"
"""


@dataclass(frozen=True)
class Column:
    """A run to write: what it is, and how many test images of each set it gets right."""

    strategy: str
    amount: int | None
    source: int
    target: int


STUDY = (
    Column("BL", None, 18, 8),
    Column("FC", 50, 12, 11),
    Column("FC", 100, 10, 14),
    Column("FU", 50, 18, 12),
    Column("FU", 100, 19, 17),
    Column("TO", 50, 4, 9),
    Column("TO", 100, 5, 13),
)


class StudyFolder:
    """Writes a run directory at ``path``: datasets at once, runs one by one."""

    def __init__(self, path: Path, targets=("tgt",), synthetic=False, seeds=1, split=True):
        self.path, self.targets, self.synthetic, self.seeds = path, targets, synthetic, seeds
        self.shared_classes = 7
        path.mkdir()
        (path / "config.toml").write_text(CONFIG.replace("seeds = 1", f"seeds = {seeds}"))
        (path / "environment.json").write_text('{"fercore": "0.1.0", "processor": "abacus"}\n')
        facts = {name: self.facts(name) for name in ("src", *targets)}
        (path / "datasets.json").write_text(json.dumps(facts))
        if split:
            for name in ("src", *targets):
                self.write_manifest(name)

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.path)

    def facts(self, name: str) -> dict:
        return {
            "format": "folder",
            "synthetic": self.synthetic,
            "images": {part: 7 * each for part, each in PARTS.items()},
            "shares": {} if name == "src" else {"50": 14},
            "digest": f"digest of {name}",
            "notes": [f"A note on {name}."],
            "skipped": [["bad.png", "is no image"]] if name == "src" else [],
        }

    def write_manifest(self, name: str, **changes: str) -> None:
        """The split of a dataset; ``changes`` maps a file's number to its digest."""
        for folder, train in ((self.path / "splits", 4), (self.path / "splits" / "50", 2)):
            folder.mkdir(parents=True, exist_ok=True)
            rows = []
            for part, each in PARTS.items():
                for label in CLASSES[:BASIC]:
                    for number in range(train if part == "train" else each):
                        file = f"{label}/{part}-{number}.png"
                        digest = changes.get(file, sha256(f"{name} {file}".encode()).hexdigest())
                        rows.append([file, f"{part}{number}", "", label, part, digest])
            with open(folder / f"{name}.csv", "w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["file", "subject", "group", "label", "split", "sha256"])
                writer.writerows(rows)

    def write_study(self, columns=STUDY, shared_classes=7) -> None:
        """Every run, and the study's own ``results.json``."""
        self.shared_classes = shared_classes
        records = []
        for seed in range(self.seeds):
            for column in columns:
                records += self.write_run(column, seed)
        self.finish(records)

    def finish(self, records) -> None:
        (self.path / "results.json").write_text(json.dumps(msgspec.to_builtins(records)))

    def write_run(self, column: Column, seed=0, tested=True, with_answers=True) -> list:
        """A run on every target, or BL; its records."""
        records = []
        for target in self.targets if column.amount else (None,):
            records += self._write_run(column, target, seed, tested, with_answers)
        return records

    def _write_run(self, column, target, seed, tested, with_answers) -> list:
        suffix = f"-s{seed}" if self.seeds > 1 else ""
        name = column.strategy if target is None else f"{target}-{column.strategy}-{column.amount}"
        folder = self.path / "runs" / f"{name}{suffix}"
        folder.mkdir(parents=True)
        both = ["src"] if target is None else ["src", target] if column.strategy == "FU" else []
        trains_on = both or [target]
        facts = {
            "id": f"{name}{suffix}",
            "strategy": {"name": column.strategy, "trainable": ["all"]},
            "target": target,
            "amount": column.amount,
            "seed": seed,
            "starts_from": f"BL{suffix}" if column.strategy in ("FC", "RE") else None,
            "trains_on": [
                {
                    "dataset": dataset,
                    "part": "train",
                    "percent": 100 if dataset == "src" else column.amount,
                }
                for dataset in trains_on
            ],
            "choose_on": ["source" if target is None else "target"],
        }
        (folder / "run.json").write_text(json.dumps({"fingerprint": "x", "run": facts}))
        (folder / "state.json").write_text('{"status": "finished", "epoch": 3, "epochs": 3}')
        self._write_epochs(folder, target)
        if not tested:
            return []
        records = [
            self._record(column, f"{name}{suffix}", other, seed)
            for other in ([target] if target else self.targets or (None,))
        ]
        content = {"records": msgspec.to_builtins(records), "network": "", "tested": {}}
        (folder / "results.json").write_text(json.dumps(content))
        if with_answers:
            right = dict.fromkeys([target] if target else self.targets, column.target)
            right["src"] = column.source
            logits = {}
            for dataset, count in right.items():
                logits[dataset, "test"] = logits_of(PARTS["test"], count)
                logits[dataset, "validation"] = logits_of(PARTS["validation"], 7)
            digests = {dataset: f"digest of {dataset}" for dataset in right}
            answers.write(folder, logits, digests)
        return records

    def _write_epochs(self, folder: Path, target: str | None) -> None:
        lines = []
        for epoch, (source, other) in enumerate([(0.5, 0.25), (0.75, 0.625), (0.5, 0.5)], 1):
            validation = {"source": {"accuracy": source, "loss": 1.0, "n": VALIDATED}}
            if target is not None:
                validation["target"] = {"accuracy": other, "loss": 1.0, "n": VALIDATED}
            line = {
                "epoch": epoch,
                "steps": epoch,
                "train_loss": 1.0,
                "train_accuracy": epoch / 4,
                "validation": validation,
                "best": epoch < 3,
                "seconds": 20.0,
            }
            lines.append(json.dumps(line) + "\n")
        (folder / "metrics.jsonl").write_text("".join(lines))

    def _record(self, column: Column, run: str, target: str | None, seed: int):
        made = record(
            column.strategy,
            column.amount,
            column.source / TESTED,
            column.target / TESTED,
            run=run,
            seed=seed,
            synthetic=self.synthetic,
            n_source=TESTED,
            n_target=TESTED,
            source_confusion=confusion(column.source),
            target_confusion=confusion(column.target),
            shared_classes=self.shared_classes,
        )
        made = msgspec.structs.replace(made, source="src", target=target)
        if target is None:
            none = [
                name for name in made.__struct_fields__ if name.startswith(("target_", "n_target"))
            ]
            made = msgspec.structs.replace(made, **dict.fromkeys(none))
        return made


def predictions(each: int, right: int) -> list[int]:
    """The first ``right`` images get their own class, the others the next one."""
    labels = [label for label in range(7) for _ in range(each)]
    return [label if row < right else (label + 1) % 7 for row, label in enumerate(labels)]


def logits_of(each: int, right: int) -> np.ndarray:
    logits = np.zeros((7 * each, 7), np.float32)
    for row, label in enumerate(predictions(each, right)):
        logits[row, label] = 3
    return logits


def confusion(right: int) -> list[list[int]]:
    cells = [[0] * 7 for _ in range(7)]
    for row, label in enumerate(predictions(PARTS["test"], right)):
        cells[row // PARTS["test"]][label] += 1
    return cells
