"""Gradient masks: what each strategy trains, and that frozen means frozen, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fercore import freeze
from fercore.autograd import Tensor
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.freeze import STRATEGIES, Strategy
from fercore.fusions import separate
from fercore.masks import FROZEN, TRAINABLE, GradientMask
from fercore.nn import Context
from tests.narrow import MASKS, PARTIAL, Training, logits_of, narrow

FULLY_CONNECTED = {f"fc{number}.{what}" for number in (1, 2, 3) for what in ("weight", "bias")}


BIASES_OF_SECONDS = "conv1_2.bias conv2_2.bias conv3_2.bias conv4_2.bias fc2.bias"


def trainable(model: Any) -> set[str]:
    return {name for name, p in model.parameters().items() if p.mask.kind == "trainable"}


# -- masks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [True, 1, [1, 1, 1], np.ones((3, 2, 2, 4)), [0.5, 2, -1]])
def test_a_mask_of_ones_is_trainable(entries):
    assert GradientMask.of(entries, (3, 2, 2, 4)) is TRAINABLE


@pytest.mark.parametrize("entries", [False, 0, [0, 0, 0], np.zeros((3, 2, 2, 4))])
def test_a_mask_of_zeros_is_frozen(entries):
    assert GradientMask.of(entries, (3, 2, 2, 4)) is FROZEN


def test_a_partial_mask_holds_zeros_and_ones():
    mask = GradientMask.of(np.array([[0.0, 2.0], [-1.0, 0.0]]).T, (2, 2))
    assert mask.kind == "partial"
    assert mask.entries.dtype == np.uint8
    assert mask.entries.flags.c_contiguous
    assert mask.entries.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("shape", [(2,), (4,), (4, 3), (1, 3), (3, 4, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    entries = np.arange(np.prod(shape)).reshape(shape)
    with pytest.raises(ValueError, match=r"neither by output channel .* nor by element"):
        GradientMask.of(entries, (3, 4))


def test_num_trainable(reference):
    model = narrow("tiny", reference)
    weight = model.parameters()["conv1_2.weight"]
    assert weight.shape == (4, 3, 3, 4)
    for entries, expected in (
        (True, 144),
        (False, 0),
        ([1, 0, 1, 1], 108),
        (np.arange(144).reshape(weight.shape) >= 100, 44),
    ):
        weight.mask = GradientMask.of(entries, weight.shape)
        assert weight.num_trainable() == expected
        assert weight.wanted == (expected > 0)
        assert (weight.mask_buffer is None) == (expected in (0, 144))


# -- strategies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["BL", "RE", "FU", "TO"])
def test_strategies_that_train_everything(reference, name):
    model = narrow("tiny-bn", reference)
    freeze.apply(model, name)
    assert trainable(model) == set(model.parameters())


@pytest.mark.parametrize("network", ["tiny", "tiny-bn", "svgg5", "svgg5-bn"])
def test_fc_trains_the_fully_connected_layers(reference, network):
    model = narrow(network, reference)
    freeze.apply(model, "FC")
    assert trainable(model) == FULLY_CONNECTED
    others = set(model.parameters()) - FULLY_CONNECTED
    assert all(model.parameters()[name].mask is FROZEN for name in others)


@pytest.mark.parametrize(
    ("network", "last"),
    [
        ("tiny", {"conv4_3.weight", "conv4_3.bias"}),
        ("tiny-bn", {"conv4_3.weight", "conv4_3.norm.weight", "conv4_3.norm.bias"}),
        ("svgg5", {"conv2_3.weight", "conv2_3.bias"}),
        ("svgg5-bn", {"conv2_3.weight", "conv2_3.norm.weight", "conv2_3.norm.bias"}),
    ],
)
def test_fc_cl_adds_the_last_convolution_with_its_normalisation(reference, network, last):
    model = narrow(network, reference)
    freeze.apply(model, "FC+CL")
    assert trainable(model) == FULLY_CONNECTED | last


def test_the_paper_s_strategies():
    rows = {s.name: (s.starts_from, s.trains_on, s.trainable) for s in STRATEGIES.values()}
    assert rows == {
        "BL": ("random", "source", ("all",)),
        "FC": ("BL", "target", ("fc",)),
        "FC+CL": ("BL", "target", ("fc", "last_conv")),
        "RE": ("BL", "target", ("all",)),
        "FU": ("random", "both", ("all",)),
        "TO": ("random", "target", ("all",)),
    }
    assert list(STRATEGIES) == list(rows)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("fc?.bias",), "fc1.bias fc2.bias fc3.bias"),
        (("conv4_[12]*",), "conv4_1.weight conv4_1.bias conv4_2.weight conv4_2.bias"),
        (("conv?_1.weight",), "conv1_1.weight conv2_1.weight conv3_1.weight conv4_1.weight"),
        (("conv1_2.weight", "*2.bias"), "conv1_2.weight " + BIASES_OF_SECONDS),
        (("last_conv", "fc1.*"), "conv4_3.weight conv4_3.bias fc1.weight fc1.bias"),
    ],
)
def test_patterns(reference, patterns, expected):
    model = narrow("tiny", reference)
    freeze.apply(model, Strategy("mine", trainable=patterns))
    assert trainable(model) == set(expected.split())


def test_channels(reference):
    model = narrow("tiny-bn", reference)
    channels = {"conv4_3.*": (0, 7), "fc2.weight": (1,), "conv1_1.weight": (0, 1, 2, 3)}
    freeze.apply(model, Strategy("mine", trainable=("fc",), channels=channels))
    parameters = model.parameters()
    for name in ("conv4_3.weight", "conv4_3.norm.weight", "conv4_3.norm.bias"):
        assert parameters[name].mask.entries.tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert parameters["fc2.weight"].mask.entries.tolist() == [0, 1] + [0] * 8
    assert parameters["conv1_1.weight"].mask is TRAINABLE
    assert trainable(model) == FULLY_CONNECTED - {"fc2.weight"} | {"conv1_1.weight"}


def test_applying_is_idempotent_whatever_the_masks_were(reference):
    model = narrow("tiny-bn", reference)

    def masks() -> dict[str, Any]:
        return {
            name: (p.mask.kind, None if p.mask.entries is None else p.mask.entries.tolist())
            for name, p in model.parameters().items()
        }

    seen = {}
    for strategy in ("FC", PARTIAL, "BL", "FC+CL", PARTIAL, "FC", "BL", "BL", "FC+CL"):
        freeze.apply(model, strategy)
        name = strategy if isinstance(strategy, str) else strategy.name
        assert masks() == seen.setdefault(name, masks())
    for parameter in model.parameters().values():
        assert (parameter.mask_buffer is None) == (parameter.mask.entries is None)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("FCC", "there is no strategy 'FCC'; did you mean 'FC'"),
        (
            Strategy("mine", trainable=("fc", "conv9_*")),
            "strategy mine: 'conv9_\\*' matches no parameter of tiny; choose from all, fc, "
            "last_conv, conv1_1.weight",
        ),
        (Strategy("mine", channels={"conv9_*": (0,)}), "'conv9_\\*' matches no parameter"),
        (
            Strategy("mine", channels={"conv4_3.weight": (0, 8)}),
            "strategy mine: conv4_3.weight has output channels 0 to 7, not 8",
        ),
        (Strategy("mine", channels={"conv1_1.bias": (-1,)}), "output channels 0 to 3, not -1"),
        (Strategy("mine", trainable=()), "strategy mine: nothing is left to train"),
        (
            Strategy("mine", trainable=("fc3.bias",), channels={"fc3.bias": ()}),
            "nothing is left to train",
        ),
    ],
)
def test_a_strategy_that_does_not_fit_is_refused_and_changes_nothing(reference, strategy, message):
    model = narrow("tiny", reference)
    freeze.apply(model, "FC")
    with pytest.raises(FercoreError, match=message) as error:
        freeze.apply(model, strategy)
    assert "\n" not in str(error.value)
    assert trainable(model) == FULLY_CONNECTED


# -- frozen means frozen ------------------------------------------------------------------------

RECIPES = {
    "sgd": Recipe(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.1, clip_norm=5.0),
    "adam": Recipe(optimizer="adam", weight_decay=0.1),
    "adamw": Recipe(optimizer="adamw", weight_decay=0.1),
}


def allowed(model: Any) -> dict[str, np.ndarray]:
    """name -> bool array of what may move, from the masks alone; statistics follow their scale."""
    result = {}
    for name, parameter in model.parameters().items():
        entries = np.asarray(
            parameter.mask.kind == "trainable"
            if parameter.mask.entries is None
            else parameter.mask.entries
        )
        entries = entries.reshape(entries.shape + (1,) * (len(parameter.shape) - entries.ndim))
        result[name] = np.broadcast_to(entries != 0, parameter.shape)
    for name in model.state().keys() - result.keys():
        result[name] = result[name.rpartition(".")[0] + ".weight"]
    return result


@pytest.mark.parametrize("masks", ["FC", "FC+CL", "channels", "elements"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["tiny", "tiny-bn"])
def test_frozen_means_frozen_bit_for_bit(backend, name, recipe, masks):
    """Several steps with weight decay, momentum, moments, clipping, dropout, moving statistics."""
    model = narrow(name, backend, seed=1)
    for parameter in model.parameters().values():  # decay of a 0 would go unnoticed
        parameter.overwrite(backend.to_host(parameter.data) + 0.01)
    MASKS[masks](model)
    before = model.state()
    training = Training(backend, model, RECIPES[recipe])
    training.steps([4, 4, 4], recorded=True)
    after, may_move = model.state(), allowed(model)
    assert before.keys() == after.keys() == may_move.keys()
    for tensor, old in before.items():
        held = ~may_move[tensor]
        assert old[held].tobytes() == after[tensor][held].tobytes(), tensor
        if may_move[tensor].any():
            moved = (old != after[tensor])[may_move[tensor]]
            assert moved.mean() > 0.25, f"{tensor} does not learn"
    for moment, values in training.optimizer.state().items():
        held = ~may_move[moment.rpartition(".")[0]]
        assert not values[held].any(), f"{moment} of frozen entries"
        assert np.isfinite(values).all()


def test_a_frozen_parameter_has_no_moments(reference):
    model = narrow("tiny-bn", reference)
    freeze.apply(model, "FC+CL")
    training = Training(reference, model, RECIPES["adam"])
    assert set(training.optimizer.state()) == {
        f"{name}.{moment}" for name in trainable(model) for moment in ("first", "second")
    }


@pytest.mark.parametrize("masks", ["channels", "elements"])
def test_masked_entries_do_not_count_in_the_clipping_norm(backend, masks):
    model = narrow("tiny", backend, seed=1)
    MASKS[masks](model)
    training = Training(backend, model, Recipe(optimizer="sgd", clip_norm=1e-3))
    gradients: dict[str, np.ndarray] = {}

    def observe(_backend: Any, found: Any) -> None:
        found = dict(found)
        for name, parameter in training.optimizer.parameters.items():
            gradients[name] = backend.to_host(found[parameter]).astype(np.float64)
        update(_backend, found.items())

    update, training.optimizer.update = training.optimizer.update, observe
    training.step()
    may_move = allowed(model)
    norm = np.sqrt(sum((g[may_move[name]] ** 2).sum() for name, g in gradients.items()))
    whole = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert norm < 0.9 * whole
    np.testing.assert_allclose(backend.to_host(training.optimizer.rates)[3], 1e-3 / norm, rtol=1e-5)


# -- dropout and statistics of a frozen path ----------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "active"),
    [
        (STRATEGIES["BL"], {"dropout1", "dropout2"}),
        (STRATEGIES["FC"], {"dropout1", "dropout2"}),
        (Strategy("upper", trainable=("fc2.*",)), {"dropout2"}),
        (Strategy("top", trainable=("fc3.*",)), set()),
        (Strategy("bottom", trainable=("conv1_1.bias",)), {"dropout1", "dropout2"}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_dropout_is_active_only_above_something_trainable(backend, random, strategy, active):
    model = narrow("tiny", backend)
    freeze.apply(model, strategy)
    rng = backend.from_host(np.array([1, 2, 3, 4], dtype=np.uint32))
    images = backend.from_host(random.standard_normal((4, 48, 48, 1)))
    results = []
    for one in (model, separate(model, ["dropout"])):
        x, dropped = Tensor(backend, images), set()
        for layer in one.layers:
            out = layer(x, Context(training=True, rng=rng))
            if getattr(layer, "dropout", None):
                spared = layer(x, Context(training=True, rng=rng, dropout=0.0))
                if not np.array_equal(*(backend.to_host(y.data) for y in (out, spared))):
                    dropped.add(f"dropout{layer.dropout}")
            if layer.kind == "dropout" and out is not x:
                dropped.add(layer.name)
            x = out
        assert dropped == active
        results.append(backend.to_host(x.data))
    np.testing.assert_array_equal(*results)


def test_a_network_is_deterministic_outside_of_training(backend, random):
    model = narrow("tiny-bn", backend)
    x = random.standard_normal((2, 48, 48, 1))
    before = model.state()
    first, second = (logits_of(model, backend, x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert {n: a.tobytes() for n, a in model.state().items()} == {
        n: a.tobytes() for n, a in before.items()
    }


@pytest.mark.parametrize(
    ("strategy", "moving"),
    [
        (STRATEGIES["FC"], set()),
        (STRATEGIES["FC+CL"], {"conv4_3"}),
        (Strategy("weights", trainable=("conv4_3.weight", "fc")), set()),
        (Strategy("shift", trainable=("conv4_3.norm.bias",)), set()),
        (Strategy("scale", trainable=("conv2_1.norm.weight",)), {"conv2_1"}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_statistics_move_only_where_the_scale_is_trainable(backend, strategy, moving):
    model = narrow("tiny-bn", backend)
    freeze.apply(model, strategy)
    before = model.state()
    Training(backend, model, RECIPES["sgd"]).step()
    after = model.state()
    moved = {
        name.split(".")[0]
        for name in before
        if "running" in name and (before[name] != after[name]).any()
    }
    assert moved == moving
