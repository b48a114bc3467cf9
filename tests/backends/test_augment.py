"""Gathering, varying and normalising images, against the formulas a pixel at a time."""

import numpy as np
import pytest

from fercore.backends.interface import Augmentation
from tests.backends import oracle
from tests.backends.harness import Out, call, gate, relative_error, same_bits

RNG = np.array([3, 1, 4, 15], np.uint32)
EVERYTHING = Augmentation(flip=0.5, shift=2.5, rotation=15.0, scale=0.1, cutout=4)


def draw_images(random, count=6, height=9, width=12):
    images = random.integers(0, 256, (count, height, width)).astype(np.uint8)
    return images, random.integers(0, 7, count).astype(np.int32)


def augment(backend, images, labels, indices, augmentation=None, rng=RNG, **options):
    indices = np.array(indices, np.int32)
    if augmentation is not None:
        options["augmentation"] = augmentation
    kind = {"dtype": np.int32} if labels.ndim == 1 else {}
    y = Out(len(indices), *labels.shape[1:], **kind)
    outputs = Out(len(indices), *images.shape[1:], 1), y
    return call(backend, "augment", images, labels, indices, rng, *outputs, **options)


def expected(images, indices, augmentation, rng=RNG, mean=0.5, std=0.25):
    varied = [oracle.augment_one(images[i], i, rng, augmentation, mean, std) for i in indices]
    return np.stack(varied)[..., None]


@pytest.mark.parametrize(("height", "width"), [(9, 12), (48, 48), (1, 1), (5, 3)])
def test_without_augmentation_it_gathers_and_normalises(backend, random, height, width):
    images, labels = draw_images(random, 6, height, width)
    indices = [4, 0, 0, 5]
    x, y = augment(backend, images, labels, indices)
    assert y.tolist() == labels[indices].tolist()
    plain = ((images[indices] / 255.0 - 0.5) / 0.25)[..., None]
    assert np.abs(x - plain).max() <= (5e-7 if x.dtype == np.float32 else 1e-15)
    assert same_bits(x, augment(backend, images, labels, indices, Augmentation())[0])


def test_every_gray_keeps_its_own_value(backend):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    x, _ = augment(backend, images, np.zeros(1, np.int32), [0], mean=0.0, std=1.0)
    assert x[0, 0, 0, 0] == 0
    assert x[0, 15, 15, 0] == 1
    assert (np.diff(x.ravel()) > 0).all()


def test_mean_and_std(backend, random):
    images, labels = draw_images(random)
    x, _ = augment(backend, images, labels, [2, 3], mean=0.3, std=0.7)
    plain = expected(images, [2, 3], Augmentation(), mean=0.3, std=0.7)
    assert relative_error(x, plain) <= gate(backend)


def test_padding_rows(backend, random):
    images, labels = draw_images(random)
    for augmentation in (Augmentation(), EVERYTHING):
        x, y = augment(backend, images, labels, [2, -1, 5, -1], augmentation)
        assert (x[[1, 3]] == 0).all()
        assert y.tolist() == [labels[2], -1, labels[5], -1]
        alone, _ = augment(backend, images, labels, [2, 5], augmentation)
        assert same_bits(x[[0, 2]], alone)


def test_rows_of_shares_are_gathered_as_labels_are(backend, random):
    images, labels = draw_images(random)
    shares = random.random((6, 5)).astype(np.float32)
    x, y = augment(backend, images, shares, [2, -1, 5, 2], EVERYTHING)
    shares = shares.astype(backend.dtype)
    assert same_bits(y, np.stack([shares[2], np.full(5, -1, backend.dtype), shares[5], shares[2]]))
    assert same_bits(x, augment(backend, images, labels, [2, -1, 5, 2], EVERYTHING)[0])


def test_flip_is_an_exact_mirror_image(backend, random):
    images, labels = draw_images(random, 64)
    every = np.arange(64)
    plain, _ = augment(backend, images, labels, every)
    always, _ = augment(backend, images, labels, every, Augmentation(flip=1.0))
    assert same_bits(always, np.ascontiguousarray(plain[:, :, ::-1]))
    some, _ = augment(backend, images, labels, every, Augmentation(flip=0.5))
    for i in every:
        word = oracle.philox((i, RNG[2], 0, 1), RNG[:2])[0]
        assert same_bits(some[i], (always if oracle.u(word) < 0.5 else plain)[i])


