"""PyTorch's layout: a network written for it, computed there, and read back.

The oracle is PyTorch itself where it is installed; elsewhere, where single weights have to be.
"""

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fercore import checkpoint, evaluation, models, pytorch
from fercore.data.dataset import BASIC, CLASSES
from fercore.errors import FercoreError
from tests.networks import REFERENCE, network


@pytest.fixture
def images(random):
    return random.integers(0, 256, (3, 48, 48)).astype(np.uint8)


@pytest.fixture
def tiny(tmp_path):
    """A tiny-bn and its file in PyTorch's layout."""
    model = network("tiny-bn")
    pytorch.save(tmp_path / "there.safetensors", model)
    return model, tmp_path / "there.safetensors"


def load(path: Path, **options) -> models.Model:
    return pytorch.load_model(path, REFERENCE, **options)


# -- what is written --------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.NAMES)
def test_every_network_comes_back_bit_for_bit(name, tmp_path):
    model = network(name)
    pytorch.save(tmp_path / "there.safetensors", model)
    back = load(tmp_path / "there.safetensors")
    assert back.name == name
    assert back.state().keys() == model.state().keys()
    for key, array in back.state().items():
        assert array.tobytes() == model.state()[key].tobytes(), key


def test_names_and_shapes_are_those_of_torch_modules(tiny):
    tensors = load_file(tiny[1])
    assert tensors["conv1_2.weight"].shape == (16, 16, 3, 3)
    assert tensors["conv2_1.weight"].shape == (32, 16, 3, 3)
    assert {name for name in tensors if "1_1" in name} == {
        "conv1_1.weight",
        *(f"norm1_1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")),
    }
    assert tensors["fc1.weight"].shape == (512, 1152)
    with safe_open(tiny[1], framework="numpy") as file:
        about = json.loads(file.metadata()["network"])
    assert about["model"] == "tiny-bn"
    assert about["classes"] == list(CLASSES[:BASIC])
    assert about["input"] == "gray faces of 48x48, (pixel / 255 - 0.5) / 0.25"


def test_kernels_keep_their_meaning(tiny):
    ours, theirs = tiny[0].state(), load_file(tiny[1])
    for out, into, row, column in ((0, 0, 0, 0), (3, 7, 2, 1), (15, 15, 1, 2)):
        found = theirs["conv1_2.weight"][out, into, row, column]
        assert found == ours["conv1_2.weight"][out, row, column, into]
    # The last feature map is 3x3 of 128 channels.
    for out, row, column, channel in ((0, 0, 0, 0), (5, 1, 2, 99), (511, 2, 0, 127)):
        there = theirs["fc1.weight"][out, channel * 9 + row * 3 + column]
        assert there == ours["fc1.weight"][out, (row * 3 + column) * 128 + channel]
    np.testing.assert_array_equal(theirs["fc2.weight"], ours["fc2.weight"])
    np.testing.assert_array_equal(
        theirs["norm3_2.running_var"], ours["conv3_2.norm.running_variance"]
    )


def test_equal_networks_are_equal_bytes(tiny, tmp_path):
    pytorch.save(tmp_path / "again.safetensors", network("tiny-bn"))
    assert (tmp_path / "again.safetensors").read_bytes() == tiny[1].read_bytes()


# -- what PyTorch makes of it -----------------------------------------------------------------


