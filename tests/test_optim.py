"""Optimizers over many steps, and learning-rate schedules, against their formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fercore.config import Recipe
from fercore.masks import FROZEN, GradientMask
from fercore.nn import Parameter
from fercore.optim import Optimizer, Plateau, learning_rate
from tests.narrow import MASKS, Training, narrow, start_step

RECIPES = {
    "plain sgd": Recipe(optimizer="sgd", momentum=0.0, nesterov=False, weight_decay=0.0),
    "momentum": Recipe(optimizer="sgd", momentum=0.9, nesterov=False, weight_decay=0.1),
    "nesterov": Recipe(optimizer="sgd", momentum=0.8, nesterov=True, weight_decay=0.1),
    "clipped": Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.1, clip_norm=0.7),
    "adam": Recipe(optimizer="adam", weight_decay=0.1),
    "adamw": Recipe(optimizer="adamw", weight_decay=0.1, clip_norm=0.7),
}
SHAPES = {"fc1.weight": (5, 3), "fc1.bias": (5,), "conv1_1.weight": (2, 2, 2, 3), "held": (4,)}


def formula(
    recipe: Recipe, values: dict[str, np.ndarray], gradients: list[dict[str, np.ndarray]], rate: Any
) -> dict[str, np.ndarray]:
    """The published updates, in float64, with moments that start at 0."""
    values = {name: value.astype(np.float64) for name, value in values.items()}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for t, step in enumerate(gradients, start=1):
        norm = np.sqrt(sum((gradient**2).sum() for gradient in step.values()))
        clip = min(1.0, recipe.clip_norm / norm) if recipe.clip_norm else 1.0
        for name, gradient in step.items():
            p, decay = values[name], recipe.weight_decay if name.endswith("weight") else 0.0
            g = clip * gradient
            if recipe.optimizer == "adamw":
                p = p - rate(t) * decay * p
            else:
                g = g + decay * p
            if recipe.optimizer == "sgd":
                first[name] = recipe.momentum * first[name] + g
                move = g + recipe.momentum * first[name] if recipe.nesterov else first[name]
            else:
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                m, v = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
                move = m / (np.sqrt(v) + 1e-8)
            values[name] = p - rate(t) * move
    return values


def rate_of(step: int) -> float:
    return 0.1 / step


@pytest.mark.parametrize("recipe", RECIPES)
def test_updates_follow_the_formula(backend, random, recipe):
    start = {name: random.standard_normal(shape) for name, shape in SHAPES.items()}
    parameters = {name: Parameter(backend, value) for name, value in start.items()}
    parameters["held"].mask = FROZEN
    moving = [name for name in SHAPES if name != "held"]
    steps = [{name: random.standard_normal(SHAPES[name]) for name in moving} for _ in range(4)]
    optimizer = Optimizer(parameters, RECIPES[recipe], backend)
    for t, step in enumerate(steps, start=1):
        start_step(optimizer, rate_of(t))
        gradients = {parameters[n]: backend.from_host(g) for n, g in step.items()}
        optimizer.update(backend, gradients.items())
    assert optimizer.steps == 4
    expected = formula(RECIPES[recipe], start, steps, rate_of)
    for name, parameter in parameters.items():
        actual = backend.to_host(parameter.data)
        np.testing.assert_allclose(actual, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert parameter.version.number == (0 if name == "held" else 4)


def test_weight_decay_spares_biases_and_normalisation(backend):
    """With no gradient at all, decay alone moves things."""
    model = narrow("tiny-bn", backend)
    for parameter in model.parameters().values():
        parameter.overwrite(np.ones(parameter.shape))
    recipe = Recipe(optimizer="sgd", momentum=0.0, nesterov=False, weight_decay=0.5)
    optimizer = Optimizer(model.parameters(), recipe, backend)
    start_step(optimizer, 0.5)
    gradients = {p: backend.from_host(np.zeros(p.shape)) for p in model.parameters().values()}
    optimizer.update(backend, gradients.items())
    for name, parameter in model.parameters().items():
        decays = name.endswith(".weight") and "norm" not in name
        assert (backend.to_host(parameter.data) == (0.75 if decays else 1)).all(), name


def test_rates_hold_the_learning_rate_and_adam_s_corrections(backend):
    optimizer = Optimizer({}, RECIPES["adam"], backend)
    for step in (1, 2, 3):
        start_step(optimizer, 0.25)
        expected = [0.25, 1 - 0.9**step, 1 - 0.999**step, 1.0]
        np.testing.assert_array_equal(backend.to_host(optimizer.rates), expected)


@pytest.mark.parametrize(
    ("recipe", "moments"),
    [
        ("plain sgd", set()),
        ("momentum", {"velocity"}),
        ("adam", {"first", "second"}),
        ("adamw", {"first", "second"}),
    ],
)
def test_moments(backend, recipe, moments):
    parameters = {name: Parameter(backend, np.ones(shape)) for name, shape in SHAPES.items()}
    parameters["held"].mask = FROZEN
    parameters["fc1.bias"].mask = GradientMask.of([1, 0, 0, 0, 1], (5,))
    state = Optimizer(parameters, RECIPES[recipe], backend).state()
    assert set(state) == {f"{n}.{m}" for n in SHAPES if n != "held" for m in moments}
    for name, array in state.items():
        assert array.shape == SHAPES[name.rpartition(".")[0]]
        assert not array.any()


@pytest.mark.parametrize("recipe", ["momentum", "clipped", "adam", "adamw"])
@pytest.mark.parametrize("masks", ["BL", "channels"])
def test_a_continued_optimizer_equals_an_uninterrupted_one(backend, recipe, masks):
    def training() -> Training:
        model = narrow("tiny-bn", backend, seed=2)
        MASKS[masks](model)
        return Training(backend, model, RECIPES[recipe])

    whole, first, second = training(), training(), training()
    whole.steps([4] * 5)
    first.steps([4] * 3)
    second.model.load_state(first.model.state())
    second.optimizer.load_state(first.optimizer.state(), first.optimizer.steps)
    backend.write(second.statistics, backend.to_host(first.statistics))
    second.steps([4] * 2, recorded=True)
    assert second.optimizer.steps == 5
    assert second.everything() == whole.everything()


def test_state_of_other_parameters_is_refused(backend):
    parameters = {name: Parameter(backend, np.ones(shape)) for name, shape in SHAPES.items()}
    optimizer = Optimizer(parameters, RECIPES["adam"], backend)
    state = {name: array + 1 for name, array in optimizer.state().items()}
    fewer = {name: array for name, array in state.items() if name != "fc1.bias.second"}
    more = {**state, "fc9.bias.first": np.zeros(3)}
    misshapen = {**state, "fc1.bias.second": np.zeros(3)}
    for wrong, message in (
        (fewer, r"differs in fc1\.bias\.second"),
        (more, r"differs in fc9\.bias\.first"),
        (misshapen, "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state(wrong, 7)
        assert optimizer.steps == 0


# -- schedules ----------------------------------------------------------------------------------

STEADY = Plateau(0.5, 3)


def rates(recipe: Recipe, steps_per_epoch: int, plateau: Plateau = STEADY) -> list[float]:
    steps = range(recipe.epochs * steps_per_epoch)
    return [learning_rate(recipe, step, steps_per_epoch, plateau) for step in steps]


def test_constant():
    recipe = Recipe(schedule="constant", learning_rate=0.3, epochs=3, warmup_epochs=0)
    assert rates(recipe, 4) == [0.3] * 12


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "plateau"])
def test_warm_up_rises_in_equal_steps_to_the_full_rate(schedule):
    recipe = Recipe(schedule=schedule, learning_rate=0.3, epochs=6, warmup_epochs=2, step_every=20)
    actual = rates(recipe, 4)
    np.testing.assert_allclose(actual[:9], [0.3 * k / 9 for k in range(1, 10)], rtol=1e-12)


def test_cosine_falls_to_nearly_nothing():
    recipe = Recipe(schedule="cosine", learning_rate=0.2, epochs=5, warmup_epochs=1)
    actual = rates(recipe, 10)[10:]
    expected = [0.1 * (1 + math.cos(math.pi * k / 40)) for k in range(40)]
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert 0 < actual[-1] < 0.001
    assert actual[20] == pytest.approx(0.1)


def test_step_drops_every_so_many_epochs():
    recipe = Recipe(
        schedule="step",
        learning_rate=1.0,
        epochs=7,
        warmup_epochs=0,
        step_every=3,
        step_factor=0.1,
    )
    np.testing.assert_allclose(rates(recipe, 2), [1] * 6 + [0.1] * 6 + [0.01] * 2, rtol=1e-12)


def test_plateau_waits_then_cuts():
    recipe = Recipe(schedule="plateau", learning_rate=0.4, epochs=1, warmup_epochs=0)
    plateau = Plateau(factor=0.5, patience=2)
    seen = []
    for score in (0.1, 0.3, 0.3, 0.2, 0.3, 0.2, 0.2, 0.2, 0.4, 0.4):
        plateau.observe(score)
        seen.append(learning_rate(recipe, 0, 10, plateau))
    # Best at 0.3; the third epoch without a better one cuts, and three more cut again.
    assert seen == [0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1]


def test_a_plateau_continues_from_its_state():
    whole, first = Plateau(0.5, 1), Plateau(0.5, 1)
    scores = (0.5, 0.4, 0.3, 0.2, 0.6, 0.1, 0.1, 0.7)
    for score in scores:
        whole.observe(score)
    for score in scores[:4]:
        first.observe(score)
    second = Plateau(0.5, 1, **first.state())
    for score in scores[4:]:
        second.observe(score)
    assert second == whole


def test_a_warm_up_as_long_as_the_training():
    recipe = Recipe(schedule="cosine", learning_rate=0.2, epochs=2, warmup_epochs=3)
    np.testing.assert_allclose(rates(recipe, 5), [0.2 * k / 16 for k in range(1, 11)], rtol=1e-12)
