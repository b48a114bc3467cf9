"""A whole training step on the emulated device against the reference, and what it launches."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from fercore import backends, freeze, models
from fercore.backends.emulated import EmulatedBackend
from fercore.backends.interface import Augmentation
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.freeze import STRATEGIES
from fercore.models import Architecture, Block
from tests.backends.harness import relative_error
from tests.kinks import Follower, decide
from tests.narrow import MASKS, Training, assert_same_step, narrow

EIGHTH = Architecture(
    (Block(8, 2, kernel=2, padding=0), Block(16, 3, padding=0)), hidden=(256, 128)
)
"""``svgg5`` at an eighth of its width."""

RECIPE = Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.01, clip_norm=0.5)
PER_CHANNEL = {"tiny": "channels", "svgg5": "one channel"}


class Watched(EmulatedBackend):
    """Notes the kernels that are launched under each label."""

    def __init__(self, precision="fp32") -> None:
        super().__init__(precision)
        self.label = ""
        self.launched: dict[str, list[str]] = defaultdict(list)
        self._runtime.on_launch = lambda kernel, _: self.launched[self.label].append(kernel.name)

    @contextmanager
    def scope(self, label):
        outer, self.label = self.label, label
        try:
            yield
        finally:
            self.label = outer


def watched(precision="fp32"):
    try:
        return Watched(precision)
    except FercoreError as error:
        pytest.skip(str(error))


@pytest.fixture
def device():
    return watched()


def build(name, backend, classes=7):
    if name.startswith("tiny"):
        return narrow(name, backend, seed=3, classes=classes)
    with patch.dict(models.ARCHITECTURES, {"svgg5": EIGHTH}):
        return models.build(name, classes, backend=backend, seed=3)


def one_channel(model):
    """Channels 0 and 5 of the last convolution, and fc2."""
    strategy = freeze.Strategy(
        "one channel", trainable=("fc2.*",), channels={"conv2_3.*": (0, 5), "conv1_2.weight": (1,)}
    )
    freeze.apply(model, strategy)


def training(name, strategy, backend, recipe=RECIPE, classes=7, **options):
    model = build(name, backend, classes)
    (one_channel if strategy == "one channel" else MASKS[strategy])(model)
    return Training(backend, model, recipe, Augmentation(), **options)


@pytest.mark.parametrize("strategy", ["BL", "FC", "FC+CL", "per channel"])
@pytest.mark.parametrize("name", ["tiny", "svgg5"])
def test_a_step_is_that_of_the_reference(device, reference, name, strategy):
    strategy = PER_CHANNEL[name] if strategy == "per channel" else strategy
    mine, definition = (training(name, strategy, one) for one in (device, reference))
    assert_same_step(mine, definition)


@pytest.mark.parametrize("multi_target", [False, True])
def test_a_step_towards_shares_is_that_of_the_reference(device, reference, multi_target):
    mine, definition = (training("tiny", "BL", one) for one in (device, reference))
    for one in (mine, definition):
        one.teach_shares(multi_target=multi_target)
    assert_same_step(mine, definition)


@pytest.fixture(params=["cpu", "emulated"])
def any_device(request):
    """The emulated device, and the processor."""
    if request.param == "emulated":
        return watched()
    try:
        return backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("teach", ["labels", "shares", "right answers"])
def test_a_step_with_eight_classes_is_that_of_the_reference(any_device, reference, teach):
    mine, definition = (training("tiny", "BL", one, classes=8) for one in (any_device, reference))
    if teach != "labels":
        for one in (mine, definition):
            one.teach_shares(multi_target=teach == "right answers")
    assert_same_step(mine, definition)


def assert_nearly_same_step(name, device, gate, size=4, classes=7):
    """Logits and each tensor's velocity, where the reference follows the device's decisions.

    Returns the tensor that is furthest off, with its error.

    The gradient of a channel's scale or shift after normalisation is a sum over pixels that nearly
    cancel; in nets of few channels it may be off by twice the gate.
    """
    reference, decisions = Follower(), []
    decide(device, decisions)
    mine, definition = (training(name, "BL", one, classes=classes) for one in (device, reference))
    definition.model.load_state(mine.model.state())
    logits, reference.decisions = mine.step(size), iter(decisions)
    expected = definition.step(size)
    assert next(reference.decisions, None) is None
    assert relative_error(logits, expected) <= gate
    velocities, wanted = mine.optimizer.state(), definition.optimizer.state()
    errors = {name: relative_error(one, wanted[name]) for name, one in velocities.items()}
    for tensor, error in errors.items():
        assert error <= gate * (1 + (".norm." in tensor)), f"{tensor}: relative error {error:.2g}"
    return max(errors.items(), key=lambda item: item[1])


@pytest.mark.parametrize(("precision", "gate"), [("tf32", 3e-3), ("bf16x3", 1e-4), ("bf16", 3e-2)])
def test_a_step_on_tensor_cores_is_nearly_that_of_the_reference(precision, gate):
    device = watched(precision)
    assert_nearly_same_step("svgg5", device, gate)
    kinds = defaultdict(set)
    for label, names in device.launched.items():
        layer, of_products = label.partition(" ")[0], filter(is_product, names)
        kinds[layer] |= {f"_{precision}_mma" in name for name in of_products}
    by_cores = {layer for layer, kind in kinds.items() if kind == {True}}
    assert by_cores == {"conv1_2", "conv2_1", "conv2_2", "conv2_3", "fc1", "fc2"}
    # One input channel, seven classes: no whole chunks, so kernels on CUDA cores.
    assert kinds["conv1_1"] == kinds["fc3"] == {False}


@pytest.mark.parametrize(("precision", "gate"), [("tf32", 3e-3), ("bf16x3", 1e-4), ("bf16", 3e-2)])
def test_eight_classes_are_whole_chunks_for_tensor_cores(precision, gate):
    device = watched(precision)
    assert_nearly_same_step("svgg5", device, gate, classes=8)
    by_cores = {
        way: {"_mma" in name for name in device.launched[f"fc3 {way}"] if is_product(name)}
        for way in ("forward", "backward")
    }
    # Logits are float32, which the kernels for bf16 do not write.
    assert by_cores == {"forward": {precision != "bf16"}, "backward": {True}}


@pytest.mark.parametrize("name", ["tiny", "tiny-bn"])
def test_a_step_in_bf16_is_nearly_that_of_the_reference(name):
    """Ten convolutions deep, and with normalisation and its own pooling."""
    assert_nearly_same_step(name, watched("bf16"), 3e-2)


@pytest.mark.parametrize(("precision", "gate"), [("fp32", 1e-5), ("bf16", 3e-2)])
def test_a_step_of_svgg10_at_its_full_width(precision, gate, record_property):
    """4 GFLOP: every shape of the real network, once."""
    started = time.perf_counter()
    tensor, error = assert_nearly_same_step("svgg10", watched(precision), gate, size=1)
    seconds = time.perf_counter() - started
    told = f"svgg10 in {precision}, {seconds:.0f} s: gradients within {error:.1e} ({tensor})"
    record_property("summary", told)


def is_product(kernel):
    return any(what in kernel for what in ("forward", "input_gradient", "weight_gradient"))


LAYERS = [
    *(
        f"conv{block}_{i}"
        for block, count in enumerate((2, 2, 3, 3), 1)
        for i in range(1, 1 + count)
    ),
    *("fc1", "fc2", "fc3"),
]


@pytest.mark.parametrize(
    ("strategy", "with_weights", "lowest"),
    [  # layers whose weights have a gradient; the lowest, which nothing needs a gradient below
        ("BL", LAYERS, "conv1_1"),
        ("FC", ["fc1", "fc2", "fc3"], "fc1"),
        ("FC+CL", ["conv4_3", "fc1", "fc2", "fc3"], "conv4_3"),
        ("channels", ["conv2_1", "conv4_3", "fc2"], "conv2_1"),
    ],
)
def test_a_frozen_layer_launches_no_gradient_kernel(device, strategy, with_weights, lowest):
    training("tiny", strategy, device).step()
    launched = {label: names for label, names in device.launched.items() if names}

    def layers_that_launched(what, among):
        found = {
            label.split()[0]
            for label, names in launched.items()
            if label.endswith(" backward") and any(what in name for name in names)
        }
        return [layer for layer in among if layer in found]

    above = LAYERS[LAYERS.index(lowest) + 1 :]
    assert layers_that_launched("weight_gradient", LAYERS) == with_weights
    assert layers_that_launched("input_gradient", LAYERS) == above
    below = LAYERS[: LAYERS.index(lowest)]
    assert not [label for label in launched for layer in below if label == f"{layer} backward"]
    updated = [label.split()[0] for label in launched if label.endswith(" update")]
    assert sorted(updated) == sorted(with_weights)
    for layer in LAYERS:  # every forward pass is one launch of the product
        products = [name for name in launched[f"{layer} forward"] if "forward" in name]
        assert len(products) == 1


def test_a_frozen_prefix_saves_launches(device):
    counts = {}
    for strategy in ("BL", "FC+CL", "FC"):
        device.launched.clear()
        training("tiny", strategy, device).step()
        counts[strategy] = sum(map(len, device.launched.values()))
    assert counts["FC"] < counts["FC+CL"] < 0.7 * counts["BL"]


def test_recorded_steps_launch_what_eager_ones_do():
    """In the same order, with no launch besides."""
    sequences = []
    for recorded in (False, True):
        device = Watched()
        one = training("tiny", "FC+CL", device)
        if recorded:
            one.record(4)
        device.launched.clear()
        one.step(recorded=recorded)
        sequences.append(dict(device.launched))
    assert sequences[0] == sequences[1]


# -- updates that sum slices ----------------------------------------------------------------------

UPDATES = {
    "sgd": Recipe(optimizer="sgd", momentum=0.0, nesterov=False, weight_decay=0.01),
    "nesterov": Recipe(optimizer="sgd", momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Recipe(optimizer="adam", weight_decay=0.01),
    "adamw": Recipe(optimizer="adamw", weight_decay=0.01),
}


def summed(device):
    """The layers whose gradients' slices are summed by themselves, since this was last asked."""
    found = {
        label.split()[0] for label, names in device.launched.items() if "sum_slices" in str(names)
    }
    device.launched.clear()
    return found


