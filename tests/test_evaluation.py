"""Testing networks: every image once, and frozen layers no more than once."""

import numpy as np
import pytest

from fercore import backends, freeze, models
from fercore.errors import FercoreError
from fercore.evaluation import Evaluator, predict_logits
from fercore.features import FeatureStore
from tests.small_data import striped


@pytest.fixture(scope="module", params=["cpu", "reference"])
def backend(request):
    options = {"dtype": "float32"} if request.param == "reference" else {}
    try:
        return backends.get(request.param, **options)
    except FercoreError as error:
        pytest.skip(str(error))


def test_evaluation_counts_every_image_once(backend):
    model = models.build("tiny", backend=backend)
    dataset = striped(131)  # one whole batch and a rest of three
    evaluation = Evaluator(model, dataset.images, dataset.labels, backend)()
    assert evaluation.logits.shape == (131, 7)
    logits = evaluation.logits.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert evaluation.loss == pytest.approx(-log_p[np.arange(131), dataset.labels].mean(), rel=1e-5)
    assert evaluation.accuracy == np.mean(logits.argmax(axis=1) == dataset.labels)


def test_no_images(backend):
    images = np.zeros((0, 48, 48), np.uint8)
    model = models.build("tiny", backend=backend)
    assert predict_logits(model, images, backend=backend).shape == (0, 7)
    assert np.isnan(Evaluator(model, images, np.zeros(0, np.int32), backend)().accuracy)


@pytest.fixture
def convolutions(backend, monkeypatch):
    """The images that went through each convolution."""
    seen: list[int] = []
    convolve = backend.conv2d_forward

    def counted(x, *args, **kwargs):
        seen.append(len(x))
        convolve(x, *args, **kwargs)

    monkeypatch.setattr(backend, "conv2d_forward", counted)
    return seen


@pytest.mark.parametrize(("strategy", "again"), [("FC", 0), ("FC+CL", 1), ("RE", 10)])
def test_frozen_layers_run_once(backend, convolutions, strategy, again):
    model = models.build("tiny-bn", backend=backend)
    freeze.apply(model, strategy)
    dataset = striped(40)
    evaluator = Evaluator(model, dataset.images, dataset.labels, backend)
    first = evaluator()
    assert len(convolutions) == 10
    convolutions.clear()
    # What may move does, as it would in training.
    for parameter in model.parameters().values():
        if parameter.wanted:
            parameter.overwrite(-backend.to_host(parameter.data))
    second = evaluator()
    assert len(convolutions) == again
    assert second.logits.tobytes() != first.logits.tobytes()
    fresh = predict_logits(model, dataset.images, backend=backend)
    assert second.logits.tobytes() == fresh.tobytes()


def test_too_many_features_are_computed_each_time(backend, convolutions):
    shelf = FeatureStore(memory=40 * 3 * 3 * 128 * 4 - 1).shelf()
    model = models.build("tiny", backend=backend)
    freeze.apply(model, "FC")
    dataset = striped(40)
    evaluator = Evaluator(model, dataset.images, dataset.labels, backend, shelf)
    assert evaluator().loss == evaluator().loss
    assert len(convolutions) == 20


def test_networks_that_share_frozen_layers_share_their_features(backend, convolutions):
    shelf, dataset = FeatureStore().shelf(), striped(40)
    model = models.build("tiny-bn", backend=backend)
    freeze.apply(model, "FC")
    predict_logits(model, dataset.images, backend=backend, shelf=shelf)
    other = models.build("tiny-bn", backend=backend)
    freeze.apply(other, "FC")
    other.parameters()["fc1.weight"].overwrite(
        -backend.to_host(other.parameters()["fc1.weight"].data)
    )
    convolutions.clear()
    answers = predict_logits(other, dataset.images, backend=backend, shelf=shelf)
    assert not convolutions
    assert answers.tobytes() == predict_logits(other, dataset.images, backend=backend).tobytes()
