"""Features of frozen layers: computed once, kept within limits, and never another network's."""

import errno
import os
import threading

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
    """Asks a shelf for an array of ``KILO`` bytes; ``computed`` lists those that were new."""

    class Fill:
        def __init__(self):
            self.computed = []

        def __call__(self, shelf, key):
            def compute(array):
                self.computed.append(key)
                array[:] = ord(key)

            array = shelf.get(key, (KILO,), np.uint8, compute)
            assert array is None or (array == ord(key)).all()
            return array

    return Fill()


def test_an_array_is_computed_once(fill):
    store = FeatureStore()
    shelf = store.shelf()
    assert fill(shelf, "a") is fill(shelf, "a") is fill(store.shelf(), "a")
    assert fill.computed == ["a"]
    assert shelf.nbytes == KILO


def test_what_lies_on_a_shelf_stays_and_the_rest_makes_room(fill):
    store = FeatureStore(memory=2 * KILO)
    with store.shelf() as shelf:
        for key in "ab":
            fill(shelf, key)
        assert fill(shelf, "c") is None
        assert fill(store.shelf(), "c") is None
    with store.shelf() as shelf:
        assert shelf.nbytes == 0
        fill(shelf, "a")
        fill(shelf, "c")  # instead of b
        fill(shelf, "a")
    assert fill.computed == ["a", "b", "c"]
    assert set(store.kept) == {"a", "c"}


def test_what_memory_does_not_hold_goes_to_files(fill, tmp_path):
    store = FeatureStore(tmp_path / "features", memory=KILO, disk=2 * KILO)
    with store.shelf() as shelf:
        arrays = [fill(shelf, key) for key in "abc"]
        assert [isinstance(array, np.memmap) for array in arrays] == [False, True, True]
        assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["b.npy", "c.npy"]
        assert not arrays[1].flags.writeable
        assert fill(shelf, "d") is None
    shelf = store.shelf()
    fill(shelf, "a")
    assert isinstance(fill(shelf, "d"), np.memmap)
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["c.npy", "d.npy"]


def test_files_are_found_by_the_next_process_and_removed_at_the_end(fill, tmp_path):
    fill(FeatureStore(tmp_path / "features", memory=0).shelf(), "a")
    store = FeatureStore(tmp_path / "features", memory=0)
    fill(store.shelf(), "a")
    assert fill.computed == ["a"]
    store.remove()
    assert not (tmp_path / "features").exists()


def test_a_full_disk_is_no_room(fill, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = FeatureStore(tmp_path / "features", memory=0)
    assert fill(store.shelf(), "a") is None
    assert list((tmp_path / "features").iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("not the disk's")])
def test_an_interrupted_computation_leaves_nothing(tmp_path, error):
    def fail(_):
        raise error

    store = FeatureStore(tmp_path / "features", memory=0)
    shelf = store.shelf()
    with pytest.raises(type(error)):
        shelf.get("a", (3,), np.float32, fail)
    assert list((tmp_path / "features").iterdir()) == []
    assert shelf.nbytes == 0
    assert not store.kept


def test_runs_side_by_side_compute_an_array_once_and_keep_to_the_limit():
    """Two threads ask for the same; meanwhile what is being computed counts as kept."""
    store = FeatureStore(memory=KILO)
    begun, go_on = threading.Event(), threading.Event()
    arrays = []

    def compute(array):
        begun.set()
        assert go_on.wait(10)
        array[:] = 1

    def ask():
        arrays.append(store.shelf().get("a", (KILO,), np.uint8, compute))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    assert store.shelf().get("b", (1,), np.uint8, compute) is None
    go_on.set()
    for thread in threads:
        thread.join()
    assert arrays[0] is arrays[1]
    assert (arrays[0] == 1).all()


def layers(backend, shelf, *, strategy="FC", seed=0, images=None, augmentation=Augmentation()):
    model = models.build("tiny", backend=backend, seed=seed)
    freeze.apply(model, strategy)
    images = striped(5).images if images is None else images
    return FrozenLayers(model, images, backend, shelf, augmentation)


@pytest.fixture(scope="module")
def backend():
    try:
        return backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))


def test_features_are_what_the_frozen_layers_give(backend):
    frozen = layers(backend, FeatureStore().shelf())
    features = frozen.kept()
    assert features.shape == (5, 3 * 3 * 128)
    frozen.feed.start(np.array([3, 0, 4, 1, 2]))
    frozen.feed.run(frozen.plan)
    assert backend.to_host(frozen.output).tobytes() == features[[3, 0, 4, 1, 2]].tobytes()


def test_nothing_frozen_is_nothing_kept(backend):
    assert layers(backend, FeatureStore().shelf(), strategy="RE").kept() is None


def test_whatever_changes_features_changes_their_key(backend):
    shift = Augmentation(shift=3.0)
    shelf = FeatureStore().shelf()
    asked = [
        layers(backend, shelf).kept(),
        layers(backend, shelf, seed=1).kept(),
        layers(backend, shelf, images=striped(5, seed=1).images).kept(),
        layers(backend, shelf, strategy="FC+CL").kept(),
        layers(backend, shelf, augmentation=shift).kept((0, 0, 0, 0)),
        layers(backend, shelf, augmentation=shift).kept((0, 0, 1, 0)),
        layers(backend, shelf, augmentation=shift).kept((1, 0, 0, 0)),
    ]
    assert len(shelf.arrays) == len(asked)
    assert len({array.tobytes() for array in asked}) == len(asked)
    layers(backend, shelf).kept()
    assert len(shelf.arrays) == len(asked)
