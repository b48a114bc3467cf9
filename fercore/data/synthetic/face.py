"""What a drawn face is made of: who it is, what it shows, and how it is painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fercore.data.synthetic.canvas import RGB

HairStyle = Literal["bald", "short", "fringe", "parted", "long", "curly", "bun", "cap"]


@dataclass(frozen=True)
class Person:
    """What stays the same over all images of somebody; lengths are multiples of the average."""

    face_width: float = 1.0
    face_length: float = 1.0
    jaw_width: float = 1.0
    eye_size: float = 1.0
    eye_tilt: float = 0.0  # > 0: outer corner higher
    lid_height: float = 1.0
    brow_thickness: float = 1.0
    brow_height: float = 1.0
    brow_arch: float = 1.0
    nose_length: float = 1.0
    nose_width: float = 1.0
    mouth_width: float = 1.0
    lip_fullness: float = 1.0
    wrinkles: float = 0.5  # 0 young, 1 old: how dark folds and lines are
    skin: RGB = (224, 180, 150)
    hair: RGB = (60, 42, 30)  # of a cap, where one is worn
    brow: RGB = (60, 42, 30)
    iris: RGB = (80, 60, 40)
    hair_style: HairStyle = "short"
    hairline: float = 1.0
    beard: float = 0.0  # 0 none .. 1 full
    moustache: float = 0.0
    glasses: bool = False
    freckles: int = 0


@dataclass(frozen=True)
class Expression:
    """Muscle actions after FACS, each from 0, at rest, to 1, as strong as it gets."""

    inner_brow_raise: float = 0.0  # AU 1
    outer_brow_raise: float = 0.0  # AU 2
    brow_lower: float = 0.0  # AU 4
    lid_raise: float = 0.0  # AU 5
    cheek_raise: float = 0.0  # AU 6
    lid_tighten: float = 0.0  # AU 7
    nose_wrinkle: float = 0.0  # AU 9
    upper_lip_raise: float = 0.0  # AU 10
    corner_pull: float = 0.0  # AU 12
    corner_depress: float = 0.0  # AU 15
    chin_raise: float = 0.0  # AU 17
    lip_stretch: float = 0.0  # AU 20
    lip_press: float = 0.0  # AU 23 and 24
    jaw_drop: float = 0.0  # AU 25 to 27
    lid_droop: float = 0.0  # AU 43
    skew: float = 0.0  # -1 .. 1: how much stronger the right half of the image acts than the left
    gaze_x: float = 0.0  # -1 .. 1
    gaze_y: float = 0.0


@dataclass(frozen=True)
class Look:
    """How a face is painted, whoever it is."""

    background: RGB = (128, 128, 128)
    clutter: tuple[tuple[float, float, float, RGB], ...] = ()  # discs behind: x, y, radius, colour
    clothes: RGB = (90, 90, 100)
    shading: float = 1.0  # strength of soft shadows
    outline: float = 0.3  # darkness of drawn contours, 0 .. 1
    line_width: float = 0.025  # of contours and folds, in eye distances
    supersampling: int = 3
