"""Networks with epilogues of their own: the same results, by more calls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fercore import backends, freeze
from fercore.backends.sketch import SketchBackend
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.fusions import FUSIONS, separate
from tests.narrow import Training, narrow

RECIPE = Recipe(optimizer="sgd", weight_decay=0.01)
OF_CALLS = [name for name in FUSIONS if name != "side_stream"]  # that says when calls run
SETS = [names for count in (1, 2, 5) for names in itertools.combinations(OF_CALLS, count)]


def training(backend, name, strategy, without=()):
    model = narrow(name, backend, seed=3)
    freeze.apply(model, strategy)
    fused = "update" not in without
    return Training(backend, separate(model, without), RECIPE, sums_slices=fused)


@pytest.mark.parametrize("without", SETS, ids=str)
@pytest.mark.parametrize(("name", "strategy"), [("tiny", "BL"), ("tiny-bn", "BL"), ("svgg5", "FC")])
def test_a_step_has_the_same_results(backend, name, strategy, without):
    fused, apart = training(backend, name, strategy), training(backend, name, strategy, without)
    for _ in range(2):
        np.testing.assert_allclose(apart.step(), fused.step(), rtol=1e-5, atol=1e-6)
    moments, expected = apart.optimizer.state(), fused.optimizer.state()
    assert moments.keys() == expected.keys()
    for tensor, moment in moments.items():
        distance = np.linalg.norm(moment - expected[tensor])
        assert distance <= 1e-5 * np.linalg.norm(expected[tensor]), tensor


@pytest.mark.parametrize(
    ("without", "epilogues", "own"),
    [
        (["relu_pool"], {"relu"}, {"max_pool_forward": 4, "max_pool_backward": 4}),
        # Of ten convolutions and two hidden layers, four convolutions keep ReLU with their pool.
        # A ReLU's gradient comes from a product but where dropout is a call, or where it is apart.
        ([], {"relu", "relu_pool"}, {"epilogue_gradient": 0, "dropout": 0}),
        (["dropout"], {"relu", "relu_pool"}, {"epilogue_gradient": 2, "dropout": 4}),
        (["epilogue_gradient"], {"relu", "relu_pool"}, {"epilogue_gradient": 12, "dropout": 2}),
        (["relu"], {"relu_pool"}, {"epilogue_gradient": 8 + 8}),
        (["relu", "relu_pool"], set(), {"max_pool_forward": 4, "epilogue_gradient": 12 + 12}),
        (["update"], {"relu", "relu_pool"}, {"sgd_update": 26}),
    ],
)
def test_what_is_apart_has_calls_of_its_own(without, epilogues, own):
    calls = training(SketchBackend(), "tiny", "BL", without).record(4).calls
    forward = [call for call in calls if call.method.endswith("_forward")]
    assert {call.kwargs.get("epilogue", "none") for call in forward} - {"none"} == epilogues
    methods = [call.method for call in calls]
    assert {method: methods.count(method) for method in own} == own


@pytest.mark.parametrize("fusion", ["epilogue_gradient", "dropout"])
@pytest.mark.parametrize("strategy", ["FC", "FC+CL", "RE", "FU"])
@pytest.mark.parametrize("name", ["tiny", "tiny-bn", "svgg5"])
def test_gradients_through_epilogues_have_the_same_bits(backend, name, strategy, fusion):
    fused, apart = (training(backend, name, strategy, without) for without in ((), [fusion]))
    for _ in range(2):
        np.testing.assert_array_equal(apart.step(), fused.step())
    fused.step(recorded=True), apart.step()
    assert fused.everything() == apart.everything()


@pytest.mark.parametrize("fusion", ["epilogue_gradient", "dropout"])
@pytest.mark.parametrize(("name", "strategy"), [("tiny", "FC"), ("tiny", "RE"), ("tiny-bn", "RE")])
def test_gradients_through_epilogues_in_bf16_have_the_same_bits(name, strategy, fusion):
    """Also those of dropout: half are kept, and twice a bf16 is a bf16."""
    backend = backends.get("emulated", precision="bf16")
    fused, apart = (training(backend, name, strategy, without) for without in ((), [fusion]))
    np.testing.assert_array_equal(apart.step(), fused.step())
    assert fused.everything() == apart.everything()


@pytest.mark.parametrize("strategy", ["FC", "FC+CL", "RE"])
def test_a_fused_gradient_costs_less(strategy):
    """Fewer calls, of which none is new, and less memory; nothing more for frozen layers."""
    fused, apart = (
        training(SketchBackend(), "tiny", strategy, without).record(4).recording
        for without in ((), ["epilogue_gradient"])
    )
    there = {(call.label, call.method) for call in apart.calls}
    left_out = there - {(call.label, call.method) for call in fused.calls}
    # FC: those of fc1 and fc2, with dropout. FC+CL: the convolution's, below fc1, too.
    assert len(left_out) == {"FC": 4, "FC+CL": 5, "RE": 14}[strategy]
    assert {method for _, method in left_out} <= {"epilogue_gradient", "dropout"}
    assert len(fused.calls) == len(apart.calls) - len(left_out)
    assert len(fused.allocations) == len(apart.allocations) - len(left_out)
    assert fused.arena_bytes <= apart.arena_bytes


@pytest.mark.parametrize("without", [(), ("update",)])
def test_gradients_of_convolutions_are_left_in_slices_if_updates_sum_them(without):
    backend = SketchBackend()
    for call in training(backend, "tiny", "BL", without).record(4).calls:
        if call.method == "sgd_update":
            parameter, gradient = call.args[:2]
            sliced = not without and call.label.startswith("conv1_")
            if sliced or without or call.label.startswith("fc"):
                assert (gradient.ndim > parameter.ndim) == sliced, call.label


def test_an_update_follows_its_product():
    """Nothing else comes between, so that caches hold what it reads."""
    calls = training(SketchBackend(), "tiny", "BL").record(4).calls
    for before, call in itertools.pairwise(calls):
        if call.method == "sgd_update":
            layer = call.label.removesuffix(" update")
            assert before.label in (f"{layer} backward", f"{layer} update")
            if before.method != "sgd_update":
                assert before.method.endswith("weight_gradient")


def test_parameters_are_the_same(reference):
    model = narrow("tiny", reference)
    apart = separate(model, FUSIONS)
    assert apart.parameters() == model.parameters()
    assert apart.frozen_layers() == model.frozen_layers() == 0
    freeze.apply(model, "FC")
    assert len(apart.layers) - apart.frozen_layers() == 5 + 2  # two hidden layers lost their ReLU


def test_an_unknown_fusion(reference):
    with pytest.raises(FercoreError, match="no fusion 'relu_pol'; did you mean 'relu_pool'"):
        separate(narrow("tiny", reference), ["relu_pol"])
