"""Where the faces are in a picture, and cutting them out as FER2013's are.

A detector is any function from gray pixels to boxes; ``open_detector`` gives OpenCV's. FER2013 was
collected with that kind of detector, so its box is almost FER2013's frame: ``framed`` adds what is
missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fercore.data.images import WHOLE, frame
from fercore.errors import FercoreError

CASCADE = "haarcascade_frontalface_alt2.xml"
"""Of OpenCV's frontal cascades the one that saw most faces of FER2013's training images."""

LONGEST = 1200
"""Larger pictures are searched at this size, in pixels of their longer side."""

SMALLEST = 24
"""Side of the smallest face that is looked for, in pixels of the picture that is searched."""

FRAME = 1.04
"""Side of FER2013's frame over that of the detector's box; their centres are the same.

Measured on 1,200 of FER2013's training images, enlarged and continued outwards. The detector sees
76 % of them; its box has 0.96 of the frame's side (median; quartiles 0.89 and 1.01), and its centre
lies within 0.01 of the frame's. The eyes in it are 0.39 of its side apart: 0.376 of the frame's.
"""

VARIATION = 0.15
"""How far, in sides of the frame, the edges of FER2013's own images lie from it (78 % of them)."""


class Box(NamedTuple):
    """A part of an upright picture, in pixels; it may reach beyond the edges."""

    left: int
    top: int
    right: int
    bottom: int


Detector = Callable[[np.ndarray], list[Box]]
"""From gray pixels (uint8 ``[H, W]``) to a box around each face, from left to right.

It may be called from several threads at once.
"""


def open_detector() -> Detector | None:
    """OpenCV's detector of frontal faces; None where OpenCV is not installed.

    Raises FercoreError when an OpenCV is installed that has none, as version 5.
    """
    try:
        import cv2
    except ImportError:
        return None
    path = Path(getattr(getattr(cv2, "data", None), "haarcascades", "")) / CASCADE
    if not (hasattr(cv2, "CascadeClassifier") and path.is_file()):
        raise FercoreError(
            f"OpenCV {cv2.__version__} brings no face detector: pip install 'fercore[faces]', or "
            "give --crop"
        )
    cascade = cv2.CascadeClassifier(str(path))
    lock = threading.Lock()  # it keeps what it works on in itself

    def detect(gray: np.ndarray) -> list[Box]:
        height, width = gray.shape
        scale = max(height / LONGEST, width / LONGEST, 1.0)
        if scale > 1:
            size = max(round(width / scale), 1), max(round(height / scale), 1)
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        with lock:
            found = cascade.detectMultiScale(
                gray, scaleFactor=1.1, minNeighbors=5, minSize=(SMALLEST, SMALLEST)
            )
        return sorted(
            Box(*(round(scale * edge) for edge in (x, y, x + w, y + h))) for x, y, w, h in found
        )

    return detect


def framed(face: Box, width: int, height: int) -> Box:
    """FER2013's frame around a face: eyes at 0.37 of its height, 0.375 of its width apart.

    A picture of ``width`` and ``height`` that is such a frame already, as in FER2013 and CK+48, is
    taken whole: cut again, it would not be framed like those that networks were trained on.
    """
    side = FRAME * max(face.right - face.left, face.bottom - face.top)
    left = round((face.left + face.right - side) / 2)
    top = round((face.top + face.bottom - side) / 2)
    square = Box(left, top, left + round(side), top + round(side))
    whole = Box(0, 0, width, height)
    same = all(abs(a - b) <= VARIATION * side for a, b in zip(square, whole, strict=True))
    return whole if same else square


def cut(gray: Image.Image, box: Box) -> np.ndarray:
    """The part of a gray picture at uint8 ``[48, 48]``; edges are continued outwards."""
    columns = np.clip(np.arange(box.left, box.right), 0, gray.width - 1)
    rows = np.clip(np.arange(box.top, box.bottom), 0, gray.height - 1)
    return frame(Image.fromarray(np.asarray(gray)[np.ix_(rows, columns)]), WHOLE)