def assert_sums_change_no_bit(device, name, strategy, recipe):
    fused, apart = (
        training(name, strategy, device, recipe, sums_slices=sums) for sums in (True, False)
    )
    for recorded in (False, True):
        logits = fused.step(recorded=recorded)
        assert summed(device) == set()
        assert logits.tobytes() == apart.step(recorded=recorded).tobytes()
        moved = {n.rpartition(".")[0] for n, p in apart.model.parameters().items() if p.wanted}
        assert summed(device) <= moved
    assert fused.everything() == apart.everything()


@pytest.mark.parametrize("recipe", UPDATES)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16x3", "bf16"])
def test_an_update_that_sums_slices_gives_the_same_bits(precision, recipe):
    assert_sums_change_no_bit(watched(precision), "svgg5", "BL", UPDATES[recipe])


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        *(("tiny", strategy) for strategy in MASKS),
        *(("svgg5", strategy) for strategy in STRATEGIES),
        ("svgg5", "one channel"),
    ],
)
def test_so_it_does_whatever_is_frozen(device, name, strategy):
    assert_sums_change_no_bit(device, name, strategy, UPDATES["nesterov"])


def test_clipping_needs_gradients_that_are_summed(device):
    training("svgg5", "BL", device).step()
    assert summed(device) >= {"conv1_1", "conv1_2", "conv2_1"}


@pytest.mark.parametrize("recipe", [RECIPE, UPDATES["adamw"]], ids=["clipped", "fused"])
def test_the_same_step_gives_the_same_bits_in_every_order_of_threads(recipe):
    results = []
    for order in ORDERS:
        device = backends.get("emulated")
        device._runtime = EmulatedRuntime(order)
        one = training("tiny", "BL", device, recipe)
        one.steps([4, 3])
        results.append(one.everything())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("strategy", ["BL", "FC+CL"])
def test_from_its_third_time_on_a_recorded_step_is_one_graph_with_the_same_bits(device, strategy):
    eager, recorded = (training("svgg5", strategy, device) for _ in range(2))
    logits = eager.steps([4, 3] * 4)
    again = []
    for number, size in enumerate([4, 3] * 4):
        device.launched.clear()
        again.append(recorded.step(size, recorded=True))
        # Once kernel by kernel, then while the graph is made; of that nothing is launched here.
        assert bool(device.launched["conv1_2 forward"]) == (number < 4)
    assert [array.tobytes() for array in again] == [array.tobytes() for array in logits]
    assert recorded.everything() == eager.everything()
