"""The networks: their layer tables, their parameters, their first weights."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fercore import backends, freeze, models
from fercore.autograd import Tensor
from fercore.backends.interface import Backend
from fercore.errors import FercoreError
from fercore.nn import Context, Model

# name -> kernel side, padding, channels of each convolution (None: a pool), hidden layers
TABLES = {
    "svgg10": ([3] * 10, 1, [64, 64, None, 128, 128, None, *[256] * 3, None, *[512] * 3, None]),
    "svgg5": ([2, 2, 3, 3, 3], 0, [64, 64, None, 128, 128, 128, None]),
    "tiny": ([3] * 10, 1, [16, 16, None, 32, 32, None, *[64] * 3, None, *[128] * 3, None]),
}
HIDDEN = {"svgg10": (2048, 1024), "svgg5": (2048, 1024), "tiny": (512, 256)}
PARAMETERS = {
    "svgg10": 19_178_695,
    "svgg10-bn": 19_178_695 + 2688,  # a scale and a shift for each bias
    "svgg5": 19_270_407,
    "svgg5-bn": 19_270_407 + 512,
}


@pytest.fixture(scope="module")
def networks() -> dict[str, Model]:
    """Every network at its real size, built once."""
    backend: Backend = backends.get("reference", dtype="float32")
    return {name: models.build(name, backend=backend) for name in models.NAMES}


def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Parameter shapes, worked out from the layer table."""
    base, _, normalised = name.partition("-")
    kernels, padding, table = TABLES[base]
    shapes: dict[str, tuple[int, ...]] = {}
    side, channels, block, index, kernel = 48, 1, 1, 1, iter(kernels)
    for width in table:
        if width is None:
            side, block, index = side // 2, block + 1, 1
            continue
        k = next(kernel)
        layer = f"conv{block}_{index}"
        shapes[f"{layer}.weight"] = (width, k, k, channels)
        if normalised:
            shapes[f"{layer}.norm.weight"] = shapes[f"{layer}.norm.bias"] = (width,)
        else:
            shapes[f"{layer}.bias"] = (width,)
        side, channels, index = side + 2 * padding - k + 1, width, index + 1
    features = side * side * channels
    for number, width in enumerate((*HIDDEN[base], 7), start=1):
        shapes[f"fc{number}.weight"], shapes[f"fc{number}.bias"] = (width, features), (width,)
        features = width
    return shapes


@pytest.mark.parametrize("name", models.NAMES)
def test_parameter_names_and_shapes(networks, name):
    parameters = networks[name].parameters()
    expected = expected_shapes(name)
    assert {key: parameter.shape for key, parameter in parameters.items()} == expected
    assert list(parameters) == list(expected)  # from input to output
    assert networks[name].num_parameters() == sum(math.prod(s) for s in expected.values())


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_number_of_parameters(networks, name, count):
    assert networks[name].num_parameters() == count


def test_state_has_the_running_statistics(networks):
    state = networks["svgg5-bn"].state()
    statistics = {n: a for n, a in state.items() if n not in networks["svgg5-bn"].parameters()}
    assert set(statistics) == {
        f"conv{layer}.norm.running_{what}"
        for layer in ("1_1", "1_2", "2_1", "2_2", "2_3")
        for what in ("mean", "variance")
    }
    for name, array in statistics.items():
        assert (array == (1 if name.endswith("variance") else 0)).all()
    assert set(networks["svgg5"].state()) == set(networks["svgg5"].parameters())


@pytest.mark.parametrize(
    ("name", "sides", "features"),
    [
        ("svgg10", [48, 24, 12, 6, 3], 4608),
        ("svgg10-bn", [48, 24, 12, 6, 3], 4608),
        ("svgg5", [48, 47, 23, 21, 19, 8], 8192),  # pooled where it is convolved
        ("svgg5-bn", [48, 47, 46, 23, 21, 19, 17, 8], 8192),
        ("tiny", [48, 24, 12, 6, 3], 1152),
        ("tiny-bn", [48, 24, 12, 6, 3], 1152),
    ],
)
def test_layer_shapes(networks, name, sides, features):
    shapes: list[tuple[int, ...]] = [(3, 48, 48, 1)]
    for layer in networks[name].layers:
        shapes.append(layer.output_shape(shapes[-1]))
    maps = [shape[1:3] for shape in shapes if len(shape) == 4]
    assert [height for (height, _), _ in itertools.groupby(maps)] == sides
    assert all(height == width for height, width in maps)
    assert (3, features) in shapes
    assert shapes[-1] == (3, 7)


@pytest.mark.parametrize("name", ["tiny", "tiny-bn"])
def test_layers_return_what_they_announce(backend, name):
    model = models.build(name, classes=5, backend=backend)
    x = Tensor(backend, backend.from_host(np.zeros((1, 48, 48, 1))))
    for layer in model.layers:
        announced = layer.output_shape(x.shape)
        x = layer(x, Context())
        assert x.shape == announced, layer.name
    assert x.shape == (1, 5)


def test_flops(networks):
    """As counted for the kernels: 1.277 GFLOP of convolutions and 0.023 fully connected."""
    shape = (1, 48, 48, 1)
    flops = {"conv": 0, "linear": 0}
    for layer in networks["svgg10"].layers:
        flops[layer.kind] = flops.get(layer.kind, 0) + layer.flops(shape)
        shape = layer.output_shape(shape)
    assert round(flops["conv"] / 1e9, 3) == 1.277
    assert round(flops["linear"] / 1e9, 3) == 0.023
    by_hand = sum(
        2 * side**2 * 9 * inputs * outputs
        for side, inputs, outputs in (
            (48, 1, 64),
            (48, 64, 64),
            (24, 64, 128),
            (24, 128, 128),
            (12, 128, 256),
            (12, 256, 256),
            (12, 256, 256),
            (6, 256, 512),
            (6, 512, 512),
            (6, 512, 512),
        )
    )
    assert flops["conv"] == by_hand
    assert flops["linear"] == 2 * (4608 * 2048 + 2048 * 1024 + 1024 * 7)


