"""Who is drawn in synthetic faces, and how they act: random people and random expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from fercore.data.classes import CONTEMPT
from fercore.data.synthetic.canvas import RGB, blend
from fercore.data.synthetic.face import Expression, HairStyle, Person

# How a class is shown at full strength. Where there are several ways, an image shows one of them.
# Neighbours overlap on purpose: fear and surprise, sad and neutral, angry and disgust.
_WAYS: dict[str, tuple[dict[str, float], ...]] = {
    "angry": (
        {"brow_lower": 0.9, "lid_tighten": 0.55, "lid_raise": 0.25, "lip_press": 0.75},
        {"brow_lower": 0.9, "lid_tighten": 0.6, "upper_lip_raise": 0.35, "lip_stretch": 0.35}
        | {"jaw_drop": 0.3, "nose_wrinkle": 0.25},
    ),
    "disgust": (
        {"nose_wrinkle": 0.9, "upper_lip_raise": 0.75, "brow_lower": 0.5, "lid_tighten": 0.5}
        | {"cheek_raise": 0.3, "corner_depress": 0.3},
        {"nose_wrinkle": 0.7, "brow_lower": 0.55, "lid_tighten": 0.45, "corner_depress": 0.55}
        | {"chin_raise": 0.5, "upper_lip_raise": 0.25},
    ),
    "fear": (
        {"inner_brow_raise": 0.8, "outer_brow_raise": 0.35, "brow_lower": 0.35, "lid_raise": 0.8}
        | {"lip_stretch": 0.8, "jaw_drop": 0.25},
        {"inner_brow_raise": 0.75, "outer_brow_raise": 0.5, "brow_lower": 0.25, "lid_raise": 0.8}
        | {"lip_stretch": 0.5, "jaw_drop": 0.5},
    ),
    "happy": (
        {"cheek_raise": 0.75, "corner_pull": 0.9, "jaw_drop": 0.35, "upper_lip_raise": 0.2},
        {"cheek_raise": 0.5, "corner_pull": 0.8},
    ),
    "sad": (
        {"inner_brow_raise": 0.75, "brow_lower": 0.3, "corner_depress": 0.75, "chin_raise": 0.45}
        | {"lid_droop": 0.35, "gaze_y": 0.4},
        {"inner_brow_raise": 0.45, "corner_depress": 0.5, "lid_droop": 0.5, "gaze_y": 0.6},
    ),
    "surprise": (
        {"inner_brow_raise": 0.9, "outer_brow_raise": 0.9, "lid_raise": 0.8, "jaw_drop": 0.85},
        {"inner_brow_raise": 0.9, "outer_brow_raise": 0.8, "lid_raise": 0.65, "jaw_drop": 0.4},
    ),
    "neutral": ({},),
    CONTEMPT: ({"corner_pull": 0.45, "skew": 0.85, "lid_tighten": 0.25, "chin_raise": 0.2},),
}
_ACTIONS = tuple(field.name for field in fields(Expression))
_UNSIGNED = np.array([name not in ("skew", "gaze_x", "gaze_y") for name in _ACTIONS])

_SKIN: tuple[RGB, ...] = (
    *((246, 214, 194), (232, 190, 160), (222, 178, 140)),
    *((196, 148, 110), (150, 104, 76), (104, 70, 52)),
)
_HAIR: tuple[RGB, ...] = ((22, 18, 16), (54, 38, 28), (96, 66, 42), (150, 92, 52), (196, 160, 104))
_GREY: RGB = (170, 168, 166)
_IRIS: tuple[RGB, ...] = ((52, 36, 26), (84, 60, 36), (84, 110, 96), (96, 130, 164))


@dataclass(frozen=True)
class Casting:
    """Who may be drawn."""

    women: float = 0.5  # share
    skin: tuple[float, float] = (0.0, 5.0)  # range on the scale from lightest to darkest
    hair: tuple[float, float] = (0.0, 4.0)  # range from black to blond
    glasses: float = 0.15  # share of people who wear them
    beards: float = 0.4  # share of men
    old: float = 1.0  # age of the oldest: 0 young .. 1 old
    cap: RGB | None = None  # colour of a cap that hides everybody's hair


def cast(rng: np.random.Generator, casting: Casting, woman: bool | None = None) -> Person:
    """A random person; ``woman`` settles what chance would."""
    female = bool(rng.random() < casting.women) if woman is None else woman

    def about(spread: float) -> float:
        return float(np.clip(rng.normal(1.0, spread), 1.0 - 2.5 * spread, 1.0 + 2.5 * spread))

    age = float(rng.random() ** 1.5) * casting.old
    hair = _on_scale(_HAIR, rng.uniform(*casting.hair))
    if age > 0.6:
        hair = blend(hair, _GREY, (age - 0.6) * 2.0)
    style = _hair_style(rng, female, age)
    bearded = not female and rng.random() < casting.beards
    return Person(
        face_width=about(0.06),
        face_length=about(0.04),
        jaw_width=about(0.07) - (0.04 if female else 0.0),
        eye_size=about(0.08) + (0.05 if female else 0.0),
        eye_tilt=float(rng.normal(0.2, 0.5)),
        lid_height=about(0.13),
        brow_thickness=about(0.22) - (0.15 if female else -0.15),
        brow_height=about(0.1),
        brow_arch=about(0.4),
        nose_length=about(0.07),
        nose_width=about(0.13),
        mouth_width=about(0.08),
        lip_fullness=about(0.25) + (0.12 if female else -0.08),
        wrinkles=age,
        skin=_on_scale(_SKIN, rng.uniform(*casting.skin)),
        hair=casting.cap or hair,
        brow=hair,
        iris=_on_scale(_IRIS, rng.uniform(0.0, 3.0) if casting.hair[1] > 1.0 else 0.3),
        hair_style="cap" if casting.cap else style,
        hairline=about(0.08) + 0.08 * age,
        beard=float(rng.uniform(0.25, 0.85)) if bearded else 0.0,
        moustache=float(rng.uniform(0.2, 0.9)) if bearded else 0.0,
        glasses=bool(rng.random() < casting.glasses),
        freckles=int(rng.integers(15, 40)) if rng.random() < 0.12 else 0,
    )


def _hair_style(rng: np.random.Generator, female: bool, age: float) -> HairStyle:
    styles: tuple[HairStyle, ...] = ("fringe", "parted", "long", "bun", "curly", "short", "bald")
    shares = np.array([5, 5, 6, 3, 1, 1, 0] if female else [2, 6, 1, 0, 2, 9, 4 * age])
    return styles[int(rng.choice(len(styles), p=shares / shares.sum()))]


def _on_scale(colours: tuple[RGB, ...], position: float) -> RGB:
    below = min(int(position), len(colours) - 2)
    return blend(colours[below], colours[below + 1], position - below)


@dataclass(frozen=True)
class Manner:
    """How one person moves: a strength per action, and the face they have at rest."""

    strength: np.ndarray  # float64 [actions], around 1
    rest: np.ndarray  # float64 [actions], around 0


def manner(rng: np.random.Generator) -> Manner:
    """A random person's manner."""
    rest = rng.normal(0.0, 0.05, len(_ACTIONS))
    for action in ("corner_pull", "corner_depress", "brow_lower", "lid_droop", "inner_brow_raise"):
        # Some faces look a little glad, sad or stern without any feeling.
        rest[_ACTIONS.index(action)] += max(0.0, rng.normal(0.0, 0.12))
    return Manner(strength=np.exp(rng.normal(0.0, 0.18, len(_ACTIONS))), rest=rest)


