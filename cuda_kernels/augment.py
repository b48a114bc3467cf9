"""Gathering, varying and normalising images: see augment.cu."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

SOURCE = Path(__file__).with_suffix(".cu")


@dataclass(frozen=True)
class Images:
    """A batch of ``count`` images."""

    count: int
    pixels: int
    """Of each."""
    itemsize: int
    """Bytes of a pixel of ``x``."""
    label_bytes: int = 4
    """Of what is known of each."""

    @property
    def flops(self) -> int:
        return 30 * self.count * self.pixels

    @property
    def bytes(self) -> int:
        return self.count * ((1 + self.itemsize) * self.pixels + 4 + 2 * self.label_bytes)


def _grid(images: Images) -> Grid:
    return (images.count, 1, 1)


def _kernel(name: str, precision: Precision) -> Kernel:
    why = "a block an image; its threads draw the lot themselves, with no barrier"
    return Kernel(name, "augment", 1, SOURCE, why, 256, _grid, precision=precision)


KERNELS = (_kernel("augment", "fp32"), _kernel("augment_bf16", "bf16"))


def augment(
    runtime: Runtime,
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
    precision: Precision = "fp32",
) -> None:
    """``x [N, H, W, 1] = (images[indices] / 255 - mean) / std``, varied; ``y = labels[indices]``.

    ``images`` uint8 ``[M, H, W]``; ``labels [M]``, ``indices [N]`` and ``y [N]`` int32, or labels
    and ``y`` float32 rows of ``K`` shares; ``x`` float32, or bf16 with ``precision="bf16"``. An
    index of -1 is a padding row: ``x`` 0, label or shares -1.
    ``rng`` is uint32 ``[4]``: seed, run, epoch, step. An image draws words ``w`` 0 to 7, Philox at
    counters ``(index, epoch, 0, 1)`` and ``(index, epoch, 1, 1)`` with key ``(seed, run)``: a
    mirror image with probability ``flip`` (w0), shifts of up to ``shift`` pixels along x and y (w1,
    w2), a rotation of up to ``rotation`` degrees (w3), a zoom in ``1 +- scale`` (w4), and the
    corner, across and down (w5, w6), of a square of ``cutout`` pixels where ``x`` is 0. Borders are
    repeated outwards.
    """
    count, (_, h, w) = len(indices), images.shape
    soft = labels.ndim == 2
    if x.size != count * h * w or y.shape != (count, *labels.shape[1:]):
        raise ValueError(f"augment: {count} images {h}x{w} do not fit {x.shape} and {y.shape}")
    if cutout > min(h, w):
        raise ValueError(f"augment: a cutout of {cutout} does not fit an image of {h}x{w}")
    arguments = {
        "images": images,
        "labels": None if soft else labels,
        "shares": labels if soft else None,
        "indices": indices,
        "rng": rng,
        "x": x,
        "y": None if soft else y,
        "y_shares": y if soft else None,
        "h": h,
        "w": w,
        "k": labels.shape[1] if soft else 1,
        "flips": math.ceil(flip * 2.0**24),
        "shift": shift,
        "quarters": rotation / 90,
        "zoom": scale,
        "cutout": cutout,
        "scale": 1 / (255 * std),
        "offset": -mean / std,
    }
    label_bytes = y.nbytes // max(count, 1)
    problem = Images(count, h * w, x.dtype.itemsize, label_bytes)
    runtime.run("augment", problem, arguments, precision=precision)
