"""Using a trained network: probabilities for image files, accuracy on a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fercore import metrics
from fercore.backends.interface import Backend
from fercore.data.dataset import CLASSES, SIZE, Dataset, Skipped
from fercore.data.images import WHOLE, Crop, Item, decode, is_image
from fercore.data.tree import open_tree
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from fercore.results import Score, score

if TYPE_CHECKING:
    from fercore.nn import Model


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one image; ``probabilities`` are in the order of CLASSES."""

    file: str
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The likeliest class (first of equals)."""
        return CLASSES[int(np.argmax(self.probabilities))]


def predict_files(
    model: Model, paths: Sequence[Path], *, backend: Backend, crop: Crop = WHOLE
) -> tuple[list[Prediction], list[Skipped]]:
    """Probabilities for image files, and the files that could not be read.

    Args:
        model: a network on ``backend``.
        paths: image files; of a folder or a zip file, every image in it.
        backend: where to compute.
        crop: the part of each image that shows a face, framed as the training images are.

    Raises:
        FercoreError: a path does not exist, or there is no readable image at all.
    """
    faces, files, skipped = _read_faces(paths, crop)
    if not files:
        reason = f" ({skipped[0].file}: {skipped[0].reason})" if skipped else ""
        raise FercoreError(f"{paths[0]}: no image that can be read{reason}")
    shares = metrics.softmax(predict_logits(model, faces, backend=backend))
    return [Prediction(f, tuple(p.tolist())) for f, p in zip(files, shares, strict=True)], skipped


def evaluate(model: Model, dataset: Dataset, rows: np.ndarray, *, backend: Backend) -> Score:
    """How a network does on some rows of a dataset.

    ``accuracy_shared`` rules out the classes that the whole dataset does not have, as in a study;
    ``accuracy_present`` also those that the rows happen not to show.
    """
    part = dataset.select(rows)
    logits = predict_logits(model, part.images, backend=backend)
    return score(logits, part.labels, np.unique(dataset.labels).tolist())


def _read_faces(paths: Sequence[Path], crop: Crop) -> tuple[np.ndarray, list[str], list[Skipped]]:
    """Faces (uint8 ``[N, SIZE, SIZE]``), their files, and what could not be read."""
    faces: list[np.ndarray] = []
    files: list[str] = []
    skipped: list[Skipped] = []
    for path in paths:
        with open_tree(path) as tree:
            alone = path.is_file() and tree.names == (path.name,)
            names = [name for name in tree.names if alone or is_image(name)]
            items = [Item(name, str(path) if alone else f"{path}/{name}", 0) for name in names]
            rows, faults = decode(tree, items, crop)
        faces += [row.pixels for row in rows]
        files += [row.item.file for row in rows]
        skipped += faults
    return np.array(faces, dtype=np.uint8).reshape(-1, SIZE, SIZE), files, skipped


# -- in words ---------------------------------------------------------------------------------


def predictions_as_text(predictions: Sequence[Prediction]) -> str:
    """A table with a line an image: likeliest class, then every class's probability in percent."""
    width = max(len("file"), *(len(prediction.file) for prediction in predictions))
    lines = [f"{'file':<{width}}  {'class':<9}" + "".join(f"{name:>10}" for name in CLASSES)]
    for prediction in predictions:
        shares = "".join(f"{100 * share:10.1f}" for share in prediction.probabilities)
        lines.append(f"{prediction.file:<{width}}  {prediction.label:<9}{shares}")
    return "\n".join(lines) + "\n"


def predictions_as_json(predictions: Sequence[Prediction], skipped: Sequence[Skipped]) -> str:
    """A JSON list with an object an image, and one with ``error`` for each unreadable file."""
    objects: list[dict[str, object]] = [
        {
            "file": prediction.file,
            "class": prediction.label,
            "probabilities": dict(zip(CLASSES, prediction.probabilities, strict=True)),
        }
        for prediction in predictions
    ]
    objects += [{"file": entry.file, "error": entry.reason} for entry in skipped]
    return json.dumps(objects, indent=1) + "\n"


def score_as_text(score: Score, title: str) -> str:
    """Accuracy with n and interval, accuracies that weigh classes equally, the confusion matrix."""
    low, high = (100 * end for end in metrics.wilson(score.accuracy * score.n, score.n))
    lines = [
        f"{title}: {score.n} images",
        f"accuracy           {100 * score.accuracy:.2f} %  (95 %: {low:.1f}..{high:.1f})",
        f"balanced accuracy  {100 * score.balanced_accuracy:.2f} %",
        f"macro F1           {100 * score.macro_f1:.2f} %",
        f"loss               {score.loss:.4f}",
    ]
    present = sum(map(any, score.confusion))
    for count, accuracy, of, above in (
        (score.classes_shared, score.accuracy_shared, "dataset", len(CLASSES)),
        (present, score.accuracy_present, "tested images", score.classes_shared),
    ):
        if count < above and accuracy is not None:
            lines.append(f"among the {count} classes of the {of}  {100 * accuracy:.2f} %")
    lines += ["", "rows: true class; columns: predicted"]
    lines.append(" " * 9 + "".join(f"{name:>9}" for name in CLASSES))
    for name, row in zip(CLASSES, score.confusion, strict=True):
        lines.append(f"{name:<9}" + "".join(f"{count:9d}" for count in row))
    return "\n".join(lines) + "\n"
