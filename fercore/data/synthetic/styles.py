"""One visual style a dataset: who is shown, how they act, where they stand, in what light."""

from __future__ import annotations

from dataclasses import dataclass, field

from fercore.data.synthetic.canvas import RGB
from fercore.data.synthetic.face import Look
from fercore.data.synthetic.people import Acting, Casting


@dataclass(frozen=True)
class Style:
    """How a dataset's images come about. Spreads are standard deviations."""

    width: int
    height: int
    unit: float  # distance between the eyes, as a part of the width
    eye_line: float  # as a part of the height
    place: float = 0.0  # spread of the head's place, in eye distances
    size: float = 0.0  # relative spread of the head's size
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)  # spread of roll, yaw, pitch, radians
    casting: Casting = field(default_factory=Casting)
    acting: Acting = field(default_factory=Acting)
    look: Look = field(default_factory=Look)
    backgrounds: tuple[RGB, RGB] = ((128, 128, 128), (128, 128, 128))  # range, channel by channel
    clutter: int = 0  # shapes behind the head, at most
    occlusion: float = 0.0  # share of images in which something covers a part of the face
    colour: bool = False
    contrast: tuple[float, float] = (1.0, 0.0)  # mean, spread
    brightness: tuple[float, float] = (0.0, 0.0)  # mean, spread; gray levels
    light: float = 0.0  # spread of the brightness gradient across the image
    blur: tuple[float, float] = (0.0, 0.0)  # range of the radius, pixels
    noise: tuple[float, float] = (0.0, 0.0)  # range of the spread of each pixel, gray levels


STYLES: dict[str, Style] = {
    # Found on the web: anybody, any pose, any light, often covered or out of focus.
    "fer2013": Style(
        48,
        48,
        unit=0.375,
        eye_line=0.37,
        place=0.12,
        size=0.09,
        turn=(0.1, 0.22, 0.12),
        casting=Casting(glasses=0.12),
        acting=Acting(intensity=(0.55, 1.0), spread=0.22, stray=0.05),
        look=Look(shading=1.0, outline=0.2, line_width=0.03, supersampling=3),
        backgrounds=((20, 20, 20), (225, 225, 225)),
        clutter=5,
        occlusion=0.12,
        contrast=(0.9, 0.2),
        brightness=(0.0, 22.0),
        light=0.3,
        blur=(0.0, 0.7),
        noise=(1.0, 7.0),
    ),
    # Ten young women in one studio: soft, gray, head and shoulders, restrained.
    "jaffe": Style(
        256,
        256,
        unit=0.234,
        eye_line=0.5,
        place=0.05,
        size=0.03,
        turn=(0.03, 0.05, 0.04),
        casting=Casting(women=1.0, skin=(0.0, 1.5), hair=(0.0, 0.3), glasses=0.0, old=0.4),
        acting=Acting(
            intensity=(0.5, 0.9),
            spread=0.2,
            stray=0.05,
            emphasis={
                "jaw_drop": 0.5,
                "lid_raise": 0.4,
                "lip_stretch": 0.6,
                "corner_depress": 0.7,
                "nose_wrinkle": 0.7,
                "brow_lower": 0.8,
            },
        ),
        look=Look(
            clothes=(60, 60, 64), shading=1.3, outline=0.15, line_width=0.02, supersampling=2
        ),
        backgrounds=((196, 196, 196), (222, 222, 222)),
        contrast=(0.72, 0.04),
        brightness=(-14.0, 5.0),
        light=0.06,
        blur=(1.2, 1.8),
        noise=(2.0, 3.0),
    ),
    # Men and women in hair caps before black, hard light, inked contours, textbook expressions.
    "tfeid": Style(
        200,
        250,
        unit=0.34,
        eye_line=0.42,
        place=0.03,
        size=0.03,
        turn=(0.015, 0.03, 0.03),
        casting=Casting(
            skin=(0.3, 1.8), hair=(0.0, 0.3), glasses=0.0, beards=0.0, old=0.6, cap=(118, 120, 128)
        ),
        acting=Acting(
            intensity=(0.8, 1.0),
            spread=0.12,
            stray=0.04,
            emphasis={
                "lid_tighten": 1.3,
                "lip_press": 1.3,
                "inner_brow_raise": 0.7,
                "chin_raise": 1.3,
            },
        ),
        look=Look(clothes=(64, 66, 74), shading=1.5, outline=0.7, line_width=0.04, supersampling=2),
        backgrounds=((24, 24, 26), (44, 44, 48)),
        contrast=(1.3, 0.06),
        brightness=(-22.0, 6.0),
        light=0.08,
        noise=(1.0, 2.0),
    ),
    # Colour video before a blue cloth: from neutral to apex and back, lively, mouths wide open.
    "mug": Style(
        192,
        192,
        unit=0.27,
        eye_line=0.45,
        place=0.06,
        size=0.05,
        turn=(0.04, 0.08, 0.06),
        casting=Casting(skin=(0.5, 3.0), hair=(0.0, 2.0), glasses=0.1),
        acting=Acting(
            intensity=(0.65, 1.0),
            spread=0.18,
            stray=0.05,
            emphasis={
                "jaw_drop": 1.5,
                "lip_stretch": 0.5,
                "corner_depress": 0.5,
                "brow_lower": 0.7,
                "nose_wrinkle": 0.8,
            },
        ),
        look=Look(
            clothes=(110, 112, 120), shading=0.7, outline=0.25, line_width=0.02, supersampling=2
        ),
        backgrounds=((30, 60, 130), (50, 85, 160)),
        colour=True,
        contrast=(0.95, 0.05),
        brightness=(14.0, 6.0),
        light=0.12,
        blur=(0.4, 1.0),
        noise=(2.0, 4.0),
    ),
    # Students before a laboratory wall, cropped close, dark and grainy, expressions at their peak.
    "ckplus": Style(
        48,
        48,
        unit=0.42,
        eye_line=0.34,
        place=0.05,
        size=0.04,
        turn=(0.04, 0.06, 0.05),
        casting=Casting(women=0.65, glasses=0.02, beards=0.15, old=0.5),
        acting=Acting(
            intensity=(0.75, 1.0),
            spread=0.15,
            stray=0.05,
            emphasis={"jaw_drop": 1.2, "outer_brow_raise": 1.2, "brow_lower": 0.9},
        ),
        look=Look(shading=1.2, outline=0.3, line_width=0.03, supersampling=3),
        backgrounds=((60, 60, 60), (110, 110, 110)),
        contrast=(0.9, 0.08),
        brightness=(-38.0, 10.0),
        light=0.12,
        blur=(0.0, 0.4),
        noise=(7.0, 13.0),
    ),
}
"""The style of every format that can be drawn."""
