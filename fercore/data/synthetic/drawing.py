"""Drawing one face: a person, an expression, a view and a look make an image."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fercore.data.synthetic.canvas import (
    WHITE,
    Canvas,
    View,
    blend,
    curve,
    ellipse,
    mirrored,
    shade,
)
from fercore.data.synthetic.face import Expression, Look, Person
from fercore.data.synthetic.features import Mouth, draw_brow, draw_eye, draw_mouth, draw_nose


def draw_face(person: Person, expression: Expression, view: View, look: Look) -> Image.Image:
    """The face as an RGB image of the view's size, before any camera effect."""
    canvas = Canvas(view, look.background, look.line_width, look.supersampling)
    for x, y, radius, colour in look.clutter:
        canvas.fill(ellipse(x, y, radius, radius), colour)
    _draw_body(canvas, person, expression, look)
    _draw_head(canvas, person, expression, look)
    _draw_shadows(canvas, person, expression, look)
    _draw_beard(canvas, person, expression)
    _draw_freckles(canvas, person)
    _draw_folds(canvas, person, expression)
    draw_nose(canvas, person, expression)
    draw_mouth(canvas, person, expression)
    for side in (-1, 1):
        draw_eye(canvas, person, expression, side)
        draw_brow(canvas, person, expression, side)
    _draw_hair(canvas, person)
    if person.glasses:
        _draw_glasses(canvas)
    return canvas.image.reduce(look.supersampling)


def _chin(person: Person, expression: Expression) -> float:
    return 1.85 * person.face_length + 0.26 * expression.jaw_drop - 0.03 * expression.chin_raise


def _face_outline(person: Person, expression: Expression) -> np.ndarray:
    wide, jaw = person.face_width, person.jaw_width * person.face_width
    chin = _chin(person, expression)
    return mirrored(
        [
            (0.0, -1.62),
            (0.62 * wide, -1.42),
            (1.02 * wide, -0.8),
            (1.08 * wide, -0.05),
            ((1.02 + 0.04 * expression.cheek_raise) * wide, 0.55),
            (0.84 * jaw, 0.62 * chin),
            (0.46 * jaw, 0.92 * chin),
            (0.0, chin),
        ]
    )


def _draw_body(canvas: Canvas, person: Person, expression: Expression, look: Look) -> None:
    if person.hair_style == "long":
        canvas.fill(
            mirrored([(0.0, -1.8), (1.0, -1.5), (1.36, -0.5), (1.4, 0.8), (1.35, 1.9), (0.0, 2.0)]),
            shade(person.hair, 0.25),
        )
    if person.hair_style == "bun":
        canvas.fill(ellipse(0.0, -1.85, 0.5, 0.42), person.hair)
    neck = mirrored([(0.0, 1.0), (0.62, 1.1), (0.6, 2.0), (0.75, 2.5), (0.0, 2.7)])
    canvas.fill(neck, shade(person.skin, 0.2))
    shadow = ellipse(0.0, _chin(person, expression) + 0.05, 0.9, 0.22)
    canvas.soften([(shadow, 0.8 * look.shading)], shade(person.skin, 0.62), 0.1, neck)
    shoulders = [(0.0, 2.32), (0.62, 2.05), (1.5, 2.3), (2.3, 2.7), (2.6, 4.5), (0.0, 4.6)]
    canvas.fill(mirrored(shoulders), look.clothes)


