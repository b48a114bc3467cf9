"""Networks beside their baseline: what is frozen is exactly where it was, the rest is measured."""

import itertools
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from fercore import analysis, backends, checkpoint, drift, evaluation, models, tensor_file
from fercore.autograd import Tensor
from fercore.config import study_from
from fercore.errors import FercoreError
from fercore.plan import Part
from fercore.protocol import execute
from fercore.run_directory import RunDirectory
from fercore.study_data import load_study
from tests.faces import shrink_tiny, write_folder
from tests.small_data import striped

RUNS = ("tgt-FC-100", "tgt-FC+CL-100", "tgt-RE-100", "tgt-TO-100")


@pytest.fixture(scope="module")
def backend():
    try:
        return backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def done(backend, tmp_path_factory):
    """A finished study of a small ``tiny-bn``, two seeds: its folder and its settings."""
    root = tmp_path_factory.mktemp("faces")
    study = study_from(
        {
            "source": f"src=folder:{write_folder(root / 'source', 12, seed=1)}",
            "targets": [f"tgt=folder:{write_folder(root / 'target', 8, seed=2)}"],
            "model": "tiny-bn",
            "strategies": ["FC", "FC+CL", "RE", "TO"],
            "amounts": [100],
            "seeds": 2,
            "recipe": {"epochs": 1, "batch_size": 16, "warmup_epochs": 0, "min_steps": 0},
            "finetune": {"epochs": 1, "min_steps": 0},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        shrink_tiny(patch)
        patch.setenv("FERCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        path = tmp_path_factory.mktemp("study") / "run"
        execute(study, RunDirectory(path))
        yield path, study


@pytest.fixture
def copy(done, tmp_path):
    return RunDirectory(shutil.copytree(done[0], tmp_path / "run"))


def drift_of(done, run, seed=0):
    return drift.read(done[0] / "runs" / f"{run}-s{seed}")


def weights_of(path, run):
    return load_file(path / "runs" / run / "best.safetensors")


def test_what_is_frozen_has_not_moved(done):
    for run, first in (
        ("tgt-FC-100", "fc1"),
        ("tgt-FC+CL-100", "conv4_3"),
        ("tgt-RE-100", "conv1_1"),
    ):
        found = drift_of(done, run)
        layers = list(found.features)
        frozen = layers[: layers.index(first)]
        assert {found.features[layer] for layer in frozen} <= {1.0}
        assert all(found.features[layer] < 1 for layer in layers[layers.index(first) :])
        for tensor, change in found.weights.items():
            assert (change == 0) == (tensor.split(".")[0] in frozen), tensor


def test_changes_are_those_of_the_files(done):
    path, _ = done
    before, after = (weights_of(path, run) for run in ("BL-s1", "tgt-RE-100-s1"))
    found = drift_of(done, "tgt-RE-100", seed=1).weights
    assert found.keys() == before.keys()
    for tensor, change in found.items():
        difference = np.sum((after[tensor].astype(float) - before[tensor]) ** 2)
        expected = np.sqrt(difference / np.sum(before[tensor].astype(float) ** 2))
        assert change == pytest.approx(expected), tensor


def test_similarity_is_that_of_what_the_network_answers(done, backend):
    """The last layer's features are the logits, which testing gets on another way."""
    path, study = done
    test = load_study(study, path).select(Part("src", "test"))
    centred = []
    for run in ("BL-s0", "tgt-TO-100-s0"):
        model = checkpoint.load_model(path / "runs" / run / "best.safetensors", backend)
        logits = evaluation.predict_logits(model, test.images, backend=backend).astype(float)
        centred.append(logits - logits.mean(axis=0))
    x, y = centred
    norm = np.linalg.norm
    expected = norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y))
    found = drift_of(done, "tgt-TO-100")
    assert found.images == len(test)
    assert found.features["fc3"] == pytest.approx(expected, rel=1e-4)


def test_each_seed_is_held_against_its_own_baseline(done):
    path, _ = done
    for seed in (0, 1):
        for run in RUNS:
            found = drift_of(done, run, seed)
            assert (found.run, found.baseline) == (f"{run}-s{seed}", f"BL-s{seed}")
            assert found.features["conv1_1"] > 0.5
        assert not (path / "runs" / f"BL-s{seed}" / drift.FILE).exists()


def test_a_finished_folder_is_analysed_again_with_the_same_bytes(done, copy):
    files = sorted(copy.path.glob(f"runs/*/{drift.FILE}"))
    assert len(files) == 2 * len(RUNS)
    before = [file.read_bytes() for file in files]
    for file in files[::2]:
        file.unlink()
    files[1].write_text("{")
    analysis.analyse(copy)
    assert [file.read_bytes() for file in files] == before


def test_what_is_there_is_not_made_again(copy, monkeypatch):
    def refuse(*_):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(checkpoint, "load_model", refuse)
    analysis.analyse(copy)


def test_another_network_is_measured_anew(copy):
    """As if BL had been trained and tested again."""
    folder = copy.run("BL-s0")
    file = tensor_file.read(folder / "best.safetensors")
    file.tensors["fc1.weight"] *= 2
    digest = tensor_file.write(file.path, file.tensors, file.metadata)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**content, "network": digest}))
    before = {seed: drift.read(copy.run(f"tgt-FC-100-s{seed}")) for seed in (0, 1)}
    analysis.analyse(copy)
    after = {seed: drift.read(copy.run(f"tgt-FC-100-s{seed}")) for seed in (0, 1)}
    assert after[1] == before[1]
    assert after[0].weights["fc1.weight"] == pytest.approx(0.5, abs=0.1)
    assert after[0].weights["fc2.weight"] == before[0].weights["fc2.weight"]


