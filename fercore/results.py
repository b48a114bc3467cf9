"""What the runs of a study measured, as records: one a run and target.

A record is a flat value, the same in ``results.json``, as a row of ``results.csv``, and for the
report. Accuracies are shares, 0..1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fercore import metrics
from fercore.data.dataset import BASIC
from fercore.files import read_json, write_atomically


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How a network did on one part of one dataset.

    Attributes:
        n: images.
        accuracy, balanced_accuracy, macro_f1: over all classes.
        loss: mean cross-entropy, nats.
        classes_shared: how many classes the dataset, or both of a pair, have at all.
        n_shared: images of those classes.
        accuracy_shared: on those, with all other classes ruled out; None if there are none.
        accuracy_present: on all images, with the classes ruled out that none of them shows; None
            where it is not known.
        confusion: counts; rows are the true classes.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    loss: float
    classes_shared: int
    n_shared: int
    accuracy_shared: float | None
    accuracy_present: float | None = None
    confusion: list[list[int]]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A run, tested on the source and on one target (None for a network of one dataset).

    ``classes`` is how many its network tells apart; ``shared_classes`` both sets have images of.
    ``forgetting`` is the source accuracy lost since BL, ``gain`` the target accuracy won; the other
    fields about source and target are those of a Score on the test part, or on validation.
    """

    run: str
    strategy: str
    source: str
    target: str | None
    amount: int | None
    seed: int
    model: str
    synthetic: bool
    classes: int = BASIC
    shared_classes: int
    training_images: int
    epochs: int
    best_epoch: int
    source_accuracy: float
    n_source: int
    target_accuracy: float | None = None
    n_target: int | None = None
    forgetting: float | None = None
    gain: float | None = None
    source_accuracy_shared: float | None
    n_source_shared: int
    target_accuracy_shared: float | None = None
    n_target_shared: int | None = None
    source_validation_accuracy: float
    n_source_validation: int
    target_validation_accuracy: float | None = None
    n_target_validation: int | None = None
    source_balanced_accuracy: float
    target_balanced_accuracy: float | None = None
    source_macro_f1: float
    target_macro_f1: float | None = None
    source_loss: float
    target_loss: float | None = None
    source_confusion: list[list[int]]
    target_confusion: list[list[int]] | None = None


def about(role: str, test: Score, validation: Score) -> dict[str, Any]:
    """The fields of a record about its ``"source"`` or its ``"target"``."""
    return {
        f"{role}_accuracy": test.accuracy,
        f"n_{role}": test.n,
        f"{role}_accuracy_shared": test.accuracy_shared,
        f"n_{role}_shared": test.n_shared,
        f"{role}_validation_accuracy": validation.accuracy,
        f"n_{role}_validation": validation.n,
        f"{role}_balanced_accuracy": test.balanced_accuracy,
        f"{role}_macro_f1": test.macro_f1,
        f"{role}_loss": test.loss,
        f"{role}_confusion": test.confusion,
    }


def source_score(record: Record) -> Score:
    """How the network of a record did on the source's test part."""
    return Score(
        n=record.n_source,
        accuracy=record.source_accuracy,
        balanced_accuracy=record.source_balanced_accuracy,
        macro_f1=record.source_macro_f1,
        loss=record.source_loss,
        classes_shared=record.shared_classes,
        n_shared=record.n_source_shared,
        accuracy_shared=record.source_accuracy_shared,
        confusion=record.source_confusion,
    )


def score(logits: np.ndarray, labels: np.ndarray, shared: Sequence[int]) -> Score:
    """Logits (``[N, classes]``) against labels (``[N]``); ``shared`` are the pair's classes."""
    confusion = metrics.confusion_matrix(labels, metrics.predict(logits), logits.shape[1])

    def among(classes: Sequence[int]) -> np.ndarray:
        seen = metrics.restricted(logits, labels, classes)
        return metrics.confusion_matrix(*seen, logits.shape[1])

    some, present = among(shared), among(np.unique(labels).tolist())
    return Score(
        n=len(labels),
        accuracy=metrics.accuracy(confusion),
        balanced_accuracy=metrics.balanced_accuracy(confusion),
        macro_f1=metrics.macro_f1(confusion),
        loss=metrics.cross_entropy(logits, labels),
        classes_shared=len(shared),
        n_shared=int(some.sum()),
        accuracy_shared=metrics.accuracy(some) if some.any() else None,
        accuracy_present=metrics.accuracy(present) if len(labels) else None,
        confusion=confusion.tolist(),
    )


def compared(records: Sequence[Record]) -> list[Record]:
    """The records with ``forgetting`` and ``gain``, from BL of the same seed and target.

    BL itself has neither.
    """
    baselines = {(r.target, r.seed): r for r in records if r.strategy == "BL"}
    result = []
    for record in records:
        base = baselines.get((record.target, record.seed))
        if base is not None and record.strategy != "BL" and record.target is not None:
            record = msgspec.structs.replace(
                record,
                forgetting=base.source_accuracy - record.source_accuracy,
                gain=_difference(record.target_accuracy, base.target_accuracy),
            )
        result.append(record)
    return result


def write(folder: Path, records: Sequence[Record]) -> None:
    """``results.json`` and ``results.csv`` (without the confusion matrices) in ``folder``."""
    write_atomically(folder / "results.json", encode(records))
    plain = [name for name in Record.__struct_fields__ if not name.endswith("_confusion")]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(plain)
    table.writerows([getattr(record, name) for name in plain] for record in records)
    write_atomically(folder / "results.csv", text.getvalue())


def read(path: Path) -> list[Record]:
    """The records of a ``results.json``; FercoreError when it is missing or is not one."""
    return read_json(path, list[Record])


def encode(records: Sequence[Record]) -> str:
    """Records as JSON text, a line each."""
    lines = (msgspec.json.encode(record).decode() for record in records)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
