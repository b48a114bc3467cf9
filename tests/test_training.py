"""Training: it learns, it can be interrupted anywhere, and it says what is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fercore import backends, checkpoint, freeze, models, tensor_file
from fercore.config import Recipe
from fercore.errors import FercoreError
from fercore.evaluation import predict_logits
from fercore.features import FeatureStore
from fercore.optim import Optimizer
from fercore.training import (
    FOLLOWED,
    Stepper,
    balanced_weights,
    followed_sample,
    permutation,
    train,
)
from tests.backends.harness import relative_error
from tests.faces import shrink_tiny
from tests.small_data import shared, striped

RECIPE = Recipe(
    epochs=3, batch_size=24, learning_rate=0.02, warmup_epochs=0, flip=0.0, shift=1.0, rotation=0.0
)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module", params=["cpu", "reference"])
def backend(request):
    options = {"dtype": "float32"} if request.param == "reference" else {}
    try:
        return backends.get(request.param, **options)
    except FercoreError as error:
        pytest.skip(str(error))


def run(backend, folder: Path, recipe=RECIPE, strategy="BL", model_seed=0, **options):
    model = models.build("tiny-bn", seed=model_seed, backend=backend)
    freeze.apply(model, strategy)
    outcome = train(
        model,
        options.pop("training", striped(60)),
        options.pop("validation", {"source": striped(30, 1)}),
        recipe,
        choose_on=("source",),
        backend=backend,
        seed=5,
        run=7,
        folder=folder,
        **options,
    )
    return model, outcome


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("best.safetensors", "last.safetensors")}


def metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["joules"], line["images_per_s"], line["kept_features"]
    return lines


def test_each_epoch_is_told_the_energy_of_its_training_alone(backend, tmp_path):
    laps = iter([{"processor": 99.0}, {"processor": 1.5, "gpu": 2.0}, {"processor": 99.0}, {}])
    run(backend, tmp_path, msgspec.structs.replace(RECIPE, epochs=2), energy=laps.__next__)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["joules"] for line in lines] == [{"processor": 1.5, "gpu": 2.0}, {}]


@pytest.mark.parametrize("strategy", ["BL", "FC+CL"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"views": 2},
        {"optimizer": "adamw", "learning_rate": 0.001, "clip_norm": 1.0},
        {"schedule": "plateau", "plateau_patience": 1, "class_weights": "balanced"},
    ],
    ids=["sgd", "views", "adamw", "plateau"],
)
def test_resumed_equals_uninterrupted_byte_for_byte(backend, tmp_path, changes, strategy):
    recipe = msgspec.structs.replace(RECIPE, **changes)
    run(backend, tmp_path / "whole", recipe, strategy)

    def killed_after_two(line):
        if line["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        run(backend, tmp_path / "cut", recipe, strategy, on_epoch=killed_after_two)
    # Another initialisation shows that everything comes from the state file.
    run(backend, tmp_path / "cut", recipe, strategy, model_seed=1, resume=True)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_killed_within_an_epoch_loses_only_that_epoch(backend, tmp_path):
    run(backend, tmp_path / "whole")
    steps = []

    def killed_in_the_second_epoch(done, total):
        steps.append(done)
        if len(steps) == total + 1:
            raise KilledError

    with pytest.raises(KilledError):
        run(backend, tmp_path / "cut", on_step=killed_in_the_second_epoch)
    assert json.loads((tmp_path / "cut/state.json").read_text())["epoch"] == 1
    run(backend, tmp_path / "cut", model_seed=1, resume=True)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.parametrize("strategy", ["FC", "FC+CL"])
@pytest.mark.parametrize("training", [striped(60), shared(striped(60))], ids=["labels", "targets"])
def test_training_from_features_equals_training_from_images(backend, tmp_path, strategy, training):
    recipe = msgspec.structs.replace(RECIPE, views=2)
    options = {"training": training}
    run(backend, tmp_path / "kept", recipe, strategy, **options)
    options = {"training": training, "shelf": FeatureStore(memory=0).shelf()}
    run(backend, tmp_path / "not kept", recipe, strategy, **options)
    kept, computed = (
        tensor_file.read(tmp_path / folder / "last.safetensors").part("model.")
        for folder in ("kept", "not kept")
    )
    for name, array in kept.items():
        if backend.name == "cpu":  # an image's features do not depend on the batch that it is in
            assert array.tobytes() == computed[name].tobytes(), name
        else:
            assert np.linalg.norm(array - computed[name]) <= 1e-5 * np.linalg.norm(array), name


def test_a_view_that_comes_again_is_not_computed_again(backend, tmp_path, monkeypatch):
    seen = []
    convolve = backend.conv2d_forward
    monkeypatch.setattr(
        backend, "conv2d_forward", lambda *a, **k: (seen.append(1), convolve(*a, **k))
    )
    counts = []
    recipe = msgspec.structs.replace(RECIPE, epochs=4, views=2)
    run(backend, tmp_path, recipe, "FC", on_epoch=lambda _: counts.append(len(seen)))
    # Ten convolutions for a view, one batch of 60 images, and ten for the validation images.
    assert counts == [20, 30, 30, 30]


def test_all_strategies_see_the_same_views(backend):
    seen = {}
    for strategy in ("FC", "RE"):
        model = models.build("tiny-bn", backend=backend)
        freeze.apply(model, strategy)
        recipe = msgspec.structs.replace(RECIPE, views=3)
        optimizer = Optimizer(model.parameters(), recipe, backend)
        shelf = FeatureStore(memory=0).shelf()
        stepper = Stepper(model, optimizer, striped(4), recipe, backend, shelf)
        views = []
        for epoch in range(1, 7):
            stepper.start_epoch(5, 7 if strategy == "FC" else 8, epoch, [0.1])
            views.append(tuple(backend.to_host(stepper.view_rng)))
        seen[strategy] = views
        assert views[:3] == views[3:]
        assert len(set(views)) == 3
    assert seen["FC"] == seen["RE"]


def test_it_learns_and_keeps_the_best_epoch(backend, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, epochs=8)
    _, outcome = run(backend, tmp_path, recipe, training=striped(240))
    lines = metrics(tmp_path)
    scores = [
        (line["validation"]["source"]["accuracy"], -line["validation"]["source"]["loss"])
        for line in lines
    ]
    assert max(scores)[0] > 0.6
    assert outcome.best_epoch == scores.index(max(scores)) + 1
    best = checkpoint.load_model(tmp_path / "best.safetensors", backend)
    held_out = striped(30, 1)
    accuracy = np.mean(
        predict_logits(best, held_out.images, backend=backend).argmax(axis=1) == held_out.labels
    )
    assert accuracy == pytest.approx(outcome.best_accuracy)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["status"] == "finished"


def test_a_followed_set_is_sampled_and_its_n_is_told(backend, tmp_path):
    large = striped(FOLLOWED + 40, 2)
    run(
        backend,
        tmp_path,
        msgspec.structs.replace(RECIPE, epochs=1),
        validation={"source": striped(30, 1), "target": large},
    )
    assert metrics(tmp_path)[0]["validation"]["target"]["n"] == FOLLOWED
    assert followed_sample(large, 3).files == followed_sample(large, 3).files
    assert followed_sample(large, 3).files != followed_sample(large, 4).files


def test_early_stopping(backend, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, epochs=30, early_stopping=2, learning_rate=1e-12)
    _, outcome = run(backend, tmp_path, recipe)
    assert outcome.epochs < 30
    assert outcome.epochs - outcome.best_epoch == 2


def test_a_loss_that_is_not_finite_stops_with_the_mend(backend, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, learning_rate=1e30)
    with (
        np.errstate(all="ignore"),
        pytest.raises(FercoreError, match=r"the loss became .* in epoch 1; lower learning_rate"),
    ):
        run(backend, tmp_path, recipe)


def test_weights_that_the_last_step_spoilt_are_never_the_best(backend, tmp_path):
    """One step an epoch: the loss was still finite before it."""
    recipe = msgspec.structs.replace(RECIPE, epochs=1, batch_size=60, learning_rate=1e38)
    with np.errstate(all="ignore"), pytest.raises(FercoreError, match="in epoch 1; lower"):
        run(backend, tmp_path, recipe)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("masks", {"strategy": "FC"}),
        ("optimizer", {"recipe": msgspec.structs.replace(RECIPE, optimizer="adam")}),
        ("batch_size", {"recipe": msgspec.structs.replace(RECIPE, batch_size=25)}),
        ("epochs", {"recipe": msgspec.structs.replace(RECIPE, epochs=4)}),
        (
            "learning_rate, momentum",
            {"recipe": msgspec.structs.replace(RECIPE, learning_rate=0.1, momentum=0.0)},
        ),
        ("training images", {"training": striped(60, 9)}),
        ("training images", {"training": shared(striped(60))}),
        ("validation images", {"validation": {"source": striped(30, 9)}}),
    ],
)
def test_resuming_another_training_is_refused(backend, tmp_path, what, changes):
    def killed(line):
        raise KilledError

    with pytest.raises(KilledError):
        run(backend, tmp_path, on_epoch=killed)
    with pytest.raises(FercoreError, match=f"last.safetensors: was trained with other {what};"):
        run(backend, tmp_path, resume=True, **changes)


@pytest.mark.parametrize("content", [None, "{"])
def test_lost_metrics_are_named(backend, tmp_path, content):
    run(backend, tmp_path, msgspec.structs.replace(RECIPE, epochs=1))
    path = tmp_path / "metrics.jsonl"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(FercoreError, match=r"metrics\.jsonl: cannot be read"):
        run(backend, tmp_path, msgspec.structs.replace(RECIPE, epochs=1), resume=True)


def test_a_damaged_state_file_is_named(backend, tmp_path):
    run(backend, tmp_path, msgspec.structs.replace(RECIPE, epochs=1))
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FercoreError, match=r"last\.safetensors: is damaged"):
        run(backend, tmp_path, resume=True)


def test_a_state_of_another_version_is_named(backend, tmp_path):
    run(backend, tmp_path, msgspec.structs.replace(RECIPE, epochs=1))
    path = tmp_path / "last.safetensors"
    saved = tensor_file.read(path)
    del saved.metadata["training"]["steps"]
    tensor_file.write(path, saved.tensors, saved.metadata)
    with pytest.raises(FercoreError, match=r"holds no training state of this version .*steps"):
        run(backend, tmp_path, resume=True)


def test_a_best_network_of_another_epoch_is_refused(backend, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    run(backend, tmp_path, recipe)
    path = tmp_path / "best.safetensors"
    saved = tensor_file.read(path)
    tensor_file.write(path, saved.tensors, {**saved.metadata, "epoch": 7})
    with pytest.raises(FercoreError, match=r"best\.safetensors: is not of epoch 1"):
        run(backend, tmp_path, recipe, resume=True)


def test_a_lost_best_network_is_trained_again(backend, tmp_path):
    recipe = msgspec.structs.replace(RECIPE, epochs=2)
    run(backend, tmp_path, recipe)
    path = tmp_path / "best.safetensors"
    before = path.read_bytes()
    path.unlink()
    run(backend, tmp_path, recipe, resume=True)
    assert path.read_bytes() == before


def test_an_empty_set_is_refused(backend, tmp_path):
    empty = striped(60).select([])
    with pytest.raises(FercoreError, match="no images to train on"):
        run(backend, tmp_path, training=empty)
    with pytest.raises(FercoreError, match="'target' holds no image"):
        run(backend, tmp_path, validation={"source": striped(30, 1), "target": empty})


@pytest.mark.parametrize("what", ["shares", "meaning"])
def test_resuming_with_other_targets_is_refused(backend, tmp_path, what):
    def killed(line):
        raise KilledError

    training = shared(striped(60))
    with pytest.raises(KilledError):
        run(backend, tmp_path, training=training, on_epoch=killed)
    changed = {"shares": {"targets": training.targets[:, ::-1]}, "meaning": {"multi_target": True}}
    other = replace(training, **changed[what])
    with pytest.raises(FercoreError, match="was trained with other training images;"):
        run(backend, tmp_path, training=other, resume=True)


def one_step(name, training, rows=12):
    """The loss's statistics and the weights after a step from so many images."""
    backend = backends.get(name)
    model = models.build("tiny", seed=2, backend=backend)
    recipe = msgspec.structs.replace(RECIPE, label_smoothing=0.1, class_weights="balanced")
    optimizer = Optimizer(model.parameters(), recipe, backend)
    stepper = Stepper(model, optimizer, training, recipe, backend, FeatureStore().shelf())
    stepper.start_epoch(1, 0, 1, [0.02] * stepper.steps)
    stepper.step(rows)
    return backend.to_host(stepper.statistics), model.state()


