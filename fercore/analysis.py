"""Running networks beside their baseline, to see which of their layers have moved and how far.

It happens on the CPU, whatever trained them, so that it can be done again anywhere.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property

import msgspec
import numpy as np

from fercore import backends, checkpoint, drift
from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation, Backend
from fercore.config import read_study
from fercore.drift import Drift
from fercore.errors import FercoreError
from fercore.execution import tested_network
from fercore.features import BATCH, batches
from fercore.files import write_atomically
from fercore.functions import augment
from fercore.masks import FROZEN
from fercore.nn import Model
from fercore.plan import Part, Run, make_plan
from fercore.run_directory import RunDirectory
from fercore.study_data import StudyData, load_study

SAMPLE = 256
"""Images of the source's test part that the networks are shown, or all if there are fewer.

Twice as many move the similarities by a few hundredths at most, and take four times as long.
"""


class Analyst:
    """Measures the drift of a study's runs, one after the other, whichever threads ask."""

    def __init__(self, runs: Sequence[Run], directory: RunDirectory, data: StudyData) -> None:
        self.directory, self.data = directory, data
        self.baselines = {run.seed: run for run in runs if run.strategy.name == "BL"}
        self.watched: Baseline | None = None  # the one of the last seed
        self.turn = threading.Lock()

    @cached_property
    def images(self) -> np.ndarray:
        """The sample, uint8 ``[N, 48, 48]``: evenly spread over the part, whose order it keeps."""
        images = self.data.select(Part(self.data.source, "test")).images
        rows = np.linspace(0, len(images) - 1, min(len(images), SAMPLE))
        return images[rows.round().astype(np.int64)]

    @cached_property
    def backend(self) -> Backend:
        return backends.get("cpu")

    def can_analyse(self, run: Run) -> bool:
        """Whether BL was tested: beside it, or before it, others may be."""
        return (self.directory.run(self.baselines[run.seed].id) / "results.json").exists()

    def analyse(self, run: Run) -> None:
        """Write the drift of a run that was tested, and so was BL; at once if it is there already.

        BL itself has none. Raises FercoreError when a network is missing or damaged.
        """
        base = self.baselines[run.seed]
        if run.id == base.id:
            return
        folder = self.directory.run(run.id)
        made_from = (
            self.data.datasets[self.data.source].digest,
            tested_network(self.directory.run(base.id)),
            tested_network(folder),
        )
        with suppress(FercoreError):  # missing, damaged or of another version
            there = drift.read(folder)
            if (there.made_from, there.images) == (made_from, len(self.images)):
                return
        with self.turn:
            if self.watched is None or self.watched.run != base.id:
                self.watched = Baseline(base.id, self._load(base.id), self.images, self.backend)
            weights, features = self.watched.compare(self._load(run.id))
        found = Drift(
            run=run.id,
            baseline=base.id,
            dataset=self.data.source,
            images=len(self.images),
            made_from=made_from,
            weights=weights,
            features=features,
        )
        content = json.dumps(msgspec.to_builtins(found), indent=1)
        write_atomically(folder / drift.FILE, content + "\n")

    def _load(self, run: str) -> Model:
        path = self.directory.run(run) / "best.safetensors"
        return checkpoint.load_model(path, self.backend)


class Baseline:
    """A network that others are compared to, and what its layers make of the sample."""

    def __init__(self, run: str, model: Model, images: np.ndarray, backend: Backend) -> None:
        self.run, self.images, self.backend = run, images, backend
        self.state = model.state()
        self.grams = {
            layer: gram(features, backend)
            for layer, features in layer_outputs(model, images, backend)
        }

    def compare(self, model: Model) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """The relative change of every tensor, and the similarity of every layer's features."""
        weights = {
            name: drift.relative_change(array, self.state[name])
            for name, array in model.state().items()
        }
        changed = {name.partition(".")[0] for name, change in weights.items() if change != 0}
        similar: dict[str, float | None] = {}
        below = True  # nothing has changed so far: features are the same
        for layer, features in layer_outputs(model, self.images, self.backend):
            below = below and layer not in changed
            if below:
                similar[layer] = 1.0
            else:
                mine = gram(features, self.backend)
                similar[layer] = drift.linear_cka(mine, self.grams[layer])
        return weights, similar


def analyse(directory: RunDirectory) -> None:
    """Measure the drift of a finished study's runs where that is missing.

    Raises FercoreError when the study's images cannot be read, or a run is not finished.
    """
    study = read_study(directory.config)
    data = load_study(study, directory.faces)
    runs = make_plan(study, data.source, data.targets)
    analyst = Analyst(runs, directory, data)
    with directory.locked():
        for run in runs:
            analyst.analyse(run)


def layer_outputs(
    model: Model, images: np.ndarray, backend: Backend
) -> Iterator[tuple[str, np.ndarray]]:
    """What every layer with weights makes of images: its name and ``[N, ...]``, input to output.

    A layer is taken with all that follows it up to the next one with weights: normalisation,
    activation, pooling. Nothing of the model may move any more: its masks are set so.
    """
    for parameter in model.parameters().values():
        parameter.mask = FROZEN  # so that nothing is kept for a backward pass
    starts = [i for i, layer in enumerate(model.layers) if layer.kind in ("conv", "linear")]
    x = _normalised(images, backend)
    for start, end in zip(starts, [*starts[1:], len(model.layers)], strict=True):
        pieces = [
            model(Tensor(backend, backend.from_host(x[rows])), layers=slice(start, end)).data
            for rows in batches(np.arange(len(x)), BATCH)
        ]
        x = np.concatenate([backend.to_host(piece) for piece in pieces])
        yield model.layers[start].name, x


def gram(features: np.ndarray, backend: Backend) -> np.ndarray:
    """Inner products of all pairs of images, float64 ``[N, N]``, around their mean.

    By the backend rather than NumPy, whose threads nothing controls. ``features`` are ``[N, ...]``.
    """
    rows = features.reshape(len(features), -1)
    centred = backend.from_host(rows - rows.mean(axis=0, dtype=np.float64).astype(rows.dtype))
    products = backend.empty((len(rows), len(rows)))
    backend.linear_forward(centred, centred, None, products)
    return np.asarray(backend.to_host(products), np.float64)


def _normalised(images: np.ndarray, backend: Backend) -> np.ndarray:
    """Images as a network reads them, ``[N, 48, 48, 1]``."""
    rows, nothing = np.arange(len(images), dtype=np.int32), np.zeros(4, np.uint32)
    stored, labels, indices, rng = map(
        backend.from_host, (images, np.zeros_like(rows), rows, nothing)
    )
    x, _ = augment(backend, stored, labels, indices, rng, Augmentation())
    return np.asarray(backend.to_host(x.data))
