"""Faces: what each muscle action does to the picture, and that people and views differ."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from fercore.data.synthetic.canvas import Canvas, View, blend, curve, ellipse
from fercore.data.synthetic.drawing import draw_face
from fercore.data.synthetic.face import Expression, HairStyle, Look, Person
from fercore.data.synthetic.features import Mouth

SIZE = 200
VIEW = View(SIZE, SIZE, x=100.0, y=105.0, unit=44.0)
LOOK = Look(shading=0.0, outline=0.0, supersampling=2)
ACTIONS = [
    name for name in Expression.__dataclass_fields__ if name not in ("skew", "gaze_x", "gaze_y")
]


def gray(
    person: Person = Person(), expression: Expression = Expression(), view: View = VIEW
) -> np.ndarray:
    return np.asarray(draw_face(person, expression, view, LOOK).convert("L"), dtype=np.float64)


def region(image: np.ndarray, x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    """A box in face coordinates."""
    unit = VIEW.unit
    rows = slice(round(VIEW.y + y0 * unit), round(VIEW.y + y1 * unit))
    return image[rows, round(VIEW.x + x0 * unit) : round(VIEW.x + x1 * unit)]


def test_size_mode_and_determinism() -> None:
    view = replace(VIEW, width=90, height=120)
    image = draw_face(Person(), Expression(jaw_drop=0.5), view, LOOK)
    assert (image.size, image.mode) == ((90, 120), "RGB")
    assert image.tobytes() == draw_face(Person(), Expression(jaw_drop=0.5), view, LOOK).tobytes()


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_shows_in_the_face_and_nowhere_else(action: str) -> None:
    change = np.abs(gray(expression=Expression(**{action: 1.0})) - gray())
    assert region(change, -1.1, 1.1, -1.2, 1.8).max() > 20
    assert change[:, :20].max() == 0.0
    assert change[:, -20:].max() == 0.0


def test_open_mouth_is_dark_and_open_eyes_are_white() -> None:
    wide = gray(expression=Expression(jaw_drop=1.0, lid_raise=1.0))
    mouth, eye = (-0.1, 0.1, 1.25, 1.4), (0.2, 0.8, -0.3, 0.15)
    assert region(wide, *mouth).mean() < region(gray(), *mouth).mean() - 60
    assert (region(wide, *eye) > 230).sum() > 1.3 * (region(gray(), *eye) > 230).sum()
    closed = gray(expression=Expression(lid_droop=1.0, lid_tighten=1.0))
    assert (region(closed, *eye) > 230).sum() < 0.5 * (region(gray(), *eye) > 230).sum()


def test_mouth_corners_follow_the_muscles_and_skew_takes_sides() -> None:
    rest = Mouth.of(Person(), Expression())
    smile = Mouth.of(Person(), Expression(corner_pull=1.0))
    frown = Mouth.of(Person(), Expression(corner_depress=1.0))
    smirk = Mouth.of(Person(), Expression(corner_pull=1.0, skew=1.0))
    for side in (-1, 1):
        assert smile.corner(side) < rest.corner(side) < frown.corner(side)
    assert smile.half_width > rest.half_width
    assert smirk.corner(1) < smirk.corner(-1) == rest.corner(-1)


def test_frontal_face_is_symmetric_and_skewed_is_not() -> None:
    # Pupils carry their highlight on the same side, as under one lamp: leave the eyes out.
    def asymmetry(expression: Expression) -> float:
        lower = region(gray(expression=expression), -1.0, 1.0, 0.3, 1.8)
        return float(np.abs(lower - lower[:, ::-1]).mean())

    assert asymmetry(Expression(corner_pull=0.8)) < 3.0
    assert asymmetry(Expression(corner_pull=0.8, skew=0.9)) > 4.0


@pytest.mark.parametrize(
    "change",
    [
        {"face_width": 1.1},
        {"jaw_width": 1.1},
        {"eye_size": 1.1},
        {"brow_thickness": 1.4},
        {"nose_width": 1.2},
        {"lip_fullness": 1.4},
        {"skin": (120, 80, 60)},
        {"iris": (120, 150, 180)},
        {"beard": 0.8},
        {"moustache": 0.8},
        {"glasses": True},
        {"freckles": 20},
        *({"hair_style": style} for style in get_args(HairStyle) if style != Person().hair_style),
    ],
    ids=str,
)
def test_every_trait_changes_the_picture(change: dict[str, object]) -> None:
    assert np.abs(gray(replace(Person(), **change)) - gray()).max() > 10


def test_views_move_turn_and_scale_the_head() -> None:
    canvas = Canvas(VIEW, (0, 0, 0), 0.02, factor=1)
    eyes = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.0]])
    left, right, middle = canvas.project(eyes)
    assert middle == pytest.approx([100.0, 105.0], abs=0.1)
    assert right[0] - left[0] == pytest.approx(44.0)
    rolled = Canvas(replace(VIEW, roll=np.pi / 2), (0, 0, 0), 0.02, factor=1).project(eyes)
    assert rolled[1] - rolled[0] == pytest.approx([0.0, 44.0], abs=1e-9)
    # Turned aside, the near half of the face stays wide and the far half shrinks.
    turned = Canvas(replace(VIEW, yaw=0.5), (0, 0, 0), 0.02, factor=1).project(eyes)
    assert turned[2, 0] - turned[0, 0] > 1.05 * (turned[1, 0] - turned[2, 0])


def test_faces_may_reach_beyond_the_image_or_lie_outside() -> None:
    gray(view=replace(VIEW, x=-10.0, unit=120.0))
    outside = gray(Person(beard=1.0), view=replace(VIEW, x=-2000.0))
    assert np.ptp(outside) == 0.0


def test_softened_shapes_stay_within_their_clip() -> None:
    canvas = Canvas(VIEW, (0, 0, 0), 0.02, factor=1)
    canvas.soften(
        [(ellipse(0.0, 0.0, 0.5, 0.5), 1.0)], (255, 255, 255), 0.1, ellipse(0.0, 0.0, 0.3, 0.3)
    )
    pixels = np.asarray(canvas.image.convert("L"))
    assert pixels[105, 100] > 200
    assert pixels[105, 100 + 18] == 0  # inside the shape, outside the clip


def test_curves_pass_through_their_points() -> None:
    points = [(0.0, 0.0), (1.0, 2.0), (3.0, 1.0)]
    for closed in (False, True):
        line = curve(points, closed=closed)
        for point in points:
            assert np.abs(line - point).sum(axis=1).min() < 1e-12


def test_blend() -> None:
    assert blend((0, 100, 200), (100, 200, 0), 0.5) == (50, 150, 100)
    assert blend((0, 0, 0), (100, 100, 100), 1.7) == (100, 100, 100)
