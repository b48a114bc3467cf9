"""How the reference backend varies one image: what chance decides, and the warp it leads to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fercore.backends.interface import AUGMENTATION_STREAM, Augmentation
from fercore.backends.philox import philox, uniform


@dataclass(frozen=True)
class Draw:
    """One image's lot; ``cutout`` is its square in output pixels, as slices down and across."""

    mirrored: bool
    shift_x: float
    shift_y: float
    angle: float  # radians
    zoom: float
    cutout: tuple[slice, slice]

    @classmethod
    def of(
        cls, augmentation: Augmentation, size: tuple[int, int], index: int, rng: np.ndarray
    ) -> Draw:
        """The lot of image ``index`` of ``size (H, W)`` in the epoch that ``rng`` names."""
        seed, run, epoch, _ = rng
        w = philox((index, epoch, np.arange(2), AUGMENTATION_STREAM), (seed, run)).reshape(8)
        u = uniform(w)
        signed = 2 * u - 1
        side = augmentation.cutout
        top, left = (
            int(word) * (extent - side + 1) >> 32
            for word, extent in zip((w[6], w[5]), size, strict=True)
        )
        return cls(
            mirrored=bool(u[0] < augmentation.flip),
            shift_x=augmentation.shift * signed[1],
            shift_y=augmentation.shift * signed[2],
            angle=math.radians(augmentation.rotation * signed[3]),
            zoom=1 + augmentation.scale * signed[4],
            cutout=(slice(top, top + side), slice(left, left + side)),
        )


def warp(image: np.ndarray, draw: Draw) -> np.ndarray:
    """``image`` uint8 ``[H, W]`` mirrored, rotated, zoomed and shifted: float64 ``[H, W]``."""
    height, width = image.shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    p = np.arange(width)[None, :] - centre_x - draw.shift_x
    q = np.arange(height)[:, None] - centre_y - draw.shift_y
    cosine, sine = math.cos(draw.angle), math.sin(draw.angle)
    u = (cosine * p + sine * q) / draw.zoom + centre_x
    v = (-sine * p + cosine * q) / draw.zoom + centre_y
    return bilinear(image, v, width - 1 - u if draw.mirrored else u)


def bilinear(image: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """``image`` read at rows ``v`` and columns ``u``; beyond its border the border goes on."""
    height, width = image.shape
    v, u = np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)
    top, left = np.floor(v).astype(int), np.floor(u).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    below, beside = v - top, u - left
    upper = (1 - beside) * image[top, left] + beside * image[top, right]
    lower = (1 - beside) * image[bottom, left] + beside * image[bottom, right]
    read: np.ndarray = (1 - below) * upper + below * lower
    return read
