"""Layers and models: state, masks, what a pass in training changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fercore import backends, freeze, functions, nn
from fercore.autograd import Tensor
from fercore.errors import FercoreError
from fercore.masks import FROZEN, TRAINABLE, GradientMask
from fercore.nn import Context, Parameter
from tests.narrow import logits_of, narrow


def images(random: np.random.Generator, count: int = 2) -> np.ndarray:
    return random.standard_normal((count, 48, 48, 1)).astype(np.float32)


# -- state --------------------------------------------------------------------------------------


def test_state_round_trip(backend, random):
    one = narrow("tiny-bn", backend, seed=1)
    other = narrow("tiny-bn", backend, seed=2)
    for layer in one.layers:
        for statistic in layer.statistics.values():
            statistic.overwrite(1 + random.random(statistic.shape))
    other.load_state(one.state())
    expected = one.state()
    assert other.state().keys() == expected.keys()
    for name, array in other.state().items():
        assert array.tobytes() == expected[name].tobytes()
    x = images(random)
    np.testing.assert_array_equal(logits_of(one, backend, x), logits_of(other, backend, x))


def test_state_is_a_copy(backend):
    model = narrow("tiny", backend)
    state = model.state()
    state["fc3.weight"][:] = 9
    assert not (model.state()["fc3.weight"] == 9).any()
    model.load_state(state)
    state["fc3.weight"][:] = 8
    assert (model.state()["fc3.weight"] == 9).all()


def test_state_goes_from_one_backend_to_another(backend, reference):
    mine, other = narrow("tiny-bn", backend, seed=1), narrow("tiny-bn", reference, seed=2)
    other.load_state(mine.state())
    for name, array in other.state().items():
        np.testing.assert_array_equal(array.astype(backend.dtype), mine.state()[name])


def missing(state: dict[str, Any]) -> None:
    del state["fc2.bias"]


def unknown(state: dict[str, Any]) -> None:
    state["conv5_1.weight"] = np.zeros(3)


def misshapen(state: dict[str, Any]) -> None:
    state["fc2.weight"] = state["fc2.weight"].T


def nan(state: dict[str, Any]) -> None:
    state["fc3.bias"][3] = np.nan


def infinite(state: dict[str, Any]) -> None:
    state["fc3.bias"][3] = -np.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "the checkpoint lacks fc2.bias: it is not a tiny"),
        (unknown, "the checkpoint has an unknown conv5_1.weight: it is not a tiny"),
        (misshapen, r"fc2.weight has shape \(12, 10\), tiny needs \(10, 12\)"),
        (nan, "the checkpoint's fc3.bias holds NaN or infinity"),
        (infinite, "the checkpoint's fc3.bias holds NaN or infinity"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(reference, damage, message):
    model = narrow("tiny", reference)
    before = {name: array.tobytes() for name, array in model.state().items()}
    state = {name: array + 1 for name, array in model.state().items()}
    damage(state)
    with pytest.raises(FercoreError, match=message) as error:
        model.load_state(state)
    assert "\n" not in str(error.value)
    assert {name: array.tobytes() for name, array in model.state().items()} == before


# -- parameters ---------------------------------------------------------------------------------


def test_a_parameter_is_trainable_until_it_is_masked(backend):
    parameter = Parameter(backend, np.ones((3, 2)))
    assert parameter.wanted
    assert parameter.mask is TRAINABLE
    parameter.mask = FROZEN
    assert not parameter.wanted
    parameter.mask = GradientMask.of([0, 1, 0], (3, 2))
    assert parameter.wanted
    held = backend.to_host(parameter.mask_buffer)
    assert held.dtype == np.uint8
    assert held.tolist() == [0, 1, 0]
    parameter.mask = TRAINABLE
    assert parameter.mask_buffer is None


def test_a_network_runs_in_two_pieces_with_the_same_bits(backend, random):
    model = narrow("tiny-bn", backend, seed=1)
    x = Tensor(backend, backend.from_host(images(random)))
    whole = backend.to_host(model(x).data)
    for cut in (0, 1, 12, len(model.layers)):
        pieces = model(model(x, layers=slice(cut)), layers=slice(cut, None))
        assert backend.to_host(pieces.data).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("strategy", "first"), [("RE", "conv1_1"), ("FC", "fc1"), ("FC+CL", "conv4_3")]
)
def test_frozen_layers_lie_below_the_first_that_moves(reference, strategy, first):
    model = narrow("tiny-bn", reference)
    freeze.apply(model, strategy)
    assert model.layers[model.frozen_layers()].name == first
    for parameter in model.parameters().values():
        parameter.mask = FROZEN
    assert model.frozen_layers() == len(model.layers)


def test_parameters_are_found_by_name_not_by_value(reference):
    model = narrow("tiny-bn", reference)
    parameters = model.parameters()
    assert parameters["conv1_1.norm.bias"] is not parameters["conv1_2.norm.bias"]
    assert len({id(p) for p in parameters.values()}) == len(parameters) == 36
    assert model.parameters() == parameters


# -- layers -------------------------------------------------------------------------------------


def test_layers_hand_their_settings_to_their_functions(reference, random):
    """Each layer against the function it stands for, with settings that are not the default."""
    x = Tensor(reference, random.standard_normal((2, 9, 8, 3)))
    weight = Parameter(reference, random.standard_normal((4, 3, 2, 3)))
    bias = Parameter(reference, random.standard_normal(4))
    settings = {"stride": 2, "padding": 1}
    layer = nn.Conv2d("c", weight, bias, **settings, epilogue="relu_pool")
    expected = functions.Conv2d(**settings, epilogue="relu_pool")(x, weight, bias)
    out = layer(x, Context())
    np.testing.assert_array_equal(out.data, expected.data, strict=True)
    assert out.shape == layer.output_shape(x.shape)
    assert layer.flops(x.shape) == 2 * (2 * 5 * 5 * 4) * (3 * 2 * 3)

    pool = nn.MaxPool("p", window=3, stride=1)
    expected = functions.MaxPool(window=3, stride=1)(x)
    np.testing.assert_array_equal(pool(x, Context()).data, expected.data, strict=True)
    assert pool.output_shape(x.shape) == expected.shape

    flat = Tensor(reference, random.standard_normal((5, 6)))
    weight = Parameter(reference, random.standard_normal((4, 6)))
    connected = nn.Linear("f", weight, bias, epilogue="relu")
    expected = functions.Linear(epilogue="relu")(flat, weight, bias)
    np.testing.assert_array_equal(connected(flat, Context()).data, expected.data, strict=True)
    assert connected.flops((5, 6)) == 2 * 5 * 4 * 6


def test_batch_norm_normalises_by_the_batch_in_training_and_by_the_past_otherwise(backend, random):
    x = 3 + 2 * random.standard_normal((64, 4))
    layer = nn.BatchNorm("norm", 4, backend, epilogue="none")
    tensor = Tensor(backend, backend.from_host(x))
    before = backend.to_host(layer(tensor, Context()).data)
    np.testing.assert_allclose(before, x / np.sqrt(1 + 1e-5), rtol=1e-5)
    batch = backend.to_host(layer(tensor, Context(training=True)).data)
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    mean = backend.to_host(layer.statistics["running_mean"].data)
    variance = backend.to_host(layer.statistics["running_variance"].data)
    np.testing.assert_allclose(mean, 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)
    after = backend.to_host(layer(tensor, Context()).data)
    np.testing.assert_allclose(after, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)


def test_only_masked_in_channels_of_a_batch_norm_move(backend, random):
    layer = nn.BatchNorm("norm", 4, backend, epilogue="none")
    layer.parameters["weight"].mask = GradientMask.of([0, 1, 1, 0], (4,))
    x = Tensor(backend, backend.from_host(random.standard_normal((8, 4)) + 1))
    layer(x, Context(training=True))
    moved = backend.to_host(layer.statistics["running_mean"].data) != 0
    assert moved.tolist() == [False, True, True, False]


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_in_training(backend, rate):
    x = Parameter(backend, np.ones((8, 40)))
    layer = nn.Dropout("dropout1", number=1)
    rng = backend.from_host(np.array([1, 2, 3, 4], dtype=np.uint32))
    assert layer(x, Context(training=False, rng=rng, dropout=rate)) is x
    out = layer(x, Context(training=True, rng=rng, dropout=rate))
    if rate == 0:
        assert out is x
    else:
        assert set(np.unique(backend.to_host(out.data))) == {0, 2}


@pytest.mark.parametrize("name", ["tiny", "tiny-bn", "svgg5"])
def test_an_image_gets_the_same_logits_alone_and_in_a_batch(reference, random, name):
    model = narrow(name, reference)
    batch = images(random, 3)
    together = logits_of(model, reference, batch)
    alone = np.concatenate([logits_of(model, reference, image[None]) for image in batch])
    np.testing.assert_allclose(alone, together, rtol=1e-9, atol=1e-12)
    assert together.shape == (3, 7)
    assert not np.allclose(together[0], together[1])


@pytest.mark.parametrize("name", ["tiny", "tiny-bn", "svgg5", "svgg5-bn"])
def test_logits_are_those_of_the_reference(compiled_backend, reference, random, name):
    mine, definition = narrow(name, compiled_backend), narrow(name, reference)
    definition.load_state(mine.state())
    batch = images(random, 5)
    actual, expected = (
        logits_of(model, backend, batch)
        for model, backend in ((mine, compiled_backend), (definition, reference))
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_images_of_another_shape_are_refused(reference):
    model = narrow("tiny", reference)
    with pytest.raises(ValueError, match="input has 3 channels, the weight takes 1"):
        logits_of(model, reference, np.zeros((1, 48, 48, 3)))
    with pytest.raises(ValueError, match="input has"):
        logits_of(model, reference, np.zeros((1, 64, 64, 1)))


def test_a_network_lives_on_the_backend_it_was_built_on(backend):
    model = narrow("tiny-bn", backend)
    for tensor in (*model.parameters().values(), *model.layers[1].statistics.values()):
        assert tensor.backend is backend
        assert tensor.data.dtype == backend.dtype
    assert backends.get("reference").dtype == np.float64
