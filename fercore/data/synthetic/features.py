"""The parts of a face that expressions move most: nose, mouth, eyes and brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fercore.data.synthetic.canvas import BLACK, WHITE, Canvas, blend, curve, ellipse, shade
from fercore.data.synthetic.face import Expression, Person


def draw_nose(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Wings and nostrils; the bridge is a matter of light."""
    e = expression
    raised = max(e.nose_wrinkle, 0.6 * e.upper_lip_raise)
    base = 0.74 * person.nose_length - 0.07 * raised
    half = 0.19 * person.nose_width * (1.0 + 0.18 * raised + 0.08 * e.corner_pull)
    for side in (-1, 1):
        wing = [(0.62, base - 0.2), (1.0, base - 0.1), (0.92, base), (0.5, base + 0.01)]
        canvas.stroke(
            curve([(side * half * x, y) for x, y in wing]),
            shade(person.skin, 0.45),
            canvas.line_width,
            lift=0.12,
        )
        canvas.fill(
            ellipse(side * 0.48 * half, base - 0.015, 0.3 * half, 0.028),
            shade(person.skin, 0.72),
            lift=0.15,
        )


@dataclass(frozen=True)
class Mouth:
    """The mouth's shape; ``u`` runs from -1 at the left corner of the image to 1 at the right."""

    half_width: float
    centre: float  # where closed lips meet
    corners: tuple[float, float]
    opening_up: float
    opening_down: float
    upper_lip: float
    lower_lip: float

    @staticmethod
    def of(person: Person, e: Expression) -> Mouth:
        """The shape that an expression gives a person's mouth."""
        width = 0.4 * person.mouth_width
        width *= 1.0 + 0.3 * e.corner_pull + 0.28 * e.lip_stretch - 0.16 * e.lip_press
        width *= 1.0 - 0.34 * e.jaw_drop * (1.0 - max(e.corner_pull, e.lip_stretch))
        centre = 1.08 * person.face_length - 0.05 * e.chin_raise - 0.03 * e.upper_lip_raise

        def corner(side: int) -> float:
            gain = 1.0 + e.skew * side
            pulled = -0.21 * e.corner_pull * gain + 0.17 * e.corner_depress * gain
            return centre + pulled + 0.05 * e.lip_stretch + 0.08 * e.jaw_drop

        parted = 0.1 * e.upper_lip_raise + 0.04 * e.lip_stretch
        thin = 1.0 - 0.6 * e.lip_press - 0.25 * e.corner_pull - 0.25 * e.lip_stretch
        return Mouth(
            half_width=width,
            centre=centre,
            corners=(corner(-1), corner(1)),
            opening_up=0.07 * e.jaw_drop + parted,
            opening_down=0.5 * e.jaw_drop + 0.3 * parted,
            upper_lip=0.085 * person.lip_fullness * thin,
            lower_lip=0.11 * person.lip_fullness * thin * (1.0 + 0.25 * e.chin_raise),
        )

    def corner(self, side: int) -> float:
        """Height of the left (-1) or the right (1) corner."""
        return self.corners[0] if side < 0 else self.corners[1]

    @property
    def top(self) -> float:
        return self.centre - self.opening_up - self.upper_lip

    @property
    def bottom(self) -> float:
        return self.centre + self.opening_down + self.lower_lip

    def edge(self, up: float, power: float = 1.0) -> np.ndarray:
        """A line from corner to corner that passes ``up`` above the centre, as [17, 2]."""
        u = _MOUTH_U
        ends = self.corners[0] + (self.corners[1] - self.corners[0]) * (u + 1.0) / 2.0
        arch = 1.0 - u**2
        y = ends + (self.centre - ends) * arch - up * arch**power
        return np.column_stack((u * self.half_width, y))


_MOUTH_U = np.linspace(-1.0, 1.0, 17)