def _draw_head(canvas: Canvas, person: Person, expression: Expression, look: Look) -> None:
    for side in (-1, 1):
        ear = ellipse(side * 1.1 * person.face_width, 0.2, 0.15, 0.33)
        canvas.fill(ear, shade(person.skin, 0.18))
    outline = _face_outline(person, expression)
    canvas.fill(outline, person.skin)
    if look.outline > 0.0:
        lower = outline[len(outline) // 6 : -len(outline) // 6]
        canvas.stroke(lower, shade(person.skin, look.outline), canvas.line_width)


def _draw_shadows(canvas: Canvas, person: Person, expression: Expression, look: Look) -> None:
    e, wide, mouth = expression, person.face_width, Mouth.of(person, expression)
    dark = [
        (ellipse(0.0, mouth.bottom + 0.12, 0.2, 0.05), 0.5),
        (ellipse(0.0, 0.78 * person.nose_length, 0.17, 0.05), 0.6),
    ]
    light = [(ellipse(0.0, 0.35, 0.06, 0.3), 0.5), (ellipse(0.0, -0.75, 0.5, 0.22), 0.3)]
    cheek = [(1.1, -0.6), (1.1, 0.5), (0.75, 1.5), (0.62, 1.2), (0.86, 0.5), (0.92, -0.4)]
    lift = 0.14 * max(e.cheek_raise, e.corner_pull)
    for side in (-1, 1):
        socket = ellipse(side * 0.44, -0.12 + 0.1 * e.brow_lower, 0.3, 0.13)
        dark += [
            (curve(_on_side(side * wide, cheek), closed=True), 0.42),
            (socket, 0.3 + 0.2 * e.brow_lower),
            (ellipse(side * 0.15, 0.2, 0.05, 0.25), 0.22 + 0.3 * e.nose_wrinkle),
            (ellipse(side * 0.72 * wide, 1.05, 0.12, 0.3), 0.16 * (e.jaw_drop + e.lip_stretch)),
        ]
        light.append((ellipse(side * 0.66 * wide, 0.62 - lift, 0.2, 0.16), 0.3 + 2.0 * lift))
    face = _face_outline(person, expression)
    for shapes, colour, radius in (
        (dark, shade(person.skin, 0.62), 0.1),
        (light, blend(person.skin, WHITE, 0.55), 0.12),
    ):
        scaled = [(outline, opacity * look.shading) for outline, opacity in shapes]
        canvas.soften(scaled, colour, radius, face)


def _draw_beard(canvas: Canvas, person: Person, expression: Expression) -> None:
    chin, mouth = _chin(person, expression), Mouth.of(person, expression)
    wide = person.face_width * person.jaw_width
    outer = [(1.02, 0.5), (0.84, 0.62 * chin), (0.46, 0.93 * chin), (0.0, chin + 0.03)]
    inner = [(0.0, mouth.bottom + 0.12), (0.4, mouth.bottom + 0.02), (0.62, 1.0), (0.88, 0.45)]
    hairs = []
    for side in (-1, 1):
        beard = curve(_on_side(side * wide, outer + inner), closed=True)
        tip = (mouth.half_width + 0.04, mouth.corner(side) + 0.02)
        lip = [(0.0, mouth.top - 0.16), (0.3, mouth.top - 0.1), tip, (0.0, mouth.top)]
        hairs += [(beard, person.beard), (np.array(_on_side(side, lip)), person.moustache)]
    if person.beard > 0.0 or person.moustache > 0.0:
        canvas.soften([hair for hair in hairs if hair[1] > 0.0], person.brow, 0.03)


def _draw_freckles(canvas: Canvas, person: Person) -> None:
    # The golden angle spreads the spots over both cheeks without any random draw.
    for i in range(person.freckles):
        radius, angle = np.sqrt((i + 0.5) / person.freckles), i * 2.39996
        x, y = radius * np.cos(angle) * 0.75, 0.5 + radius * np.sin(angle) * 0.28
        canvas.fill(ellipse(x, y, 0.022, 0.022), shade(person.skin, 0.35))


def _draw_folds(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Lines that expressions press into the skin; age makes them darker."""
    e, mouth = expression, Mouth.of(person, expression)

    def fold(points: list[tuple[float, float]], strength: float) -> None:
        if strength > 0.12:
            darkness = min(0.75, strength * (0.35 + 0.4 * person.wrinkles))
            canvas.stroke(curve(points), shade(person.skin, darkness), canvas.line_width)

    raised = 0.6 * e.inner_brow_raise + 0.4 * e.outer_brow_raise
    half = 0.3 + 0.4 * e.outer_brow_raise
    dip = 0.05 * e.inner_brow_raise * (1.0 - e.outer_brow_raise)
    for y in (-0.66, -0.8, -0.94):  # across the forehead
        fold([(-half, y), (0.0, y - dip), (half, y)], raised)
    chin = mouth.bottom + 0.14
    fold([(-0.16, chin), (0.0, chin - 0.04), (0.16, chin)], 0.9 * e.chin_raise)
    for side in (-1, 1):
        gain = 1.0 + e.skew * side
        frown = [(0.09, -0.3), (0.07, -0.12)]
        fold(_on_side(side, frown), 1.1 * e.brow_lower)
        for y in (0.08, 0.18, 0.28):  # beside the bridge of the nose
            fold(_on_side(side, [(0.04, y + 0.03), (0.16, y - 0.03)]), e.nose_wrinkle)
        for k in (-1, 0, 1):  # crow's feet
            foot = [(0.78, 0.03 + 0.04 * k), (0.93, 0.02 + 0.1 * k)]
            fold(_on_side(side, foot), 0.8 * e.cheek_raise * gain)
        bag = [(0.3, 0.17), (0.48, 0.22), (0.66, 0.16)]
        fold(_on_side(side, bag), 0.8 * e.cheek_raise + 0.4 * e.lid_tighten)
        wing, corner = 0.6 * person.nose_length - 0.06 * e.nose_wrinkle, mouth.corner(side)
        middle = (0.4 + 0.12 * e.corner_pull, 0.5 * (wing + corner) - 0.03)
        nasolabial = [(0.23, wing), middle, (mouth.half_width + 0.1, corner - 0.02)]
        lift = max(e.corner_pull * gain, e.nose_wrinkle, e.upper_lip_raise)
        fold(_on_side(side, nasolabial), 0.25 * person.wrinkles + 0.9 * lift)
        x = mouth.half_width
        droop = [(x + 0.03, corner + 0.02), (x + 0.05, corner + 0.16)]
        fold(_on_side(side, droop), 0.8 * e.corner_depress * gain)


def _draw_hair(canvas: Canvas, person: Person) -> None:
    style, wide, line = person.hair_style, person.face_width, -0.95 * person.hairline
    if style == "bald":
        return
    if style == "cap":
        side = [(1.12 * wide, -1.0), (1.13 * wide, -0.5)]
        edge = [(0.6, line), (0.0, line - 0.06)]
        canvas.fill(mirrored([(0.0, -1.78), (0.7, -1.62), *side, *edge]), person.hair)
        return
    end = 0.25 if style in ("long", "fringe") else -0.1
    crown = [(1.12 * wide, end), (1.16 * wide, -0.75), (0.72, -1.68), (0.0, -1.85)]
    if style == "fringe":
        temple, top, parting = (0.98, -0.45), (0.6, line + 0.36), (0.0, line + 0.3)
    elif style == "parted":
        temple, top, parting = (1.0, -0.4), (0.82, line + 0.22), (-0.35, line - 0.2)
    else:
        temple, top, parting = (0.98, -0.4), (0.8, line + 0.05), (0.0, line - 0.05)
    inner = _on_side(wide, [temple, top, parting]) + _on_side(-wide, [top, temple])
    canvas.fill(curve(_on_side(-1, crown) + crown[-2::-1] + inner, closed=True), person.hair)
    if style == "curly":
        for angle in np.linspace(np.pi * 0.92, np.pi * 2.08, 13):
            x, y = 1.12 * wide * np.cos(angle), -0.55 + 1.2 * np.sin(angle)
            canvas.fill(ellipse(x, y, 0.3, 0.3), person.hair)


def _draw_glasses(canvas: Canvas) -> None:
    frame, width = (30, 28, 28), 0.045
    for side in (-1, 1):
        rim = ellipse(side * 0.5, 0.03, 0.38, 0.3)
        canvas.stroke(np.concatenate((rim, rim[:2])), frame, width, lift=0.15)
        canvas.stroke(np.array([(side * 0.87, -0.02), (side * 1.12, -0.08)]), frame, width)
    canvas.stroke(np.array([(-0.13, -0.02), (0.13, -0.02)]), frame, width, lift=0.15)


def _on_side(factor: float, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points with ``x`` multiplied: a side, -1 or 1, and possibly a width."""
    return [(factor * x, y) for x, y in points]
