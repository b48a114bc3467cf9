"""Run directories of studies that nobody trained: answers as a test wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from fercore import answers, results
from fercore.answers import StudyAnswers
from fercore.data import manifest
from fercore.data.dataset import BASIC, CLASSES
from fercore.files import write_atomically
from fercore.results import Record
from fercore.run_directory import RunDirectory
from tests.records import record

Rights = Mapping[str, Sequence[bool]]
"""By dataset, which images of its test part a network gets right."""


def write_images(
    directory: RunDirectory,
    dataset: str,
    test: Sequence[tuple[str, str]],
    train: Sequence[str] = ("t0", "t1", "t2", "t3"),
    classes: int = BASIC,
) -> None:
    """A manifest and its facts; an image is its subject and digest, labels go round the classes."""
    rows = [(f"{dataset}-train-{i}.png", "", digest, "train") for i, digest in enumerate(train)]
    rows += [(f"{dataset}-validation.png", "", "v", "validation")]
    rows += [
        (f"{dataset}-test-{i}.png", subject, digest, "test")
        for i, (subject, digest) in enumerate(test)
    ]
    lines = [",".join(manifest.COLUMNS)]
    for number, (file, subject, digest, split) in enumerate(rows):
        label = CLASSES[number % classes]
        lines.append(f"{file},{subject},,{label},{split},{digest}")
    write_atomically(directory.splits / f"{dataset}.csv", "\n".join(lines) + "\n")
    facts = json.loads(directory.datasets.read_text()) if directory.datasets.exists() else {}
    facts[dataset] = {
        "format": "folder",
        "synthetic": False,
        "images": {},
        "shares": {},
        "digest": f"digest of {dataset}",
        "notes": [],
        "skipped": [],
    }
    write_atomically(directory.datasets, json.dumps(facts))


def write_run(
    directory: RunDirectory,
    run: str,
    rights: Rights,
    starts_from: str | None = None,
    trains_on: Sequence[str] = (),
) -> None:
    """Answers of a run: the label where it is right, else the class before it."""
    read = StudyAnswers(directory)
    logits = {}
    for dataset, right in rights.items():
        for part, some in (("test", right), ("validation", [True])):
            labels = read.images(dataset, part).labels
            given = np.where(some, labels, (labels - 1) % BASIC)
            logits[dataset, part] = np.eye(BASIC, dtype=np.float32)[given]
    folder = directory.run(run)
    answers.write(folder, logits, {dataset: f"digest of {dataset}" for dataset in rights})
    parts = [{"dataset": name, "part": "train", "percent": 100} for name in trains_on]
    content = {"fingerprint": "", "run": {"starts_from": starts_from, "trains_on": parts}}
    write_atomically(folder / "run.json", json.dumps(content))


def record_of(run: str, strategy: str, amount: int | None, **changes: object) -> Record:
    """A record that leads to the answers of ``run``, on source ``src`` and target ``tgt``."""
    found = record(strategy, amount, run=run)
    return msgspec.structs.replace(found, source="src", target="tgt", **changes)


def small_study(path: Path) -> tuple[StudyAnswers, list[Record]]:
    """BL, FC and TO on 4 source images, of no known person, and on 6 images of ann, bob and cy."""
    directory = RunDirectory(path)
    source = [("", digest) for digest in ("s0", "s1", "t0", "s3")]
    people = ("ann", "ann", "bob", "bob", "bob", "cy")
    target = [(person, f"p{i}") for i, person in enumerate(people)]
    write_images(directory, "src", source)
    write_images(directory, "tgt", target, train=("p5", "q0", "q1"), classes=6)
    write_run(directory, "BL", {"src": [1, 1, 1, 0], "tgt": [0, 0, 0, 0, 1, 1]}, None, ["src"])
    write_run(
        directory, "tgt-FC-100", {"src": [1, 0, 0, 0], "tgt": [1, 1, 1, 0, 1, 1]}, "BL", ["tgt"]
    )
    write_run(
        directory, "tgt-TO-100", {"src": [0, 0, 0, 1], "tgt": [1, 0, 1, 0, 0, 0]}, None, ["tgt"]
    )
    records = [
        record_of("BL", "BL", None),
        record_of("tgt-FC-100", "FC", 100),
        record_of("tgt-TO-100", "TO", 100),
    ]
    results.write(path, records)
    return StudyAnswers(directory), records