@dataclass(frozen=True)
class Acting:
    """How a dataset's expressions are played."""

    intensity: tuple[float, float] = (0.8, 1.0)
    spread: float = 0.15  # relative, of every action from image to image
    stray: float = 0.05  # mean strength of actions that do not belong to the class
    emphasis: Mapping[str, float] | None = None  # actions that this set's actors over- or underplay


def act(
    rng: np.random.Generator, expression: str, acting: Acting, who: Manner, phase: float = 1.0
) -> Expression:
    """One performance of a class (or of contempt) at a ``phase`` from 0, neutral, to 1, apex."""
    ways = _WAYS[expression]
    way = ways[int(rng.integers(len(ways)))]
    strength = rng.uniform(*acting.intensity) * phase
    varied = 1.0 + acting.spread * rng.normal(size=len(_ACTIONS))
    stray = acting.stray * rng.normal(size=len(_ACTIONS))
    means = np.array([way.get(name, 0.0) for name in _ACTIONS])
    if acting.emphasis is not None:
        means *= [acting.emphasis.get(name, 1.0) for name in _ACTIONS]
    values = who.rest + stray + strength * means * varied * who.strength
    values = np.clip(values, np.where(_UNSIGNED, 0.0, -1.0), 1.0)
    return Expression(**dict(zip(_ACTIONS, values.tolist(), strict=True)))