def draw_mouth(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Lips and, where they part, teeth and tongue."""
    e, mouth = expression, Mouth.of(person, expression)
    lips = blend(shade(person.skin, 0.22), (165, 60, 65), 0.45)
    upper_inner, lower_inner = mouth.edge(mouth.opening_up), mouth.edge(-mouth.opening_down, 0.7)
    upper_outer = mouth.edge(mouth.opening_up + mouth.upper_lip, 0.8)
    bow = np.exp(-((_MOUTH_U / 0.16) ** 2))
    upper_outer[:, 1] += 0.3 * mouth.upper_lip * bow
    lower_outer = mouth.edge(-(mouth.opening_down + mouth.lower_lip), 0.7)
    canvas.fill(np.concatenate((upper_outer, upper_inner[::-1])), shade(lips, 0.12))
    canvas.fill(np.concatenate((lower_inner, lower_outer[::-1])), lips)
    opening = mouth.opening_up + mouth.opening_down
    if opening > 0.04:
        canvas.fill(np.concatenate((upper_inner, lower_inner[::-1])), (52, 18, 20))
        if opening > 0.25:
            canvas.fill(
                ellipse(0.0, mouth.centre + 0.8 * mouth.opening_down, 0.16, 0.1), (150, 70, 72)
            )
        bared = max(e.corner_pull, e.upper_lip_raise, e.lip_stretch, 0.35 * e.jaw_drop)
        depth = min(0.17 * bared + 0.02, 0.75 * opening)
        inset = upper_inner * (0.9, 1.0)
        teeth = np.minimum(inset[:, 1] + depth * (1.0 - _MOUTH_U**4), lower_inner[:, 1])
        canvas.fill(np.concatenate((inset, np.column_stack((inset[:, 0], teeth))[::-1])), WHITE)
    else:
        canvas.stroke(mouth.edge(0.0), shade(lips, 0.62), 1.2 * canvas.line_width)
    for side in (-1, 1):
        dent = ellipse(side * mouth.half_width, mouth.corner(side), 0.03, 0.025)
        canvas.fill(dent, shade(person.skin, 0.5))


_EYE_U = np.linspace(-1.0, 1.0, 11)  # from the inner corner to the outer


def draw_eye(canvas: Canvas, person: Person, expression: Expression, side: int) -> None:
    """The left (-1) or the right (1) eye of the image."""
    e = expression
    half, size = 0.25 * person.eye_size, person.eye_size * person.lid_height
    opened = 0.7 * e.lid_raise - 0.35 * e.lid_tighten - 0.55 * e.lid_droop
    rise = 0.125 * size * (1.0 + opened - 0.25 * e.nose_wrinkle)
    drop = 0.075 * size * (1.0 + 0.25 * e.lid_raise - 0.7 * e.lid_tighten - 1.0 * e.cheek_raise)
    rise = max(rise, 0.02 - drop)
    # Sorrow lifts the inner corner and the inner half of the upper lid; anger presses it down.
    sorrow = 0.035 * e.inner_brow_raise * (1.0 - e.outer_brow_raise)
    slant = (sorrow - 0.04 * person.eye_tilt) * _EYE_U
    arch = 1.0 - _EYE_U**2
    x = side * (0.5 + half * _EYE_U)
    upper = slant - rise * arch**0.8 + (sorrow - 0.03 * e.brow_lower) * _EYE_U * arch
    lower = slant + drop * arch**0.9
    outline = np.concatenate((np.column_stack((x, upper)), np.column_stack((x, lower))[::-1]))
    canvas.fill(outline, WHITE)
    iris_x, iris_y = side * 0.5 + 0.07 * e.gaze_x, -0.03 + 0.04 * e.gaze_y
    for shift, radius, colour in (
        (0.0, 0.125 * person.eye_size, person.iris),
        (0.0, 0.06 * person.eye_size, BLACK),
        (0.035, 0.02, WHITE),  # the lamp's reflection
    ):
        disc = ellipse(iris_x + shift, iris_y - shift, radius, radius)
        u = np.clip((disc[:, 0] * side - 0.5) / half, -1.0, 1.0)
        disc[:, 1] = np.clip(disc[:, 1], np.interp(u, _EYE_U, upper), np.interp(u, _EYE_U, lower))
        canvas.fill(disc, colour)
    canvas.stroke(np.column_stack((x, upper)), shade(person.skin, 0.82), 1.6 * canvas.line_width)
    canvas.stroke(np.column_stack((x, lower)), shade(person.skin, 0.5), 0.8 * canvas.line_width)
    crease = np.column_stack((x, upper - 0.06 - 0.03 * arch))
    canvas.stroke(crease[1:-1], shade(person.skin, 0.35), 0.8 * canvas.line_width)


def draw_brow(canvas: Canvas, person: Person, expression: Expression, side: int) -> None:
    """The left (-1) or the right (1) brow of the image."""
    e = expression
    gain = 1.0 + 0.4 * e.skew * side
    up_inner, up_outer, down = e.inner_brow_raise * gain, e.outer_brow_raise * gain, e.brow_lower
    wrinkle, sorrow = e.nose_wrinkle, up_inner * (1.0 - e.outer_brow_raise)
    base, arch = -0.35 * person.brow_height, 0.07 * person.brow_arch
    inner = 0.01 - 0.17 * up_inner + 0.19 * down + 0.06 * wrinkle
    middle = -0.6 * arch - 0.07 * up_inner - 0.13 * up_outer + 0.11 * down + 0.05 * wrinkle
    third = -arch + 0.02 * up_inner - 0.16 * up_outer + 0.05 * down
    outer = 0.05 + 0.05 * sorrow - 0.12 * up_outer + 0.02 * down
    heights = ((0.2 - 0.07 * down, inner), (0.5, middle), (0.68, third), (0.86, outer))
    line = curve([(side * x, base + y) for x, y in heights])
    thickness = 0.055 * person.brow_thickness * np.linspace(1.0, 0.3, len(line))
    above, below = line.copy(), line.copy()
    above[:, 1] -= thickness
    below[:, 1] += thickness
    canvas.fill(np.concatenate((above, below[::-1])), shade(person.brow, 0.25))
