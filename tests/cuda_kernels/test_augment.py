"""Gathering, varying and normalising images, against the formulas a pixel at a time."""

import numpy as np
import pytest

from cuda_kernels import augment
from cuda_kernels.runtime import KernelError
from fercore.backends.interface import Augmentation
from tests.backends import oracle
from tests.backends.harness import relative_error, same_bits
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import with_mistake
from tests.cuda_kernels.precisions import numbers_in, rounded, to_store

RNG = np.array([3, 1, 4, 15], np.uint32)
NOTHING = Augmentation()
EVERYTHING = Augmentation(flip=0.5, shift=2.5, rotation=15.0, scale=0.1, cutout=4)


def draw_images(random, count=6, height=9, width=12):
    images = random.integers(0, 256, (count, height, width)).astype(np.uint8)
    return images, random.integers(0, 7, count).astype(np.int32)


def run(
    runtime,
    images,
    labels,
    indices,
    augmentation=NOTHING,
    rng=RNG,
    mean=0.5,
    std=0.25,
    precision="fp32",
):
    indices = np.array(indices, np.int32)
    x = to_store(runtime, len(indices), *images.shape[1:], 1, precision=precision)
    y = poisoned(runtime, len(indices), *labels.shape[1:], dtype=labels.dtype)
    inputs = (to_device(runtime, array) for array in (images, labels, indices, rng))
    options = {"mean": mean, "std": std, "precision": precision}
    augment.augment(runtime, *inputs, x, y, **options, **vars(augmentation))
    return numbers_in(runtime, x), runtime.copy_out(y)


def expected(images, indices, augmentation=NOTHING, rng=RNG, mean=0.5, std=0.25):
    varied = [oracle.augment_one(images[i], i, rng, augmentation, mean, std) for i in indices]
    return np.stack(varied)[..., None]


@pytest.mark.parametrize(("height", "width"), [(9, 12), (48, 48), (1, 1), (5, 3)])
def test_without_augmentation_it_gathers_and_normalises(runtime, random, height, width):
    images, labels = draw_images(random, 6, height, width)
    indices = [4, 0, 0, 5]
    x, y = run(runtime, images, labels, indices)
    assert y.tolist() == labels[indices].tolist()
    assert np.abs(x[..., 0] - (images[indices] / 255.0 - 0.5) / 0.25).max() <= 5e-7