AUGMENTATIONS = {
    "shift": Augmentation(shift=3.0),
    "far shift": Augmentation(shift=40.0),  # only repeated border pixels may be left
    "rotation": Augmentation(rotation=30.0),
    "right angles": Augmentation(rotation=180.0),
    "scale": Augmentation(scale=0.3),
    "flip and shift": Augmentation(flip=1.0, shift=2.0),
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("which", AUGMENTATIONS)
@pytest.mark.parametrize(("height", "width"), [(9, 12), (48, 48), (11, 5)])
def test_against_bilinear_interpolation(backend, random, which, height, width):
    images, labels = draw_images(random, 8, height, width)
    indices = [7, 1, 3] if height == 48 else range(8)
    x, _ = augment(backend, images, labels, indices, AUGMENTATIONS[which])
    # Geometry may be in float32: coordinates up to 48 pixels are then good to 4e-6 of a pixel.
    limit = 1e-5 if x.dtype == np.float32 else 1e-12
    assert relative_error(x, expected(images, indices, AUGMENTATIONS[which])) <= limit


@pytest.mark.parametrize("side", [1, 4, 9])
def test_cutout_is_one_square_at_the_place_that_was_drawn(backend, random, side):
    images, labels = draw_images(random, 32)
    images |= 1  # no gray of 127.5, so that 0 is cutout's alone
    plain, _ = augment(backend, images, labels, range(32))
    cut, _ = augment(backend, images, labels, range(32), Augmentation(cutout=side))
    corners = set()
    for i in range(32):
        word5, word6 = oracle.philox((i, RNG[2], 1, 1), RNG[:2])[1:3]
        left, top = word5 * (12 - side + 1) >> 32, word6 * (9 - side + 1) >> 32
        plain[i, top : top + side, left : left + side] = 0
        corners.add((top, left))
    assert same_bits(cut, plain)
    assert len(corners) > 3


def test_cutout_comes_after_the_mirror(backend, random):
    images, labels = draw_images(random)
    augmentation = Augmentation(flip=1.0, cutout=3)
    x, _ = augment(backend, images, labels, range(6), augmentation)
    assert relative_error(x, expected(images, range(6), augmentation)) <= gate(backend)


def test_an_image_is_varied_alike_wherever_it_stands_in_a_batch(backend, random):
    images, labels = draw_images(random)
    x, _ = augment(backend, images, labels, [5, 2, 0, 2], EVERYTHING)
    assert same_bits(x[1], x[3])
    alone, _ = augment(backend, images, labels, [2], EVERYTHING)
    assert same_bits(x[1], alone[0])


def test_seed_run_and_epoch_matter_and_step_does_not(backend, random):
    images, labels = draw_images(random)
    varied = [
        augment(backend, images, labels, [1, 4], EVERYTHING, rng=rng)[0].tobytes()
        for rng in (RNG, *(RNG + np.eye(4, dtype=np.uint32)[i] for i in range(4)))
    ]
    assert len(set(varied)) == 4
    assert varied[0] == varied[4]


def test_images_in_one_batch_are_varied_differently(backend):
    images = np.tile(np.arange(96, dtype=np.uint8).reshape(1, 8, 12), (5, 1, 1))
    x, _ = augment(backend, images, np.zeros(5, np.int32), range(5), EVERYTHING)
    assert len({image.tobytes() for image in x}) == 5


def test_images_that_are_not_warped_are_as_if_they_were_by_nothing(backend, random):
    """A zoom by less than any number knows goes the long way, and must bring the same bits."""
    images, labels = draw_images(random)
    indices = [0, 1, 2, 3, 4, 5]
    plain = Augmentation(flip=0.5, cutout=4)
    warped = Augmentation(flip=0.5, cutout=4, scale=1e-30)
    x, _ = augment(backend, images, labels, indices, plain)
    assert same_bits(x, augment(backend, images, labels, indices, warped)[0])