def torch_network(name: str):
    """The network ``name``, built with ``torch.nn`` from the paper's layer table alone."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    nn = torch.nn
    base, _, normalised = name.partition("-")
    blocks, hidden = {
        "svgg10": (([64] * 2, [128] * 2, [256] * 3, [512] * 3), (4608, 2048, 1024)),
        "svgg5": (([64] * 2, [128] * 3), (8192, 2048, 1024)),
        "tiny": (([16] * 2, [32] * 2, [64] * 3, [128] * 3), (1152, 512, 256)),
    }[base]
    kernels = ((2, 0), (3, 0)) if base == "svgg5" else ((3, 1),) * 4

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            channels = 1
            for number, (widths, (kernel, padding)) in enumerate(zip(blocks, kernels, strict=True)):
                for index, width in enumerate(widths):
                    at = f"{number + 1}_{index + 1}"
                    convolution = nn.Conv2d(
                        channels, width, kernel, padding=padding, bias=not normalised
                    )
                    self.add_module(f"conv{at}", convolution)
                    if normalised:
                        self.add_module(f"norm{at}", nn.BatchNorm2d(width))
                    channels = width
            for number, (inputs, outputs) in enumerate(zip(hidden, (*hidden[1:], 7), strict=True)):
                self.add_module(f"fc{number + 1}", nn.Linear(inputs, outputs))

        def forward(self, x):
            for number, widths in enumerate(blocks):
                for index in range(len(widths)):
                    at = f"{number + 1}_{index + 1}"
                    x = getattr(self, f"conv{at}")(x)
                    x = torch.relu(getattr(self, f"norm{at}")(x) if normalised else x)
                x = nn.functional.max_pool2d(x, 2)
            x = torch.flatten(x, 1)
            return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))

    torch.manual_seed(0)
    return Network().eval()


def torch_logits(theirs, images):
    import torch

    x = (torch.from_numpy(images)[:, None].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        return theirs(x).numpy()


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("name", models.NAMES)
def test_pytorch_computes_what_we_do(name, tmp_path, images):
    theirs = torch_network(name)
    model = network(name)
    pytorch.save(tmp_path / "there.safetensors", model)
    import torch

    state = {
        key: torch.from_numpy(array)
        for key, array in load_file(tmp_path / "there.safetensors").items()
    }
    theirs.load_state_dict(state, strict=True)
    ours = evaluation.predict_logits(model, images, backend=REFERENCE)
    assert_close(torch_logits(theirs, images), ours)


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_we_compute_what_pytorch_does(name, suffix, tmp_path, images):
    theirs = torch_network(name)
    import torch

    for key, value in theirs.state_dict().items():
        if "running" in key:
            value += torch.rand(value.shape)
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".pt":
        torch.save(theirs.state_dict(), path)
    else:
        save_file({key: value.numpy() for key, value in theirs.state_dict().items()}, path)
    model = load(path)
    assert model.name == name
    ours = evaluation.predict_logits(model, images, backend=REFERENCE)
    assert_close(ours, torch_logits(theirs, images))


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_but_a_state_dict_of_tensors_is_unpickled(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    path = tmp_path / "x.pt"
    for content, message in (
        (torch.nn.Linear(2, 2), "nothing that is safe to read"),
        ({"epoch": 3}, "is no state dict"),
        ([torch.zeros(2)], "is no state dict"),
    ):
        torch.save(content, path)
        refused(path, rf"x\.pt: .*{message}")
    trap = tmp_path / "trap"
    path.write_bytes(pickle.dumps(Trap(trap), protocol=2))
    refused(path, r"x\.pt: holds nothing that is safe to read")
    assert not trap.exists()
    path.write_bytes(b"not a checkpoint")
    refused(path, r"x\.pt: holds nothing that is safe to read")
    refused(tmp_path / "absent.pt", r"absent\.pt: cannot be read")


def test_without_pytorch_its_own_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(tmp_path / "x.pth", r"x\.pth: takes PyTorch to read, .* safetensors\.torch\.save_file")


# -- what is read -----------------------------------------------------------------------------


def refused(path: Path, message: str, **options) -> None:
    with pytest.raises(FercoreError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


def test_classes_in_another_order_are_sorted_into_ours(tiny, tmp_path, images):
    model, path = tiny
    alphabetical = sorted(CLASSES[:BASIC])
    tensors = load_file(path)
    rows = [CLASSES.index(name) for name in alphabetical]
    tensors["fc3.weight"], tensors["fc3.bias"] = (
        tensors["fc3.weight"][rows],
        tensors["fc3.bias"][rows],
    )
    save_file(tensors, tmp_path / "sorted.safetensors")
    words = ["anger", *alphabetical[1:3], "Happiness", *alphabetical[4:]]
    back = load(tmp_path / "sorted.safetensors", classes=words)
    expected = evaluation.predict_logits(model, images, backend=REFERENCE)
    np.testing.assert_array_equal(
        evaluation.predict_logits(back, images, backend=REFERENCE), expected
    )
    assert (
        load(tmp_path / "sorted.safetensors").state()["fc3.bias"][4] != model.state()["fc3.bias"][4]
    )


def test_a_network_that_knows_contempt_comes_back(tmp_path, images):
    model = models.build("tiny", classes=8, seed=5, backend=REFERENCE)
    pytorch.save(tmp_path / "there.safetensors", model)
    with safe_open(tmp_path / "there.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["network"])["classes"] == list(CLASSES)
    back = load(tmp_path / "there.safetensors")
    assert back.classes == 8
    np.testing.assert_array_equal(back.state()["fc3.weight"], model.state()["fc3.weight"])
    # FER+ has its columns in this order.
    words = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    turned = load(tmp_path / "there.safetensors", classes=words)
    given = evaluation.predict_logits(model, images, backend=REFERENCE)
    sorted_in = evaluation.predict_logits(turned, images, backend=REFERENCE)
    np.testing.assert_array_equal(sorted_in, given[:, [4, 5, 6, 1, 3, 2, 0, 7]])


def test_seven_classes_do_not_fit_eight_outputs(tmp_path):
    model = models.build("tiny", classes=8, backend=REFERENCE)
    pytorch.save(tmp_path / "there.safetensors", model)
    pattern = r"fc3\.weight has shape \(8, 256\), tiny needs \(7, 256\)"
    refused(tmp_path / "there.safetensors", pattern, classes=CLASSES[:BASIC])


@pytest.mark.parametrize("name", ["tiny", "tiny-bn", "svgg5"])
def test_another_scale_of_the_input_is_taken_up(name, tmp_path, images):
    model = network(name)
    tensors = pytorch.state_dict(model)
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"] * np.float32(
        2
    )  # for inputs half as large
    save_file(tensors, tmp_path / "half.safetensors")
    back = load(tmp_path / "half.safetensors", std=0.5)
    np.testing.assert_allclose(
        evaluation.predict_logits(back, images, backend=REFERENCE),
        evaluation.predict_logits(model, images, backend=REFERENCE),
        rtol=1e-5,
        atol=1e-5,
    )


def test_batch_counters_and_other_precisions_are_taken(tiny, tmp_path):
    model, path = tiny
    tensors = {name: array.astype(np.float16) for name, array in load_file(path).items()}
    tensors["norm1_1.num_batches_tracked"] = np.array(7)
    save_file(tensors, tmp_path / "half.safetensors")
    for name, array in load(tmp_path / "half.safetensors").state().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, model.state()[name].astype(np.float16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("fc1.bias"), r"lacks fc1\.bias: it is not a tiny-bn"),
        (lambda t: t.pop("norm4_3.running_var"), r"lacks norm4_3\.running_var"),
        (lambda t: t.update(extra=np.zeros(1)), "has an unknown extra: it is not a tiny-bn"),
        (
            lambda t: t.update({"fc3.bias": np.zeros(9)}),
            r"fc3\.bias has shape \(9,\), tiny-bn needs \(7,\)",
        ),
        (
            lambda t: t.update({"conv1_2.weight": np.zeros((16, 3, 3, 16))}),
            r"conv1_2\.weight has shape .*, tiny-bn needs \(16, 16, 3, 3\)",
        ),
        (
            lambda t: t.update({"conv1_1.weight": np.zeros((32, 1, 3, 3))}),
            r"fits no network here: conv1_1\.weight is \(32, 1, 3, 3\); it is \(64, 1, 3, 3\)",
        ),
        (
            lambda t: t.pop("conv1_1.weight"),
            r"conv1_1\.weight is missing, there is conv1_2\.weight, conv2_1\.weight, .*, \.\.\.;",
        ),
        (lambda t: t.clear(), "conv1_1.weight is missing, there is nothing;"),
        (lambda t: t["fc2.bias"].fill(np.nan), r"fc2\.bias holds NaN or infinity"),
        (lambda t: t.update({"fc2.bias": np.zeros(256, np.complex64)}), "not real numbers"),
        (lambda t: t.update({"fc2.bias": np.full(256, 1e300)}), r"fc2\.bias holds NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, tmp_path, change, message):
    tensors = load_file(tiny[1])
    change(tensors)
    save_file(tensors, tmp_path / "bad.safetensors")
    refused(tmp_path / "bad.safetensors", rf"bad\.safetensors: .*{message}")


def test_files_that_are_something_else_are_refused(tiny, tmp_path):
    (tmp_path / "text.safetensors").write_text("conv1_1.weight = 3")
    refused(tmp_path / "text.safetensors", "is damaged or not a safetensors file")
    (tmp_path / "cut.safetensors").write_bytes(tiny[1].read_bytes()[:3000])
    refused(tmp_path / "cut.safetensors", "is damaged or not a safetensors file")
    refused(tmp_path / "absent.safetensors", r"absent\.safetensors: cannot be read")
    refused(tmp_path / "network.h5", r"they end in \.safetensors, \.pt or \.pth")
    checkpoint.save_model(tmp_path / "ours.safetensors", tiny[0])
    refused(tmp_path / "ours.safetensors", "is a file of fercore's own")
    with pytest.raises(FercoreError, match="was not written by fercore"):
        checkpoint.load_model(tiny[1], REFERENCE)


def test_numbers_that_numpy_has_no_type_for_are_refused(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "narrow.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    refused(path, r"narrow\.safetensors: holds numbers that NumPy has no type for .*float32")


@pytest.mark.parametrize(
    "classes",
    [
        *(CLASSES[:6], (*CLASSES, "contempt"), (*CLASSES[:6], "bored"), ("sad",) * 7),
        (*CLASSES[:6], "contempt"),
    ],
)
def test_classes_that_are_not_ours_are_refused(tiny, classes):
    refused(tiny[1], "do not fit: name each of angry, disgust", classes=classes)