@pytest.mark.parametrize("multi_target", [False, True])
def test_a_step_towards_targets_on_the_emulated_device_equals_the_cpus(multi_target, monkeypatch):
    shrink_tiny(monkeypatch)
    training = shared(striped(24), multi_target=multi_target)
    try:
        statistics, weights = one_step("emulated", training)
        expected, expected_weights = one_step("cpu", training)
    except FercoreError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(statistics, expected, rtol=1e-5)
    for name, array in expected_weights.items():
        assert relative_error(weights[name], array) <= 1e-5, name


def test_what_targets_mean_makes_a_difference(backend):
    found = {
        one_step(backend.name, training)[0][0]
        for training in (
            striped(24),
            shared(striped(24)),
            shared(striped(24), multi_target=True),
        )
    }
    assert len(found) == 3


def test_targets_that_one_class_has_are_labels(tmp_path):
    try:
        cpu = backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))
    dataset = striped(60)
    targets = np.eye(7, dtype=np.float32)[dataset.labels]
    run(cpu, tmp_path / "labels")
    run(cpu, tmp_path / "targets", training=replace(dataset, targets=targets))
    labels, targets = (
        tensor_file.read(tmp_path / folder / "last.safetensors").part("model.")
        for folder in ("labels", "targets")
    )
    assert {name: array.tobytes() for name, array in labels.items()} == {
        name: array.tobytes() for name, array in targets.items()
    }


def test_permutations_are_permutations_and_differ():
    orders = [permutation(50, *key) for key in ((0, 1, 2), (0, 1, 3), (0, 2, 2), (1, 1, 2))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 4
    assert permutation(50, 0, 1, 2).tobytes() == orders[0].tobytes()


def test_balanced_weights_give_each_class_the_same_total():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_weights(labels, 4)
    totals = weights[:3] * np.bincount(labels)
    np.testing.assert_allclose(totals, len(labels) / 3)
    assert weights[3] == 0
