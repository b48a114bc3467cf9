"""Features of frozen layers: computed once, kept within limits, and never another network's."""

import errno
import os

import numpy as np
import pytest

from fercore import backends, freeze, models
from fercore.backends.interface import Augmentation
from fercore.errors import FercoreError
from fercore.features import FeatureStore, FrozenLayers
from tests.small_data import striped

KILO = 1000  # bytes of an array in the tests of the store


@pytest.fixture
def fill():
    """Asks a store for an array of ``KILO`` bytes; ``computed`` lists those that were new."""

    class Fill:
        def __init__(self):
            self.computed = []

        def __call__(self, store, key):
            def compute(array):
                self.computed.append(key)
                array[:] = ord(key)

            array = store.get(key, (KILO,), np.uint8, compute)
            assert array is None or (array == ord(key)).all()
            return array

    return Fill()


def test_an_array_is_computed_once(fill):
    store = FeatureStore()
    assert fill(store, "a") is fill(store, "a")
    assert fill.computed == ["a"]
    assert store.bytes_in_use == KILO


def test_what_a_run_uses_stays_and_the_rest_makes_room(fill):
    store = FeatureStore(memory=2 * KILO)
    for key in "ab":
        fill(store, key)
    assert fill(store, "c") is None  # a and b are in use
    store.start_run()
    assert store.bytes_in_use == 0
    fill(store, "a")
    fill(store, "c")  # instead of b
    fill(store, "a")
    assert fill.computed == ["a", "b", "c"]
    assert set(store.kept) == {"a", "c"}


def test_what_memory_does_not_hold_goes_to_files(fill, tmp_path):
    store = FeatureStore(tmp_path / "features", memory=KILO, disk=2 * KILO)
    arrays = [fill(store, key) for key in "abc"]
    assert [isinstance(array, np.memmap) for array in arrays] == [False, True, True]
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["b.npy", "c.npy"]
    assert not arrays[1].flags.writeable
    assert fill(store, "d") is None
    store.start_run()
    fill(store, "a")
    assert isinstance(fill(store, "d"), np.memmap)
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["c.npy", "d.npy"]


def test_files_are_found_by_the_next_process_and_removed_at_the_end(fill, tmp_path):
    fill(FeatureStore(tmp_path / "features", memory=0), "a")
    store = FeatureStore(tmp_path / "features", memory=0)
    fill(store, "a")
    assert fill.computed == ["a"]
    store.remove()
    assert not (tmp_path / "features").exists()


def test_a_full_disk_is_no_room(fill, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = FeatureStore(tmp_path / "features", memory=0)
    assert fill(store, "a") is None
    assert list((tmp_path / "features").iterdir()) == []


def test_an_interrupted_computation_leaves_nothing(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    store = FeatureStore(tmp_path / "features", memory=0)
    with pytest.raises(KeyboardInterrupt):
        store.get("a", (3,), np.float32, interrupt)
    assert list((tmp_path / "features").iterdir()) == []
    assert store.bytes_in_use == 0


def layers(backend, store, *, strategy="FC", seed=0, images=None, augmentation=Augmentation()):
    model = models.build("tiny", backend=backend, seed=seed)
    freeze.apply(model, strategy)
    images = striped(5).images if images is None else images
    return FrozenLayers(model, images, backend, store, augmentation)


@pytest.fixture(scope="module")
def backend():
    try:
        return backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))


def test_features_are_what_the_frozen_layers_give(backend):
    frozen = layers(backend, FeatureStore())
    features = frozen.kept()
    assert features.shape == (5, 3 * 3 * 128)
    for row in range(5):
        frozen.compute(np.array([row]))
        assert backend.to_host(frozen.output)[0].tobytes() == features[row].tobytes()


def test_nothing_frozen_is_nothing_kept(backend):
    assert layers(backend, FeatureStore(), strategy="RE").kept() is None


def test_whatever_changes_features_changes_their_key(backend):
    shift = Augmentation(shift=3.0)
    store = FeatureStore()
    asked = [
        layers(backend, store).kept(),
        layers(backend, store, seed=1).kept(),
        layers(backend, store, images=striped(5, seed=1).images).kept(),
        layers(backend, store, strategy="FC+CL").kept(),
        layers(backend, store, augmentation=shift).kept((0, 0, 0, 0)),
        layers(backend, store, augmentation=shift).kept((0, 0, 1, 0)),
        layers(backend, store, augmentation=shift).kept((1, 0, 0, 0)),
    ]
    assert len(store.kept) == len(asked)
    assert len({array.tobytes() for array in asked}) == len(asked)
    layers(backend, store).kept()
    assert len(store.kept) == len(asked)
