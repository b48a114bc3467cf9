"""The input of a step: images gathered by index, varied by chance, and normalised."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from cuda_kernels.numba_kernels.philox import AUGMENTATION_STREAM, philox, uniform
from cuda_kernels.numba_kernels.runtime import THREADS, NumbaRuntime
from cuda_kernels.runtime import Buffer


@cuda.jit(device=True)
def signed(word):
    """A uniform number in [-1, 1)."""
    return 2 * uniform(word) - 1


@cuda.jit(device=True)
def place(word, places):
    """One of so many places, by the upper bits of ``word``."""
    return np.int64(word * np.uint64(places) >> np.uint64(32))


@cuda.jit(device=True)
def cosine_and_sine(quarters):
    """Of so many quarter turns: their series, on what is left within an eighth of a turn.

    The library's functions would keep a table for huge angles in local memory.
    """
    whole = math.floor(quarters + 0.5)
    angle = (quarters - whole) * (math.pi / 2)
    cosine, sine = 1.0, angle
    even, odd = 1.0, angle
    for i in range(1, 9):
        even *= -angle * angle / ((2 * i - 1) * (2 * i))
        odd *= -angle * angle / ((2 * i) * (2 * i + 1))
        cosine += even
        sine += odd
    quadrant = int(whole) % 4
    if quadrant == 1:
        return -sine, cosine
    if quadrant == 2:
        return -cosine, -sine
    if quadrant == 3:
        return sine, -cosine
    return cosine, sine


@cuda.jit(device=True)
def bilinear(images, index, v, u):
    """The image at row ``v`` and column ``u``; beyond its border the border goes on."""
    _, height, width = images.shape
    v, u = min(max(v, 0.0), height - 1.0), min(max(u, 0.0), width - 1.0)
    top, left = int(v), int(u)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    below, beside = v - top, u - left
    upper = (1 - beside) * images[index, top, left] + beside * images[index, top, right]
    lower = (1 - beside) * images[index, bottom, left] + beside * images[index, bottom, right]
    return (1 - below) * upper + below * lower


@cuda.jit
def augment_kernel(
    images, labels, indices, rng, x, y, flip, shift, quarters, scale, cutout, mean, std
):
    # A block owns an image, whose lot each of its threads draws for itself; a thread owns every
    # THREADS-th pixel. Geometry is in float64.
    row, thread, index = cuda.blockIdx.x, cuda.threadIdx.x, indices[cuda.blockIdx.x]
    _, height, width = images.shape
    for k in range(thread, y.shape[1], THREADS):
        y[row, k] = labels[index, k] if index >= 0 else -1
    if index < 0:
        for pixel in range(thread, height * width, THREADS):
            x[row, pixel // width, pixel % width, 0] = 0
        return

    seed, run, epoch = np.uint64(rng[0]), np.uint64(rng[1]), np.uint64(rng[2])
    number, zero, one = np.uint64(index), np.uint64(0), np.uint64(1)
    w0, w1, w2, w3 = philox(number, epoch, zero, AUGMENTATION_STREAM, seed, run)
    w4, w5, w6, _ = philox(number, epoch, one, AUGMENTATION_STREAM, seed, run)
    mirrored = uniform(w0) < flip
    dx, dy = shift * signed(w1), shift * signed(w2)
    cosine, sine = cosine_and_sine(quarters * signed(w3))
    zoom = 1 + scale * signed(w4)
    cut_left, cut_top = place(w5, width - cutout + 1), place(w6, height - cutout + 1)

    across, down = (width - 1) / 2, (height - 1) / 2
    for pixel in range(thread, height * width, THREADS):
        i, j = pixel // width, pixel % width
        p, q = j - across - dx, i - down - dy
        u = (cosine * p + sine * q) / zoom + across
        v = (cosine * q - sine * p) / zoom + down
        if mirrored:
            u = width - 1 - u
        if cut_top <= i < cut_top + cutout and cut_left <= j < cut_left + cutout:
            x[row, i, j, 0] = 0
        else:
            x[row, i, j, 0] = (bilinear(images, index, v, u) / 255 - mean) / std


def augment(
    runtime: NumbaRuntime,
    images: Buffer,
    labels: Buffer,
    indices: Buffer,
    rng: Buffer,
    x: Buffer,
    y: Buffer,
    *,
    flip: float,
    shift: float,
    rotation: float,
    scale: float,
    cutout: int,
    mean: float,
    std: float,
) -> None:
    if cutout > min(images.shape[1:]):
        raise ValueError(f"a cutout of {cutout} does not fit an image of {images.shape[1:]}")
    runtime.launch(
        augment_kernel,
        (indices.size,),
        THREADS,
        images,
        labels.reshape(len(labels), -1),  # labels as one column, or shares of each class
        indices,
        rng,
        x,
        y.reshape(len(y), -1),
        float(flip),
        float(shift),
        rotation / 90,
        float(scale),
        cutout,
        float(mean),
        float(std),
    )
