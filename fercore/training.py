"""Training one network: epochs of recorded steps, validation, checkpoints, resume.

Everything random is drawn from counters keyed by (seed, run, epoch, step or sample), so the state
of a training is its weights, its moments and a few numbers, and a run that was interrupted and
resumed equals one that was not, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fercore import checkpoint, tensor_file
from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation, Backend, Buffer
from fercore.config import Recipe
from fercore.data.dataset import Dataset
from fercore.energy import Lap
from fercore.errors import FercoreError
from fercore.evaluation import Evaluation, Evaluator
from fercore.features import FeatureStore, FrozenLayers, Shelf
from fercore.feed import Feed
from fercore.files import write_atomically
from fercore.functions import SoftmaxCrossEntropy, augment, gather
from fercore.nn import Context, Model
from fercore.optim import Optimizer, Plateau, learning_rate
from fercore.step import Plan, record

FOLLOWED = 500
"""How many images of a validation set that does not choose the checkpoint are tested each epoch."""


@dataclass(frozen=True)
class Outcome:
    """What a finished training leaves behind beside its files."""

    best_epoch: int  # from 1
    best_accuracy: float  # mean validation accuracy over the sets that choose
    epochs: int  # that were run


def train(
    model: Model,
    training: Dataset,
    validation: Mapping[str, Dataset],
    recipe: Recipe,
    *,
    choose_on: tuple[str, ...],
    backend: Backend,
    seed: int,
    run: int,
    folder: Path,
    resume: bool = False,
    shelf: Shelf | None = None,
    energy: Lap = dict,
    on_step: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Outcome:
    """Train ``model`` in place, as far as its masks allow, and leave its files in ``folder``.

    Args:
        model: on ``backend``, with its masks set.
        training: the images to learn from.
        validation: name -> images; each is tested after every epoch, in full if it chooses the
            checkpoint, else on a fixed sample of ``FOLLOWED`` images.
        recipe: how to train.
        choose_on: the validation sets whose mean accuracy picks the best epoch (ties: their
            mean loss, then the earlier epoch).
        backend: where to compute.
        seed: 0 to 2**32 - 1.
        run: 0 to 2**32 - 1; tells apart the random numbers of runs that share a seed.
        folder: receives ``metrics.jsonl`` (a line an epoch), ``best.safetensors``,
            ``last.safetensors`` and ``state.json``.
        resume: continue from ``last.safetensors`` where it and ``best.safetensors`` are there.
        shelf: where the outputs of frozen layers are kept; its own memory, by default.
        energy: asked at the beginning and the end of what ``seconds`` measures; by default nothing
            is known.
        on_step: told (steps asked for in this epoch, steps an epoch); a device is done with all of
            them but ``feed.IN_FLIGHT`` at most.
        on_epoch: told each new line of ``metrics.jsonl``.

    Returns:
        The outcome; ``model`` holds the last weights, ``best.safetensors`` the best.

    Raises:
        FercoreError: an empty set, a loss that is not finite, a checkpoint of other settings, or
            a file that cannot be read or written.
    """
    if len(training) == 0:
        raise FercoreError("there are no images to train on")
    for name, dataset in validation.items():
        if len(dataset) == 0:
            raise FercoreError(f"the validation set {name!r} holds no image; leave it out")
    shelf = shelf or FeatureStore().shelf()
    loop = _Loop(
        model, training, validation, recipe, choose_on, backend, seed, run, folder, shelf, energy
    )
    if resume and loop.last_path.exists() and loop.best_path.exists():
        loop.restore()
    while not loop.finished:
        line = loop.run_epoch(on_step)
        loop.save()
        if on_epoch:
            on_epoch(line)
    return Outcome(loop.best.epoch, loop.best.accuracy, loop.epoch)


class _Best(msgspec.Struct, frozen=True):
    """The epoch whose weights are in ``best.safetensors``."""

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf


class _State(msgspec.Struct, frozen=True):
    """What ``last.safetensors`` says beside its tensors."""

    fingerprint: dict[str, Any]
    epoch: int
    steps: int
    best: _Best
    plateau: dict[str, Any]


class _Loop:
    """The state of one training between epochs."""

    def __init__(
        self,
        model: Model,
        training: Dataset,
        validation: Mapping[str, Dataset],
        recipe: Recipe,
        choose_on: tuple[str, ...],
        backend: Backend,
        seed: int,
        run: int,
        folder: Path,
        shelf: Shelf,
        energy: Lap,
    ) -> None:
        self.model, self.recipe, self.backend = model, recipe, backend
        self.seed, self.run, self.folder = seed, run, folder
        self.choose_on, self.shelf, self.energy = choose_on, shelf, energy
        self.last_path = folder / "last.safetensors"
        self.best_path = folder / "best.safetensors"
        choosing = {name: validation[name] for name in choose_on}
        self.fingerprint = _fingerprint(model, training, choosing, recipe, seed, run)
        self.count = len(training)
        self.optimizer = Optimizer(model.parameters(), recipe, backend)
        self.stepper = Stepper(model, self.optimizer, training, recipe, backend, shelf)
        self.evaluators = {}
        for name, dataset in validation.items():
            sample = dataset if name in choose_on else followed_sample(dataset, seed)
            self.evaluators[name] = Evaluator(model, sample.images, sample.labels, backend, shelf)
        self.plateau = Plateau(recipe.step_factor, recipe.plateau_patience)
        self.epoch = 0
        self.best = _Best()
        self.lines: list[dict[str, Any]] = []

    @property
    def finished(self) -> bool:
        patience = self.recipe.early_stopping
        stopped = patience > 0 and self.epoch - self.best.epoch >= patience
        return self.epoch >= self.recipe.epochs or (stopped and self.epoch > 0)

    def run_epoch(self, on_step: Callable[[int, int], None] | None) -> dict[str, Any]:
        """One pass over the training images and the tests after it; returns its line of metrics."""
        self.epoch += 1
        self.energy()  # what tests and files have taken is no training
        started = time.monotonic()
        count, first = self.recipe.steps_per_epoch(self.count), self.optimizer.steps
        rates = [
            learning_rate(self.recipe, step, count, self.plateau)
            for step in range(first, first + count)
        ]
        self.stepper.start_epoch(self.seed, self.run, self.epoch, rates)
        for done in range(count):
            left = self.count - done * self.recipe.batch_size
            self.stepper.step(min(left, self.recipe.batch_size))
            if on_step:
                on_step(done + 1, count)
        loss, accuracy = self.stepper.finish_epoch()
        seconds, joules = time.monotonic() - started, self.energy()
        self._check_finite(loss)
        evaluations = {name: evaluator() for name, evaluator in self.evaluators.items()}
        for result in evaluations.values():
            self._check_finite(result.loss)  # the last step may be the one that went wrong
        improved = self._observe(evaluations)
        line = {
            "epoch": self.epoch,
            "steps": self.optimizer.steps,
            "learning_rate": rates[-1],
            "train_loss": loss,
            "train_accuracy": accuracy,
            "validation": {
                name: {"accuracy": result.accuracy, "loss": result.loss, "n": result.n}
                for name, result in evaluations.items()
            },
            "best": improved,
            "kept_features": self.shelf.nbytes,
            "seconds": round(seconds, 3),
            "joules": {source: round(used, 3) for source, used in joules.items()},
            "images_per_s": round(self.count / seconds, 1),
        }
        self.lines.append(line)
        if improved:
            facts = {"epoch": self.epoch, "validation_accuracy": self.best.accuracy}
            checkpoint.save_model(self.best_path, self.model, facts)
        return line

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise FercoreError(
                f"{self.folder.name}: the loss became {loss} in epoch {self.epoch}; lower "
                "learning_rate, or set clip_norm (1.0, say) in the recipe"
            )

    def _observe(self, evaluations: Mapping[str, Evaluation]) -> bool:
        chosen = [evaluations[name] for name in self.choose_on]
        accuracy = sum(result.accuracy for result in chosen) / len(chosen)
        loss = sum(result.loss for result in chosen) / len(chosen)
        self.plateau.observe(accuracy)
        if (accuracy, -loss) <= (self.best.accuracy, -self.best.loss):
            return False
        self.best = _Best(self.epoch, accuracy, loss)
        return True

    def save(self) -> None:
        """Write the state of the training; the state file comes last and makes it valid."""
        lines = "".join(json.dumps(line) + "\n" for line in self.lines)
        write_atomically(self.folder / "metrics.jsonl", lines)
        tensors = {f"model.{name}": array for name, array in self.model.state().items()}
        moments = self.optimizer.state()
        tensors.update({f"optimizer.{name}": array for name, array in moments.items()})
        state = _State(
            self.fingerprint, self.epoch, self.optimizer.steps, self.best, self.plateau.state()
        )
        metadata = {**checkpoint.describe(self.model), "training": msgspec.to_builtins(state)}
        tensor_file.write(self.last_path, tensors, metadata)
        summary = {
            "status": "finished" if self.finished else "running",
            "epoch": self.epoch,
            "epochs": self.recipe.epochs,
            "best": msgspec.to_builtins(self.best),
        }
        write_atomically(self.folder / "state.json", json.dumps(summary, indent=1) + "\n")

    def restore(self) -> None:
        """Continue from the state file; FercoreError if it belongs to another training."""
        saved = tensor_file.read(self.last_path)
        try:
            state = msgspec.convert(saved.metadata.get("training"), _State)
        except msgspec.ValidationError as error:
            raise FercoreError(
                f"{self.last_path}: holds no training state of this version ({error}); delete it "
                "to start anew"
            ) from error
        before = state.fingerprint
        if other := [what for what, value in self.fingerprint.items() if before.get(what) != value]:
            raise FercoreError(
                f"{self.last_path}: was trained with other {', '.join(other)}; go back to the old "
                "settings, or delete the run's folder to train it again"
            )
        checkpoint.load_weights(self.model, saved, "model.")
        self.optimizer.load_state(saved.part("optimizer."), state.steps)
        self.epoch, self.best = state.epoch, state.best
        self.plateau = Plateau(
            self.recipe.step_factor, self.recipe.plateau_patience, **state.plateau
        )
        self.lines = self._read_lines()
        self._check_best()

    def _read_lines(self) -> list[dict[str, Any]]:
        """The metrics of the epochs done; lines of an epoch that was lost are left out."""
        path = self.folder / "metrics.jsonl"
        try:
            written = path.read_bytes().splitlines()[: self.epoch]
            lines = [msgspec.json.decode(line, type=dict[str, Any]) for line in written]
            if len(lines) < self.epoch:
                raise ValueError(f"{len(lines)} lines for {self.epoch} epochs")
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise FercoreError(
                f"{path}: cannot be read ({error}); restore it, or delete the run's folder to "
                "train it again"
            ) from error
        return lines

    def _check_best(self) -> None:
        """``best.safetensors`` is of the best epoch, or of the one that was lost after it."""
        if tensor_file.read(self.best_path).metadata.get("epoch") not in (
            self.best.epoch,
            self.epoch + 1,
        ):
            raise FercoreError(
                f"{self.best_path}: is not of epoch {self.best.epoch}, as {self.last_path.name} "
                "says; restore it, or delete it and train again"
            )


class Stepper:
    """Training steps, recorded once for each batch size that occurs (two, as a rule).

    Where the views of an image come again and layers below are frozen, steps start from features.
    With ``two_streams`` weight gradients run beside input gradients where the backend has room.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        training: Dataset,
        recipe: Recipe,
        backend: Backend,
        shelf: Shelf,
        *,
        two_streams: bool = True,
    ) -> None:
        self.model, self.optimizer, self.recipe, self.backend = model, optimizer, recipe, backend
        self.two_streams = two_streams
        self.count = len(training)
        self.images = backend.from_host(training.images)
        self.labels, self.multi_target = backend.from_host(training.lessons), training.multi_target
        self.rng = backend.from_host(np.zeros(4, dtype=np.uint32))
        self.view_rng = backend.from_host(np.zeros(4, dtype=np.uint32))
        self.steps = recipe.steps_per_epoch(self.count)
        self.feed = Feed(backend, self.count, steps=self.steps, rng=self.rng, rates=optimizer.rates)
        self.statistics = backend.empty((4,), "float64")
        self.class_weights = None
        if recipe.class_weights == "balanced":
            weights = balanced_weights(training.labels, model.classes)
            self.class_weights = backend.from_host(weights)
        self.augmentation = Augmentation(
            recipe.flip, recipe.shift, recipe.rotation, recipe.scale, recipe.cutout
        )
        self.views = recipe.distinct_views()
        self.frozen = None
        if self.views and model.frozen_layers():
            self.frozen = FrozenLayers(model, training.images, backend, shelf, self.augmentation)
        self.features: Buffer | None = None  # of the epoch's view, if they are held
        self.plans: dict[int, Plan] = {}  # by batch size, steps from images
        self.plans_above: dict[tuple[int, int], Plan] = {}  # by size and view, from features

    def start_epoch(self, seed: int, run: int, epoch: int, rates: Sequence[float]) -> None:
        """Lay down what the epoch's steps need: an order, a view, and a learning rate for each.

        All runs of a seed have the same views of the images.
        """
        view = (seed, 0, (epoch - 1) % self.views, 0) if self.views else (seed, run, epoch, 0)
        self.backend.write(self.view_rng, np.array(view, dtype=np.uint32))
        self.features = self.frozen.held(view) if self.frozen else None
        first = self.optimizer.steps
        self.backend.write(self.rng, np.array([seed, run, epoch, first], dtype=np.uint32))
        order = permutation(self.count, seed, run, epoch)
        self.feed.start(order, self.optimizer.schedule(rates), first)
        self.backend.fill(self.statistics, 0.0)

    def step(self, size: int) -> None:
        """One update from the next ``size`` images of the epoch."""
        if self.features is None:
            self.feed.run(self.from_images(size))
        else:
            self.feed.run(self.from_features(size, self.features))

    def finish_epoch(self) -> tuple[float, float]:
        """Mean loss and accuracy over the epoch, while the weights were moving."""
        loss, weight, correct, count = self.backend.to_host(self.statistics)
        return float(loss / weight), float(correct / count)

    def from_images(self, size: int) -> Plan:
        """The step that gathers ``size`` images."""
        if size not in self.plans:

            def program(recorder: Backend) -> list[Buffer]:
                indices = self.feed.next(recorder, size)
                x, y = augment(
                    recorder, self.images, self.labels, indices, self.view_rng, self.augmentation
                )
                return self._learn(recorder, x, y, slice(None))

            self.plans[size] = self._record(program)
        return self.plans[size]

    def from_features(self, size: int, features: Buffer) -> Plan:
        """The step of the layers above the frozen ones, on ``features [images, ...]`` of a view."""
        key = size, id(features)  # which live as long as the plans that read them
        if key not in self.plans_above:
            layers = slice(self.model.frozen_layers(), None)

            def program(recorder: Backend) -> list[Buffer]:
                indices = self.feed.next(recorder, size)
                x, y = gather(recorder, features, self.labels, indices)
                return self._learn(recorder, x, y, layers)

            self.plans_above[key] = self._record(program)
        return self.plans_above[key]

    def _record(self, program: Callable[[Backend], list[Buffer]]) -> Plan:
        """Steps run one at a time, so smaller ones use the memory of larger ones."""
        plans = [*self.plans.values(), *self.plans_above.values()]
        arenas = [plan.arena for plan in plans]
        return record(self.backend, program, arenas=arenas, two_streams=self.two_streams)

    def _learn(self, recorder: Backend, x: Tensor, y: Tensor, layers: slice) -> list[Buffer]:
        context = Context(training=True, rng=self.rng, dropout=self.recipe.dropout)
        loss = SoftmaxCrossEntropy(
            self.statistics,
            class_weights=self.class_weights,
            label_smoothing=self.recipe.label_smoothing,
            multi_target=self.multi_target,
        )
        logits = self.model(x, context, layers=layers)
        self.optimizer.minimise(recorder, loss(logits, y))
        return []