@pytest.mark.parametrize("augmentation", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
def test_bf16_is_rounded_once(runtime, random, augmentation):
    images, labels = draw_images(random)
    indices = [2, -1, 5]
    wide, _ = run(runtime, images, labels, indices, augmentation)
    narrow, y = run(runtime, images, labels, indices, augmentation, precision="bf16")
    assert same_bits(narrow, rounded(wide, "bf16"))
    assert (narrow[1] == 0).all()
    assert y.tolist() == [labels[2], -1, labels[5]]
    exact = expected(images, [2, 5], augmentation)
    assert relative_error(narrow[[0, 2]], exact) <= 2.5e-3


def test_every_gray_keeps_its_own_value(runtime):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    x, _ = run(runtime, images, np.zeros(1, np.int32), [0], mean=0.0, std=1.0)
    assert x[0, 0, 0, 0] == 0
    assert x[0, 15, 15, 0] == 1
    assert (np.diff(x.ravel()) > 0).all()


def test_mean_and_std(runtime, random):
    images, labels = draw_images(random)
    x, _ = run(runtime, images, labels, [2, 3], mean=0.3, std=0.7)
    assert relative_error(x, expected(images, [2, 3], mean=0.3, std=0.7)) <= 2e-6


def test_padding_rows(runtime, random):
    images, labels = draw_images(random)
    for augmentation in (NOTHING, EVERYTHING):
        x, y = run(runtime, images, labels, [2, -1, 5, -1], augmentation)
        assert (x[[1, 3]] == 0).all()
        assert y.tolist() == [labels[2], -1, labels[5], -1]
        assert same_bits(x[[0, 2]], run(runtime, images, labels, [2, 5], augmentation)[0])


def test_rows_of_shares_are_gathered_as_labels_are(runtime, random):
    images, labels = draw_images(random)
    shares = random.random((6, 5)).astype(np.float32)
    x, y = run(runtime, images, shares, [2, -1, 5, 2], EVERYTHING)
    assert same_bits(y, np.stack([shares[2], np.full(5, -1, np.float32), shares[5], shares[2]]))
    assert same_bits(x, run(runtime, images, labels, [2, -1, 5, 2], EVERYTHING)[0])


def test_flip_is_an_exact_mirror_image(runtime, random):
    images, labels = draw_images(random, 16)
    plain, _ = run(runtime, images, labels, range(16))
    always, _ = run(runtime, images, labels, range(16), Augmentation(flip=1.0))
    assert same_bits(always, np.ascontiguousarray(plain[:, :, ::-1]))
    some, _ = run(runtime, images, labels, range(16), Augmentation(flip=0.5))
    mirrored = [oracle.u(oracle.philox((i, RNG[2], 0, 1), RNG[:2])[0]) < 0.5 for i in range(16)]
    assert 0 < sum(mirrored) < 16
    for i in range(16):
        assert same_bits(some[i], (always if mirrored[i] else plain)[i])


def check_flip_decides_exactly(runtime, random):
    """At a probability of an image's own number it is as it was, just above mirrored."""
    images, labels = draw_images(random, 1)
    number = oracle.u(oracle.philox((0, RNG[2], 0, 1), RNG[:2])[0])
    for flip in (number, np.nextafter(number, 1)):
        x, _ = run(runtime, images, labels, [0], Augmentation(flip=flip))
        assert relative_error(x, expected(images, [0], Augmentation(flip=flip))) <= 2e-6


def test_flip_decides_exactly(runtime, random):
    check_flip_decides_exactly(runtime, random)


AUGMENTATIONS = {
    "shift": Augmentation(shift=3.0),
    "far shift": Augmentation(shift=40.0),  # only repeated border pixels may be left
    "rotation": Augmentation(rotation=30.0),
    "right angles": Augmentation(rotation=180.0),
    "turns": Augmentation(rotation=2000.0),
    "scale": Augmentation(scale=0.3),
    "flip and shift": Augmentation(flip=1.0, shift=2.0),
    "everything": EVERYTHING,
}


def check(runtime, random, augmentation, height, width, count=4):
    """float32 coordinates up to 48 pixels are good to 4e-6 of a pixel."""
    images, labels = draw_images(random, count, height, width)
    indices = range(count - 1, -1, -1)
    x, _ = run(runtime, images, labels, indices, augmentation)
    assert relative_error(x, expected(images, indices, augmentation)) <= 1e-5


@pytest.mark.parametrize("which", AUGMENTATIONS)
@pytest.mark.parametrize(("height", "width"), [(9, 12), (11, 5)])
def test_against_bilinear_interpolation(runtime, random, which, height, width):
    check(runtime, random, AUGMENTATIONS[which], height, width)


@pytest.mark.parametrize("which", AUGMENTATIONS)
def test_against_bilinear_interpolation_at_full_size(emulated, random, which):
    check(emulated, random, AUGMENTATIONS[which], 48, 48, count=2)


@pytest.mark.parametrize("side", [1, 4, 9])
def test_cutout_is_one_square_at_the_place_that_was_drawn(runtime, random, side):
    images, labels = draw_images(random, 12)
    images |= 1  # no gray of 127.5, so that 0 is cutout's alone
    plain, _ = run(runtime, images, labels, range(12))
    cut, _ = run(runtime, images, labels, range(12), Augmentation(cutout=side))
    for i in range(12):
        word5, word6 = oracle.philox((i, RNG[2], 1, 1), RNG[:2])[1:3]
        left, top = word5 * (12 - side + 1) >> 32, word6 * (9 - side + 1) >> 32
        plain[i, top : top + side, left : left + side] = 0
    assert same_bits(cut, plain)


def test_seed_run_and_epoch_matter_and_step_does_not(runtime, random):
    images, labels = draw_images(random)
    varied = [
        run(runtime, images, labels, [1, 4], EVERYTHING, rng=rng)[0].tobytes()
        for rng in (RNG, *(RNG + np.eye(4, dtype=np.uint32)[i] for i in range(4)))
    ]
    assert len(set(varied)) == 4
    assert varied[0] == varied[4]


def test_what_does_not_fit_is_refused(runtime, random):
    images, labels = draw_images(random)
    with pytest.raises(ValueError, match="a cutout of 10 does not fit an image of 9x12"):
        run(runtime, images, labels, [0], Augmentation(cutout=10))
    with pytest.raises(ValueError, match=r"augment: 6 images 9x12 do not fit \(5, 9, 12, 1\)"):
        augment.augment(
            *(runtime, images, labels, np.zeros(6, np.int32), RNG),
            *(poisoned(runtime, 5, 9, 12, 1), poisoned(runtime, 6, dtype=np.int32)),
            **vars(NOTHING),
            mean=0.5,
            std=0.25,
        )


MISTAKES = {
    "turned the other way": ("-sine * p", "sine * p"),
    "cutout's words exchanged": ("__umulhi(second.y, w", "__umulhi(second.z, w"),
    "mirrored at the probability itself": ("< by.flips", "<= by.flips"),
    "border read one too far": ("min(left + 1, w - 1)", "left + 1"),
}


def check_everything(runtime, random):
    check(runtime, random, EVERYTHING, 9, 12)
    check_flip_decides_exactly(runtime, random)


def test_without_the_mistakes_nothing_is_seen(emulated, random):
    check_everything(emulated, random)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_seen(random, tmp_path, name):
    for runtime in with_mistake(tmp_path, augment.SOURCE, *MISTAKES[name]):
        with pytest.raises((AssertionError, KernelError)):
            check_everything(runtime, random)
