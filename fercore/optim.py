"""Optimizers with masks, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fercore import autograd
from fercore.autograd import Tensor
from fercore.backends.interface import Backend, Buffer

if TYPE_CHECKING:
    from fercore.config import Recipe
    from fercore.nn import Parameter

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as published


class Optimizer:
    """SGD, Adam or AdamW over the parameters that may move.

    Frozen parameters have no state here and are never passed to the backend. Weight decay acts on
    weights alone, not on biases and normalisation (everything with a single axis).

    Gradients that a backend leaves in slices are summed by its updates, unless ``sums_slices`` is
    false or gradients are clipped, by a norm that needs them all before.

    Attributes:
        moments: ``"conv1_1.weight.velocity"`` -> buffer (``first`` and ``second`` for Adam).
        steps: updates made so far.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        recipe: Recipe,
        backend: Backend,
        *,
        sums_slices: bool = True,
    ) -> None:
        self.recipe = recipe
        self.backend = backend
        self.sums_slices = sums_slices and recipe.clip_norm == 0
        self.parameters = {name: p for name, p in parameters.items() if p.wanted}
        self.steps = 0
        self.rates = backend.empty((4,), "float64")
        self.moments: dict[str, Buffer] = {}
        for name, parameter in self.parameters.items():
            for moment in self._moment_names():
                buffer = backend.empty(parameter.shape)
                backend.fill(buffer, 0.0)
                self.moments[f"{name}.{moment}"] = buffer

    def schedule(self, learning_rates: Sequence[float]) -> np.ndarray:
        """What ``rates`` must hold in each of the next steps, which count as made: ``[S, 4]``."""
        rows = []
        for learning_rate in learning_rates:
            self.steps += 1
            corrections = 1 - BETA1**self.steps, 1 - BETA2**self.steps
            rows.append((learning_rate, *corrections, 1.0))
        return np.array(rows)

    def minimise(self, backend: Backend, loss: Tensor) -> None:
        """Move every parameter against its gradient of ``loss``, as far as its mask allows.

        What changes from step to step is read from ``rates``, a row of ``schedule``.
        ``backend`` is this optimizer's own, or one that records for it.
        """
        self.update(backend, autograd.gradients(loss, in_slices=self.sums_slices))

    def update(self, backend: Backend, gradients: Iterable[tuple[Tensor, Buffer]]) -> None:
        """The same with gradients that are given; each is used before the next is asked for."""
        if self.recipe.clip_norm > 0:
            gradients = list(gradients)
            self._clip(backend, dict(gradients))
        names: dict[Tensor, str] = {p: name for name, p in self.parameters.items()}
        for parameter, gradient in gradients:
            name = names[parameter]
            with backend.scope(f"{name.rpartition('.')[0]} update"):
                self._update_one(backend, name, self.parameters[name], gradient)
            parameter.changed()

    def _clip(self, backend: Backend, gradients: Mapping[Tensor, Buffer]) -> None:
        parameters = self.parameters.values()
        with backend.scope("clip"):
            backend.clip_gradients(
                [gradients[parameter] for parameter in parameters],
                [parameter.mask_buffer for parameter in parameters],
                self.rates,
                max_norm=self.recipe.clip_norm,
            )

    def _update_one(
        self, backend: Backend, name: str, parameter: Parameter, gradient: Buffer
    ) -> None:
        recipe = self.recipe
        decay = recipe.weight_decay if len(parameter.shape) > 1 else 0.0
        if recipe.optimizer == "sgd":
            backend.sgd_update(
                parameter.data,
                gradient,
                self.moments.get(f"{name}.velocity"),
                parameter.mask_buffer,
                self.rates,
                parameter.copy,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov,
                weight_decay=decay,
            )
        else:
            backend.adam_update(
                parameter.data,
                gradient,
                self.moments[f"{name}.first"],
                self.moments[f"{name}.second"],
                parameter.mask_buffer,
                self.rates,
                parameter.copy,
                beta1=BETA1,
                beta2=BETA2,
                epsilon=EPSILON,
                weight_decay=decay,
                decoupled=recipe.optimizer == "adamw",
            )

    def _moment_names(self) -> tuple[str, ...]:
        if self.recipe.optimizer == "sgd":
            return ("velocity",) if self.recipe.momentum > 0 else ()
        return ("first", "second")

    def state(self) -> dict[str, np.ndarray]:
        """The moments by name, copied to NumPy; ``steps`` is kept beside them by the checkpoint."""
        return {name: self.backend.to_host(buffer) for name, buffer in self.moments.items()}

    def load_state(self, state: Mapping[str, np.ndarray], steps: int) -> None:
        """Continue from moments of the same parameters; ValueError if names or shapes differ."""
        differing = state.keys() ^ self.moments.keys()
        if differing:
            raise ValueError(f"the optimizer's state differs in {min(differing)}")
        for name, buffer in self.moments.items():
            self.backend.write(buffer, state[name])
        self.steps = steps


@dataclass
class Plateau:
    """Cuts the rate by ``factor`` when a score has not risen for more than ``patience`` epochs."""

    factor: float
    patience: int
    scale: float = 1.0
    best: float = -math.inf
    waited: int = 0

    def observe(self, score: float) -> None:
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale * self.factor, 0

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale, "best": self.best, "waited": self.waited}


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, plateau: Plateau) -> float:
    """The rate of step ``step`` (from 0): a linear warm-up times the recipe's schedule.

    cosine: ``(1 + cos(pi * t)) / 2`` over the steps after the warm-up (Loshchilov and Hutter,
    2017); step: times ``step_factor`` every ``step_every`` epochs; plateau: as observed so far.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "cosine":
        total = max(recipe.epochs * steps_per_epoch - warmup, 1)
        return recipe.learning_rate * (1 + math.cos(math.pi * (step - warmup) / total)) / 2
    if recipe.schedule == "step":
        epoch = step // steps_per_epoch
        return recipe.learning_rate * float(recipe.step_factor ** (epoch // recipe.step_every))
    if recipe.schedule == "plateau":
        return recipe.learning_rate * plateau.scale
    return recipe.learning_rate