def permutation(count: int, seed: int, run: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits its images: a pure function of its arguments."""
    key = np.array([seed << 32 | run, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """``N / (K * n_k)`` for each class; 0 for a class without images."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 0.0)


def followed_sample(dataset: Dataset, seed: int) -> Dataset:
    """At most ``FOLLOWED`` images of a set, the same for every run of a seed."""
    if len(dataset) <= FOLLOWED:
        return dataset
    return dataset.select(np.sort(permutation(len(dataset), seed, 0, 0)[:FOLLOWED]))


def _fingerprint(
    model: Model,
    training: Dataset,
    choosing: Mapping[str, Dataset],
    recipe: Recipe,
    seed: int,
    run: int,
) -> dict[str, Any]:
    """What must be the same for a state file to be continued."""
    masks = hashlib.sha256()
    for name, parameter in model.parameters().items():
        entries = parameter.mask.entries
        masks.update(f"{name} {parameter.mask.kind} ".encode())
        masks.update(b"" if entries is None else entries.tobytes())
    return {
        "model": model.name,
        "masks": masks.hexdigest(),
        "training images": _digest(training),
        "validation images": {name: _digest(dataset) for name, dataset in choosing.items()},
        "seed": seed,
        "run number": run,
        **msgspec.structs.asdict(recipe),
    }


def _digest(dataset: Dataset) -> str:
    digest = hashlib.sha256(dataset.images.tobytes())
    digest.update(dataset.labels.tobytes())
    if dataset.targets is not None:
        digest.update(f"targets {dataset.multi_target}".encode())
        digest.update(dataset.targets.tobytes())
    return digest.hexdigest()
