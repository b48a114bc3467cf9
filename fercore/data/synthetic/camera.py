"""Taking one picture: the face is drawn, then focus, light and grain make it a photograph."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fercore.data.synthetic.canvas import RGB, View
from fercore.data.synthetic.drawing import draw_face
from fercore.data.synthetic.face import Expression
from fercore.data.synthetic.layouts import Shot
from fercore.data.synthetic.people import act, cast, manner
from fercore.data.synthetic.styles import STYLES, Style


def photograph(format: str, shot: Shot, seed: int) -> Image.Image:
    """The shot as an image of mode L, or RGB where the set is in colour.

    It depends on nothing but the three arguments: every random draw comes from a generator that is
    keyed by the seed and by what the draw belongs to (person, performance, frame).
    """
    style = STYLES[format]
    person_rng = _generator(seed, format, shot.subject)
    person = cast(person_rng, style.casting, shot.woman)
    person_manner = manner(person_rng)
    rng = _generator(seed, format, shot.subject, shot.expression, shot.take)
    expression = act(rng, shot.expression, style.acting, person_manner, shot.phase)
    view = _view(rng, style)
    look = replace(
        style.look,
        background=_between(rng, *style.backgrounds),
        clutter=_clutter(rng, style, view) if style.clutter else (),
    )
    frame_rng = _generator(seed, format, shot.subject, shot.expression, shot.take, shot.frame)
    view, expression = _tremble(frame_rng, view, expression)
    image = draw_face(person, expression, view, look)
    if not style.colour:
        image = image.convert("L")
    if rng.random() < style.occlusion:
        _occlude(rng, image)
    return _expose(rng, frame_rng, style, image)


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _view(rng: np.random.Generator, style: Style) -> View:
    unit = style.unit * style.width * float(np.exp(rng.normal(0.0, style.size)))
    x, y = rng.normal(0.0, style.place * unit, 2)
    roll, yaw, pitch = rng.normal(0.0, 1.0, 3) * style.turn
    return View(
        style.width,
        style.height,
        x=style.width / 2 + float(x),
        y=style.height * style.eye_line + float(y),
        unit=unit,
        roll=float(roll),
        yaw=float(np.clip(yaw, -0.5, 0.5)),
        pitch=float(np.clip(pitch, -0.3, 0.3)),
    )


def _tremble(
    rng: np.random.Generator, view: View, expression: Expression
) -> tuple[View, Expression]:
    """What differs between the frames of one performance: nobody holds quite still."""
    dx, dy = rng.normal(0.0, 0.012 * view.unit, 2)
    roll, yaw = rng.normal(0.0, 0.008, 2)
    moved = replace(view, x=view.x + dx, y=view.y + dy, roll=view.roll + roll, yaw=view.yaw + yaw)
    gaze = float(np.clip(expression.gaze_x + rng.normal(0.0, 0.1), -1.0, 1.0))
    return moved, replace(expression, gaze_x=gaze)


def _between(rng: np.random.Generator, low: RGB, high: RGB) -> RGB:
    share = float(rng.random())
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _clutter(
    rng: np.random.Generator, style: Style, view: View
) -> tuple[tuple[float, float, float, RGB], ...]:
    reach = style.width / view.unit
    return tuple(
        (
            float(rng.uniform(-reach, reach)),
            float(rng.uniform(-reach, reach)),
            float(rng.uniform(0.3, 1.5)),
            _between(rng, *style.backgrounds),
        )
        for _ in range(int(rng.integers(style.clutter + 1)))
    )


def _occlude(rng: np.random.Generator, image: Image.Image) -> None:
    """Covers a part of a gray image, by a thing that reaches in or by a line of writing."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    tone = int(rng.integers(20, 235))
    if rng.random() < 0.3:
        y = height * float(rng.uniform(0.82, 0.93))
        for x in range(2, width - 3, 4):
            if rng.random() < 0.8:
                pen.rectangle((x, y, x + int(rng.integers(1, 3)), y + height * 0.06), fill=tone)
        return
    angle, radius = rng.uniform(0.0, np.pi), float(rng.uniform(0.15, 0.28)) * width
    # The angle runs along the lower half of the border, where hands and microphones come from.
    x, y = width * (0.5 + 0.5 * np.cos(angle)), height * (0.55 + 0.4 * np.sin(angle))
    pen.ellipse((x - radius, y - 0.8 * radius, x + radius, y + 0.8 * radius), fill=tone)


def _expose(
    rng: np.random.Generator, frame_rng: np.random.Generator, style: Style, image: Image.Image
) -> Image.Image:
    """Focus, light, contrast and sensor noise."""
    radius = float(rng.uniform(*style.blur))
    if radius > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    pixels = np.asarray(image, dtype=np.float32)
    contrast = max(0.3, rng.normal(*style.contrast))
    brightness = rng.normal(*style.brightness)
    slope_x, slope_y = rng.normal(0.0, style.light, 2)
    across = np.linspace(-1.0, 1.0, image.width, dtype=np.float32)
    down = np.linspace(-1.0, 1.0, image.height, dtype=np.float32)
    light = np.clip(
        1.0 + np.float32(slope_x) * across + np.float32(slope_y) * down[:, None], 0.3, 1.7
    )
    grain = frame_rng.standard_normal(light.shape, dtype=np.float32)
    grain *= np.float32(rng.uniform(*style.noise))
    if style.colour:
        light, grain = light[..., None], grain[..., None]
    pixels = (
        (pixels * light - 128.0) * np.float32(contrast) + np.float32(128.0 + brightness) + grain
    )
    return Image.fromarray(np.clip(pixels + 0.5, 0.0, 255.0).astype(np.uint8))
