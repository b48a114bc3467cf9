"""Using a trained network: probabilities for image files, accuracy on a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fercore import metrics
from fercore.backends.interface import Backend
from fercore.data.dataset import CLASSES, Dataset, Skipped
from fercore.data.images import WHOLE, Crop, Item, frame, is_image, on_all_cores, read_image
from fercore.data.tree import Tree, open_tree
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from fercore.faces import Box, Detector, cut, framed
from fercore.results import Score, score

if TYPE_CHECKING:
    from fercore.nn import Model


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one face; ``probabilities`` are of the first CLASSES.

    ``box`` is the part of the upright picture that it was shown; ``found`` says whether that is a
    face which the detector found, or else the whole picture or a fixed crop of it.
    """

    file: str
    probabilities: tuple[float, ...]
    box: Box
    found: bool

    @property
    def label(self) -> str:
        """The likeliest class (first of equals)."""
        return self.classes[int(np.argmax(self.probabilities))]

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that the network tells apart, in the order of the probabilities."""
        return CLASSES[: len(self.probabilities)]


def predict_files(
    model: Model,
    paths: Sequence[Path],
    *,
    backend: Backend,
    crop: Crop = WHOLE,
    detector: Detector | None = None,
) -> tuple[list[Prediction], list[Skipped]]:
    """Probabilities for the faces in image files, and the files that could not be read.

    Args:
        model: a network on ``backend``.
        paths: image files; of a folder or a zip file, every image in it.
        backend: where to compute.
        crop: the part of each image that shows a face, framed as the training images are.
        detector: finds any number of faces in each image (``faces.open_detector``); ``crop`` is
            used where it finds none.

    Raises:
        FercoreError: a path does not exist, or there is no readable image at all.
    """
    seen: list[Face] = []
    skipped: list[Skipped] = []
    for path in paths:
        with open_tree(path) as tree:
            looked = on_all_cores(partial(_look, tree, crop, detector), pictures(path, tree))
        for result in looked:
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                seen += result
    if not seen:
        reason = f" ({skipped[0].file}: {skipped[0].reason})" if skipped else ""
        raise FercoreError(f"{paths[0]}: no image that can be read{reason}")
    logits = predict_logits(model, np.stack([face.pixels for face in seen]), backend=backend)
    return [
        Prediction(face.file, tuple(shares.tolist()), face.box, face.found)
        for face, shares in zip(seen, metrics.softmax(logits), strict=True)
    ], skipped


def evaluate(model: Model, dataset: Dataset, rows: np.ndarray, *, backend: Backend) -> Score:
    """How a network does on some rows of a dataset.

    ``accuracy_shared`` rules out the classes that the whole dataset does not have, as in a study;
    ``accuracy_present`` also those that the rows happen not to show.
    """
    part = dataset.select(rows)
    logits = predict_logits(model, part.images, backend=backend)
    return score(logits, part.labels, np.unique(dataset.labels).tolist())


class Face(NamedTuple):
    """A part of a picture as the network reads it: uint8 ``[SIZE, SIZE]``."""

    file: str
    pixels: np.ndarray
    box: Box
    found: bool


def pictures(path: Path, tree: Tree) -> list[Item]:
    """The images to look at: every one in a folder or zip file, or a file alone, whatever it is."""
    alone = path.is_file() and tree.names == (path.name,)
    names = [name for name in tree.names if alone or is_image(name)]
    return [Item(name, str(path) if alone else f"{path}/{name}", 0) for name in names]


def _look(tree: Tree, crop: Crop, detector: Detector | None, item: Item) -> list[Face] | Skipped:
    gray = read_image(tree, item)
    if isinstance(gray, Skipped):
        return gray
    found = detector(np.asarray(gray)) if detector else []
    if found:
        boxes = [framed(face, *gray.size) for face in found]
        return [Face(item.file, cut(gray, box), box, True) for box in boxes]
    width, height = gray.size
    edges = crop.left * width, crop.top * height, crop.right * width, crop.bottom * height
    return [Face(item.file, frame(gray, crop), Box(*map(round, edges)), False)]


# -- in words ---------------------------------------------------------------------------------


def predictions_as_text(predictions: Sequence[Prediction]) -> str:
    """A table with a line a face: where it is, likeliest class, every class's probability in %."""
    rows = [(prediction.file, _place(prediction), prediction) for prediction in predictions]
    width = max(len("file"), *(len(file) for file, _, _ in rows))
    place = max(len("face"), *(len(place) for _, place, _ in rows))
    header = f"{'file':<{width}}  {'face':<{place}}  {'class':<9}"
    lines = [header + "".join(f"{name:>10}" for name in predictions[0].classes)]
    for file, where, prediction in rows:
        shares = "".join(f"{100 * share:10.1f}" for share in prediction.probabilities)
        lines.append(f"{file:<{width}}  {where:<{place}}  {prediction.label:<9}{shares}")
    return "\n".join(lines) + "\n"


def _place(prediction: Prediction) -> str:
    """``96x96+212+68``: a found face's width, height, left and top; ``-`` for a picture or crop."""
    left, top, right, bottom = prediction.box
    return f"{right - left}x{bottom - top}{left:+d}{top:+d}" if prediction.found else "-"


def predictions_as_json(predictions: Sequence[Prediction], skipped: Sequence[Skipped]) -> str:
    """A JSON list with an object a face, and one with ``error`` for each unreadable file."""
    objects: list[dict[str, object]] = [
        {
            "file": prediction.file,
            "box": prediction.box,
            "found": prediction.found,
            "class": prediction.label,
            "probabilities": dict(zip(prediction.classes, prediction.probabilities, strict=True)),
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
    known = CLASSES[: len(score.confusion)]
    present = sum(map(any, score.confusion))
    for count, accuracy, of, above in (
        (score.classes_shared, score.accuracy_shared, "dataset", len(known)),
        (present, score.accuracy_present, "tested images", score.classes_shared),
    ):
        if count < above and accuracy is not None:
            lines.append(f"among the {count} classes of the {of}  {100 * accuracy:.2f} %")
    lines += ["", "rows: true class; columns: predicted"]
    lines.append(" " * 9 + "".join(f"{name:>9}" for name in known))
    for name, row in zip(known, score.confusion, strict=True):
        lines.append(f"{name:<9}" + "".join(f"{count:9d}" for count in row))
    return "\n".join(lines) + "\n"
