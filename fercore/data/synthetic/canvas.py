"""Painting with Pillow in face coordinates.

The origin lies between the eyes, ``x`` points to the right of the image, ``y`` down, and the unit
is the distance between the eyes. In these units an adult face is about 2.2 wide, the mouth lies at
1.1 and the chin at 1.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

RGB = tuple[int, int, int]

BLACK: RGB = (12, 9, 8)
WHITE: RGB = (246, 243, 238)


@dataclass(frozen=True)
class View:
    """Where and how the head stands in an image of ``width`` x ``height`` pixels."""

    width: int
    height: int
    x: float  # midpoint between the eyes, pixels
    y: float
    unit: float  # distance between the eyes of a frontal face, pixels
    roll: float = 0.0  # radians
    yaw: float = 0.0
    pitch: float = 0.0


class Canvas:
    """Paints shapes that are given in face coordinates onto a supersampled image."""

    def __init__(self, view: View, background: RGB, line_width: float, factor: int) -> None:
        self.line_width = line_width
        self.unit = view.unit * factor
        self.image = Image.new("RGB", (view.width * factor, view.height * factor), background)
        self.pen = ImageDraw.Draw(self.image)
        cos, sin = np.cos(view.roll), np.sin(view.roll)
        turn = np.array([[cos, sin], [-sin, cos]]) * self.unit
        tilt = np.array(
            [
                [np.cos(view.yaw), 0.0],
                [0.0, np.cos(view.pitch)],
                [np.sin(view.yaw), np.sin(view.pitch)],
            ]
        )
        self._projection = tilt @ turn
        self._origin = np.array([view.x, view.y]) * factor

    def project(self, points: np.ndarray, lift: float = 0.0) -> np.ndarray:
        """Pixels [n, 2] of points [n, 2] on an egg-shaped head, or ``lift`` above it."""
        x, y = points[:, 0], points[:, 1]
        depth = np.sqrt(np.maximum(1.0 - (x / 1.35) ** 2 - ((y - 0.1) / 2.4) ** 2, 0.0))
        plane: np.ndarray = points @ self._projection[:2] + self._origin
        plane += (depth + (lift - 1.0))[:, None] * self._projection[2]
        return plane

    def fill(self, points: np.ndarray, colour: RGB, lift: float = 0.0) -> None:
        """A polygon."""
        self.pen.polygon(self.project(points, lift).ravel().tolist(), fill=colour)

    def stroke(self, points: np.ndarray, colour: RGB, width: float, lift: float = 0.0) -> None:
        """A line of ``width`` eye distances."""
        pixels = max(1, round(width * self.unit))
        self.pen.line(
            self.project(points, lift).ravel().tolist(), fill=colour, width=pixels, joint="curve"
        )

    def soften(
        self,
        shapes: list[tuple[np.ndarray, float]],
        colour: RGB,
        radius: float,
        within: np.ndarray | None = None,
    ) -> None:
        """Blends blurred shapes, each with its opacity 0 .. 1, into the image, or a part of it."""
        outlines = [self.project(points) for points, _ in shapes]
        clip = None if within is None else self.project(within)
        spread = radius * self.unit
        extent = clip if clip is not None else np.concatenate(outlines)
        margin = 0.0 if clip is not None else 3.0 * spread
        left, top = np.maximum(np.floor(extent.min(axis=0) - margin), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(extent.max(axis=0) + margin), self.image.size).tolist()
        if left >= right or top >= bottom:
            return  # all of it lies outside the image
        # A blurred mask carries no detail: a low resolution is enough, and much quicker.
        step = max(1, int(spread / 2))
        size = (int(right - left) // step + 1, int(bottom - top) // step + 1)

        def polygon(mask: Image.Image, outline: np.ndarray, level: int) -> None:
            ImageDraw.Draw(mask).polygon(((outline - (left, top)) / step).ravel().tolist(), level)

        mask = Image.new("L", size, 0)
        for outline, (_, opacity) in zip(outlines, shapes, strict=True):
            polygon(mask, outline, min(255, round(255 * opacity)))
        mask = mask.filter(ImageFilter.GaussianBlur(spread / step))
        if clip is not None:
            inside = Image.new("L", size, 0)
            polygon(inside, clip, 255)
            mask = ImageChops.multiply(mask, inside)
        mask = mask.resize((size[0] * step, size[1] * step), Image.Resampling.BILINEAR)
        self.image.paste(colour, (left, top), mask)


@lru_cache(maxsize=64)
def _spline_basis(count: int, closed: bool, samples: int) -> np.ndarray:
    """Uniform Catmull-Rom weights [segments * samples, count] of the control points."""
    segments = count if closed else count - 1
    t = np.linspace(0.0, 1.0, samples, endpoint=False)
    weights = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3],
        axis=1,
    )
    basis = np.zeros((segments * samples + (not closed), count))
    for segment in range(segments):
        for k in range(4):
            i = segment - 1 + k
            i = i % count if closed else min(max(i, 0), count - 1)
            basis[segment * samples : (segment + 1) * samples, i] += weights[:, k]
    if not closed:
        basis[-1, -1] = 1.0
    return basis


def curve(points: list[tuple[float, float]], closed: bool = False, samples: int = 6) -> np.ndarray:
    """A smooth line through the points, as [n, 2]."""
    line: np.ndarray = _spline_basis(len(points), closed, samples) @ np.array(points)
    return line


def mirrored(half: list[tuple[float, float]]) -> np.ndarray:
    """A closed smooth outline, given its right half from top to bottom."""
    left = [(-x, y) for x, y in reversed(half) if x > 0]
    return curve(half + left, closed=True)


_ANGLES = np.linspace(0.0, 2.0 * np.pi, 20, endpoint=False)
_CIRCLE = np.column_stack((np.cos(_ANGLES), np.sin(_ANGLES)))


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """An ellipse around (x, y), as [20, 2]."""
    return _CIRCLE * (rx, ry) + (x, y)


def blend(a: RGB, b: RGB, amount: float) -> RGB:
    """The colour ``amount`` of the way from ``a`` to ``b``; beyond 0 .. 1 it is clamped."""
    amount = min(max(amount, 0.0), 1.0)
    return (
        round(a[0] + (b[0] - a[0]) * amount),
        round(a[1] + (b[1] - a[1]) * amount),
        round(a[2] + (b[2] - a[2]) * amount),
    )


def shade(colour: RGB, amount: float) -> RGB:
    """The colour darkened: 0 leaves it, 1 gives BLACK."""
    return blend(colour, BLACK, amount)
