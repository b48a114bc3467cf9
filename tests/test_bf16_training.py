"""Training in bf16 on the emulated device: masters, copies, features, and that it learns."""

from __future__ import annotations

import json
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from cuda_kernels.linear import to_bf16
from fercore import backends, freeze, functions, models
from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from fercore.features import FeatureStore
from fercore.nn import Parameter
from fercore.training import train
from tests.backends.harness import relative_error, same_bits
from tests.narrow import ARCHITECTURES, MASKS, Training, narrow
from tests.small_data import striped

RECIPE = Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.01, clip_norm=0.5)
ADAM = Recipe(optimizer="adamw", weight_decay=0.01)


@pytest.fixture(scope="module")
def device():
    try:
        return backends.get("emulated", precision="bf16")
    except FercoreError as error:
        pytest.skip(str(error))


def training(device, strategy="BL", recipe=RECIPE, name="tiny"):
    model = narrow(name, device, seed=3)
    MASKS[strategy](model)
    return Training(device, model, recipe, Augmentation())


def copies(model):
    """The weights' copies by name, as bits."""
    found = {name: p.copy for name, p in model.parameters().items() if p.copy is not None}
    return {name: model.parameters()[name].backend.to_host(copy) for name, copy in found.items()}


def assert_copies_are_rounded_masters(model):
    state, bits = model.state(), copies(model)
    weights = {name for name, parameter in model.parameters().items() if len(parameter.shape) > 1}
    assert bits.keys() == weights
    for name, copy in bits.items():
        assert same_bits(copy, to_bf16(state[name])), name


def may_move(parameter):
    entries = parameter.mask.entries
    if entries is None:
        return np.full(parameter.shape, parameter.wanted)
    trailing = (1,) * (len(parameter.shape) - entries.ndim)
    return np.broadcast_to(entries.reshape(entries.shape + trailing) != 0, parameter.shape)


@pytest.mark.parametrize("recipe", [RECIPE, ADAM], ids=["sgd", "adamw"])
@pytest.mark.parametrize("strategy", ["FC", "channels", "elements"])
def test_what_is_frozen_keeps_its_bits_and_copies_follow_the_rest(device, strategy, recipe):
    one = training(device, strategy, recipe)
    before, bits = one.model.state(), copies(one.model)
    one.steps([3, 2])
    after, moved = one.model.state(), copies(one.model)
    for name, parameter in one.model.parameters().items():
        moves = may_move(parameter)
        assert same_bits(after[name][~moves], before[name][~moves]), name
        assert (after[name] != before[name])[moves].any() == moves.any(), name
        if name in bits:
            assert same_bits(moved[name][~moves], bits[name][~moves]), name
    assert_copies_are_rounded_masters(one.model)


def test_a_recorded_step_gives_the_bits_of_an_eager_one(device):
    eager, recorded = (training(device, "FC+CL") for _ in range(2))
    logits = eager.steps([3, 3])
    for one, other in zip(logits, recorded.steps([3, 3], recorded=True), strict=True):
        assert one.dtype == np.float32
        assert same_bits(one, other)
    assert eager.everything() == recorded.everything()
    for one, other in zip(
        copies(eager.model).values(), copies(recorded.model).values(), strict=True
    ):
        assert same_bits(one, other)


def test_logits_are_float32_and_any_other_result_is_bf16(device):
    x, bias = Tensor(device, device.from_host(to_bf16(np.ones((2, 3))))), None
    weight = Parameter(device, np.eye(3) + 2.0**-12)  # 1 in bf16
    for options, dtype, one in (
        ({"logits": True}, np.float32, 1 + 2.0**-11),
        ({}, np.uint16, 0x3F80),
        ({"epilogue": "relu"}, np.uint16, 0x3F80),
    ):
        out = device.to_host(functions.Linear(**options)(x, weight, bias).data)
        assert out.dtype == dtype
        assert (out == one).all()


def test_loaded_weights_are_copied(device):
    images = striped(5).images
    one, other = (narrow("tiny-bn", device, seed=seed) for seed in (1, 2))
    wanted = predict_logits(one, images, backend=device)
    assert not same_bits(predict_logits(other, images, backend=device), wanted)
    other.load_state(one.state())
    assert_copies_are_rounded_masters(other)
    assert same_bits(predict_logits(other, images, backend=device), wanted)


def test_logits_are_near_those_of_float32(device):
    """Two dozen roundings to 8 bits, between which errors average out."""
    images, model = striped(5).images, narrow("tiny-bn", device, seed=1)
    exact = narrow("tiny-bn", backends.get("reference"), seed=2)
    exact.load_state(model.state())
    actual = predict_logits(model, images, backend=device)
    expected = predict_logits(exact, images, backend=backends.get("reference"))
    assert actual.dtype == np.float32
    assert 1e-4 <= relative_error(actual, expected) <= 3e-2


LEARNING = Recipe(
    epochs=3,
    batch_size=8,
    learning_rate=0.01,
    momentum=0.5,
    dropout=0.0,
    warmup_epochs=0,
    flip=0.0,
    shift=1.0,
    rotation=0.0,
)


def learn(device, folder, strategy, recipe=LEARNING, store=None):
    """The lines of metrics, and the network after."""
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        model = models.build("tiny-bn", backend=device)
        freeze.apply(model, strategy)
        train(
            *(model, striped(16), {"source": striped(8, 1)}, recipe),
            choose_on=("source",),
            backend=device,
            seed=5,
            run=7,
            folder=folder,
            shelf=None if store is None else store.shelf(),
        )
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], model


def test_it_learns_as_in_float32(device, tmp_path):
    lines, model = learn(device, tmp_path / "bf16", "BL")
    exact, _ = learn(backends.get("reference"), tmp_path / "float64", "BL")
    losses, wanted = ([line["train_loss"] for line in which] for which in (lines, exact))
    assert losses[-1] < 0.8 * losses[0]
    assert losses == pytest.approx(wanted, rel=0.1)
    assert_copies_are_rounded_masters(model)


def test_features_are_kept_as_bits_and_give_the_same_network(device, tmp_path):
    recipe = msgspec.structs.replace(LEARNING, epochs=2, views=1)
    store = FeatureStore()
    _, kept = learn(device, tmp_path / "kept", "FC", recipe, store)
    assert store.kept
    assert {array.dtype for array in store.kept.values()} == {np.dtype(np.uint16)}
    _, computed = learn(device, tmp_path / "not", "FC", recipe, FeatureStore(memory=0))
    for name, array in kept.state().items():
        assert same_bits(array, computed.state()[name]), name