def test_a_run_that_is_not_finished_is_named(copy):
    (copy.run("tgt-FC-100-s0") / "results.json").unlink()
    with pytest.raises(FercoreError, match=r"tgt-FC-100-s0/results\.json: cannot be read"):
        analysis.analyse(copy)


@pytest.mark.parametrize("name", ["tiny", "tiny-bn", "svgg5"])
def test_layers_are_taken_with_all_that_follows_them(name, backend):
    """Each output is what the next layer with weights reads; 131 images are no whole batches."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_tiny(patch)
        model = models.build(name, backend=backend)
    images = striped(131 if name != "svgg5" else 3).images
    found = dict(analysis.layer_outputs(model, images, backend))
    weighted = [layer.name for layer in model.layers if layer.kind in ("conv", "linear")]
    assert list(found) == weighted
    names = [layer.name for layer in model.layers]
    x = analysis._normalised(images, backend)
    for layer, following in itertools.pairwise(weighted):
        until = slice(names.index(following))
        whole = model(Tensor(backend, backend.from_host(x)), layers=until).data
        np.testing.assert_allclose(found[layer], backend.to_host(whole), rtol=1e-4, atol=1e-5)
    logits = evaluation.predict_logits(model, images, backend=backend)
    np.testing.assert_allclose(found["fc3"], logits, rtol=1e-4, atol=1e-5)


def test_the_sample_is_spread_over_the_whole_part(done, monkeypatch):
    path, study = done
    data = load_study(study, path)
    images = data.select(Part("src", "test")).images
    monkeypatch.setattr(analysis, "SAMPLE", 4)
    chosen = analysis.Analyst([], RunDirectory(path), data).images
    assert len(chosen) == 4
    np.testing.assert_array_equal(chosen[[0, -1]], images[[0, -1]])


def test_another_size_of_the_sample_is_another_measurement(copy, monkeypatch):
    file = copy.run("tgt-RE-100-s0") / drift.FILE
    before = file.stat().st_mtime_ns, drift.read(file.parent)
    analysis.analyse(copy)
    assert file.stat().st_mtime_ns == before[0]  # nothing to do
    monkeypatch.setattr(analysis, "SAMPLE", 4)
    analysis.analyse(copy)
    after = drift.read(file.parent)
    assert after.images == 4
    assert after.features != before[1].features
    assert after.weights == before[1].weights
