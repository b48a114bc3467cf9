"""ONNX files: what ONNX Runtime computes from pixels is what we do."""

import json
import sys

import numpy as np
import pytest

from fercore import evaluation, export, models
from fercore.data.dataset import BASIC, CLASSES
from fercore.errors import FercoreError
from fercore.nn import Layer
from tests.networks import REFERENCE, network

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", models.NAMES)
def test_onnx_runtime_computes_what_we_do(name, tmp_path, random):
    images = random.integers(0, 256, (3, 48, 48)).astype(np.uint8)
    model = network(name)
    export.save(tmp_path / "network.onnx", model)
    run = session(tmp_path / "network.onnx")
    logits, probabilities = run.run(None, {"pixels": images[:, None]})
    expected = evaluation.predict_logits(model, images, backend=REFERENCE)
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-5 * max(np.abs(expected).max(), 1)
    shares = np.exp(expected.astype(float))
    shares /= shares.sum(axis=1, keepdims=True)
    assert np.abs(probabilities - shares).max() < 1e-5
    assert np.ptp(expected, axis=0).max() > 0.01, "the images must not all look the same"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny-bn.onnx"
    export.save(path, network("tiny-bn"))
    return path


def test_the_graph_says_what_goes_in_and_comes_out(tiny):
    run = session(tiny)
    (pixels,) = run.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape) == (
        "pixels",
        "tensor(uint8)",
        ["batch", 1, 48, 48],
    )
    outputs = [(output.name, output.type, output.shape) for output in run.get_outputs()]
    assert outputs == [
        ("logits", "tensor(float)", ["batch", 7]),
        ("probabilities", "tensor(float)", ["batch", 7]),
    ]
    about = run.get_modelmeta()
    assert about.producer_name == "fercore"
    assert about.custom_metadata_map["model"] == "tiny-bn"
    assert json.loads(about.custom_metadata_map["classes"]) == list(CLASSES[:BASIC])


@pytest.mark.parametrize("count", [0, 1, 130])
def test_the_batch_may_have_any_size(tiny, count, random):
    images = random.integers(0, 256, (count, 1, 48, 48)).astype(np.uint8)
    logits, _ = session(tiny).run(None, {"pixels": images})
    assert logits.shape == (count, 7)
    if count:
        alone, _ = session(tiny).run(None, {"pixels": images[-1:]})
        np.testing.assert_allclose(logits[-1:], alone, rtol=1e-5, atol=1e-5)


def test_pixels_of_another_kind_are_refused_rather_than_misread(tiny):
    with pytest.raises(Exception, match="Unexpected input data type"):
        session(tiny).run(None, {"pixels": np.zeros((1, 1, 48, 48), np.float32)})


def test_parameters_keep_their_names(tiny):
    names = {tensor.name for tensor in onnx.load(tiny).graph.initializer}
    assert {"conv1_1.weight", "norm4_3.running_var", "fc3.bias"} <= names


def test_equal_networks_are_equal_bytes(tiny, tmp_path):
    export.save(tmp_path / "again.onnx", network("tiny-bn"))
    assert (tmp_path / "again.onnx").read_bytes() == tiny.read_bytes()


def test_a_network_of_any_backend_is_exported(compiled_backend, tiny, tmp_path):
    model = models.build("tiny-bn", backend=compiled_backend)
    model.load_state(network("tiny-bn").state())
    export.save(tmp_path / "network.onnx", model)
    assert (tmp_path / "network.onnx").read_bytes() == tiny.read_bytes()


def test_another_ending_is_refused(tmp_path):
    model = models.build("tiny", backend=REFERENCE)
    with pytest.raises(FercoreError, match=r"x\.pb: end it in \.onnx, or in \.safetensors"):
        export.save(tmp_path / "x.pb", model)


def test_a_missing_onnx_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(FercoreError, match=r"pip install 'fercore\[onnx\]'"):
        export.save(tmp_path / "x.onnx", models.build("tiny", backend=REFERENCE))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_onnx_has_no_word_for_is_not_left_out():
    class Wavelet(Layer):
        def output_shape(self, x):
            return x

    model = models.build("tiny", backend=REFERENCE)
    model.layers = (Wavelet("wavelet"), *model.layers)
    with pytest.raises(NotImplementedError, match="wavelet: no ONNX for a Wavelet"):
        export.to_onnx(model)