def test_flops_grow_with_the_batch(networks):
    shape: tuple[int, ...] = (1, 48, 48, 1)
    for layer in networks["tiny-bn"].layers:
        assert layer.flops((5, *shape[1:])) == 5 * layer.flops(shape)
        shape = layer.output_shape(shape)


def test_summary(networks):
    text = networks["svgg10"].summary()
    assert "conv4_3" in text
    assert "3x3x512" in text
    assert "4608" in text
    assert "19,178,695 parameters, 19,178,695 trainable, 0 frozen; 1,299.8 MFLOP" in text


def test_summary_tells_what_is_frozen(networks):
    model = networks["svgg10"]
    freeze.apply(model, "FC")
    fully_connected = 4608 * 2048 + 2048 + 2048 * 1024 + 1024 + 1024 * 7 + 7
    frozen = 19_178_695 - fully_connected
    assert f"{fully_connected:,} trainable, {frozen:,} frozen" in model.summary()
    freeze.apply(model, "BL")


# -- the first weights --------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.NAMES)
def test_weights_are_drawn_with_the_published_variance(networks, name):
    for key, parameter in networks[name].parameters().items():
        values = parameter.data.astype(np.float64)
        if key.endswith("norm.weight"):
            assert (values == 1).all()
        elif key.endswith("bias"):
            assert (values == 0).all()
        else:
            fan_in, n = math.prod(parameter.shape[1:]), values.size
            variance = (1 if key == "fc3.weight" else 2) / fan_in
            # Five standard errors of the mean and of the variance of a normal sample.
            assert abs(values.mean()) < 5 * math.sqrt(variance / n), key
            assert abs(values.var() / variance - 1) < 5 * math.sqrt(2 / n), key
            assert abs(values).max() < 7 * math.sqrt(variance), key


def test_no_two_parameters_share_random_numbers(networks):
    weights = [
        parameter.data.ravel()[:300] / parameter.data.std()
        for name, parameter in networks["tiny"].parameters().items()
        if name.endswith("weight") and parameter.data.size >= 300
    ]
    correlation = np.corrcoef(weights) - np.eye(len(weights))
    assert abs(correlation).max() < 0.3


def test_weights_that_are_read_from_elsewhere_are_not_drawn(backend):
    drawn, blank = (models.build("tiny-bn", seed=seed, backend=backend) for seed in (0, None))
    state = blank.state()
    assert all(not state[name].any() for name in blank.parameters() if "norm" not in name)
    blank.load_state(drawn.state())
    for name, array in drawn.state().items():
        assert blank.state()[name].tobytes() == array.tobytes()


def test_seeds(backend):
    weights = {
        seed: models.build("tiny", seed=seed, backend=backend).state() for seed in (0, 1, 2**32 - 1)
    }
    again = models.build("tiny", seed=1, backend=backend).state()
    for name, array in again.items():
        assert array.tobytes() == weights[1][name].tobytes()
        if name.endswith("weight"):
            assert (array != weights[0][name]).mean() > 0.99
            assert (array != weights[2**32 - 1][name]).mean() > 0.99


def test_networks_start_with_the_same_weights_where_they_share_a_layer(networks):
    for one, other, shared in (
        ("tiny", "tiny-bn", 13),
        ("svgg10", "svgg10-bn", 13),
        ("svgg10", "svgg5", 4),  # conv2_1, conv2_2, fc2, fc3
    ):
        mine, theirs = networks[one].parameters(), networks[other].parameters()
        same = [
            name
            for name in mine.keys() & theirs.keys()
            if name.endswith("weight") and mine[name].shape == theirs[name].shape
        ]
        assert len(same) == shared
        for name in same:
            np.testing.assert_array_equal(mine[name].data, theirs[name].data)


def test_every_backend_starts_with_the_same_weights(backend, reference):
    expected = models.build("tiny", backend=reference).state()
    for name, array in models.build("tiny", backend=backend).state().items():
        np.testing.assert_array_equal(array, expected[name].astype(backend.dtype), strict=True)


# -- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("svgg-10", "did you mean 'svgg10"),
        ("Tiny", "did you mean 'tiny'?"),
        ("tiny_bn", "did you mean 'tiny-bn'?"),
        ("resnet50", "choose from svgg10, svgg10-bn, svgg5, svgg5-bn, tiny, tiny-bn"),
        ("tiny-", "did you mean 'tiny"),
    ],
)
def test_an_unknown_name(reference, name, hint):
    with pytest.raises(FercoreError, match=f"there is no model '{name}'; {hint}"):
        models.build(name, backend=reference)


def test_classes_and_layer_names(reference):
    model = models.build("tiny", classes=4, backend=reference)
    assert model.classes == 4
    assert model.parameters()["fc3.weight"].shape == (4, 256)
    layers = [(layer.name, layer.dropout) for layer in model.layers if layer.kind == "linear"]
    assert layers == [("fc1", 1), ("fc2", 2), ("fc3", None)]
    names = [layer.name for layer in model.layers]
    assert names[-4:] == ["flatten", "fc1", "fc2", "fc3"]
    assert len(names) == len(set(names))
