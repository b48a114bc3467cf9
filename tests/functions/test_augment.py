"""augment: the batch it gathers, and that nothing below it is ever wanted."""

import numpy as np

from fercore.backends.interface import Augmentation
from fercore.functions import augment


def gather(backend, images, labels, rows, augmentation=Augmentation(), counters=(1, 0, 1, 0)):
    return augment(
        backend,
        backend.from_host(images),
        backend.from_host(labels),
        backend.from_host(np.array(rows, dtype=np.int32)),
        backend.from_host(np.array(counters, dtype=np.uint32)),
        augmentation,
    )


def some_images(random):
    images = random.integers(0, 256, (5, 6, 7)).astype(np.uint8)
    return images, np.array([3, 1, 4, 1, 5], dtype=np.int32)


def test_gathers_and_normalises(backend, random):
    images, labels = some_images(random)
    x, y = gather(backend, images, labels, [4, 0, -1, 0])
    expected = (images[[4, 0, 0, 0]].astype(np.float64) / 255 - 0.5) / 0.25
    expected[2] = 0
    np.testing.assert_allclose(backend.to_host(x.data), expected[..., None], rtol=0, atol=1e-6)
    assert backend.to_host(y.data).tolist() == [5, 3, -1, 3]


def test_nothing_below_is_wanted(backend, random):
    x, y = gather(backend, *some_images(random), [0, 1])
    assert not x.wanted
    assert not y.wanted


def test_the_same_counters_draw_the_same_images(backend, random):
    images, labels = some_images(random)
    varied = Augmentation(flip=0.5, shift=2.0, rotation=20.0, scale=0.1, cutout=2)
    draws = [
        backend.to_host(gather(backend, images, labels, [0, 1, 2], varied, counters)[0].data)
        for counters in ((1, 0, 1, 0), (1, 0, 1, 9), (1, 0, 2, 0), (1, 1, 1, 0))
    ]
    # An image's variation depends on the epoch and its row, not on the step or its place.
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    assert (draws[0] != draws[3]).any()
    moved = gather(backend, images, labels, [2, 0, 1], varied)[0]
    np.testing.assert_array_equal(backend.to_host(moved.data), draws[0][[2, 0, 1]])
