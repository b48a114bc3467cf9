"""Which images each synthetic dataset has, and the names the real one would give their files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fercore.data.classes import CONTEMPT


@dataclass(frozen=True)
class Shot:
    """One image to be drawn; those of one subject, expression and take are one performance."""

    file: str  # path inside the dataset, or the Usage of a csv row
    subject: str
    label: str  # one of CLASSES
    expression: str  # what is shown, which a wrong label does not tell
    take: int = 1
    frame: int = 0
    phase: float = 1.0  # 0 neutral .. 1 apex
    woman: bool | None = None  # None: chance decides, once for each subject


FER2013_CSV = "fer2013.csv"

FER2013_ROWS = {"Training": 2400, "PublicTest": 400, "PrivateTest": 400}
"""Rows of a whole synthetic fer2013.csv, by Usage."""

MUG_PEOPLE, MUG_FRAMES = 26, 6
"""People in a whole synthetic MUG, each with one take of MUG_FRAMES frames a class."""


def plan(format: str, count: int | None = None) -> list[Shot]:
    """The images of a set, in the order in which they are written: all, or about ``count``."""
    if format == "fer2013":
        return _fer2013(sum(FER2013_ROWS.values()) if count is None else count)
    shots = {"jaffe": _jaffe, "tfeid": _tfeid, "mug": _mug, "ckplus": _ckplus}[format]()
    return shots if count is None else _thin(shots, count)


def _thin(shots: Sequence[Shot], count: int) -> list[Shot]:
    """Of every class the same share of its takes, from people far apart in the list."""
    share = min(1.0, count / len(shots))
    kept: set[tuple[str, str, int]] = set()
    for label in dict.fromkeys(shot.label for shot in shots):
        takes = list(dict.fromkeys(_take(shot) for shot in shots if shot.label == label))
        number = max(1, round(share * len(takes)))
        kept.update(takes[int((i + 0.5) * len(takes) / number)] for i in range(number))
    return [shot for shot in shots if _take(shot) in kept]


def _take(shot: Shot) -> tuple[str, str, int]:
    return shot.subject, shot.label, shot.take


# The real fer2013.csv's training rows: its classes are far from balanced, and so are these. Disgust
# alone is raised (from 436), because its share of so few rows could not be learnt at all.
_FER2013_SHARES = {
    "angry": 3995,
    "disgust": 1500,
    "fear": 4097,
    "happy": 7215,
    "sad": 4830,
    "surprise": 3171,
    "neutral": 4965,
}
_MISTAKEN = {  # what an image that is labelled wrongly really shows
    "angry": "disgust",
    "disgust": "angry",
    "fear": "surprise",
    "happy": "neutral",
    "sad": "neutral",
    "surprise": "fear",
    "neutral": "sad",
}
_MISTAKE_EVERY = 25


def _fer2013(count: int) -> list[Shot]:
    """Every row another person; one label in 25 wrong, as crowds label; in random order."""
    shots: list[Shot] = []
    rng = np.random.default_rng(0)
    bounds = np.cumsum(list(_FER2013_SHARES.values())) / sum(_FER2013_SHARES.values())
    for usage, rows in FER2013_ROWS.items():
        ends = np.round(bounds * rows * count / sum(FER2013_ROWS.values())).astype(int)
        numbers = np.maximum(np.diff(ends, prepend=0), 1)
        labels = rng.permutation(np.repeat(list(_FER2013_SHARES), numbers)).tolist()
        for label in labels:
            row = len(shots)
            shown = _MISTAKEN[label] if row % _MISTAKE_EVERY == _MISTAKE_EVERY - 1 else label
            shots.append(Shot(usage, str(row), label, shown))
    return shots


# Image numbers run over the subjects in this order and, for each, over the classes in this one.
# Six numbers were never published, which gives 213 images of the real set's names.
_JAFFE_SUBJECTS = ("KM", "KA", "YM", "KR", "NM", "MK", "UY", "KL", "TM", "NA")
_JAFFE_CODES = {
    "NE": "neutral",
    "HA": "happy",
    "SA": "sad",
    "SU": "surprise",
    "AN": "angry",
    "DI": "disgust",
    "FE": "fear",
}
_JAFFE_TAKES = {  # three takes of everything, and more of these
    ("KM", "HA"): 5,
    ("KM", "SA"): 5,
    ("KA", "HA"): 4,
    ("KA", "FE"): 4,
    ("YM", "FE"): 4,
    ("KL", "DI"): 4,
    ("TM", "HA"): 4,
}
_JAFFE_MISSING = (8, 12, 21, 76, 108, 183)


def _jaffe() -> list[Shot]:
    shots, number = [], 0
    for subject in _JAFFE_SUBJECTS:
        for code, label in _JAFFE_CODES.items():
            for take in range(1, 1 + _JAFFE_TAKES.get((subject, code), 3)):
                number += 1
                if number not in _JAFFE_MISSING:
                    file = f"{subject}.{code}{take}.{number}.tiff"
                    shots.append(Shot(file, subject, label, label, take))
    return shots


_TFEID_FOLDERS = {  # the folder's word, spelt as in the real set, and the file's code
    "angry": ("anger", "ag"),
    CONTEMPT: ("contempt", "cg"),
    "disgust": ("disguest", "dg"),
    "fear": ("fear", "fg"),
    "happy": ("happiness", "hg"),
    "neutral": ("neutral", "ng"),
    "sad": ("sadness", "sg"),
    "surprise": ("surprise", "pg"),
}
_TFEID_SLIGHT = 0.55


def _tfeid() -> list[Shot]:
    """40 people at high and at slight intensity; ten are missing, so that 510 show the classes."""
    shots = []
    for strength, phase, take in (("dfh", 1.0, 1), ("dfs", _TFEID_SLIGHT, 2)):
        for label, (word, code) in _TFEID_FOLDERS.items():
            for person in range(40):
                missing = label == "neutral" or (label == "sad" and person % 4 == 3)
                if strength == "dfs" and missing:
                    continue
                sex = "f" if person < 20 else "m"
                subject = f"{sex}{person % 20 + 1:02d}"
                file = f"{strength}_{word}_x/{subject}_{strength}_{code}.jpg"
                shots.append(Shot(file, subject, label, label, take, phase=phase, woman=sex == "f"))
    return shots


_MUG_FOLDERS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprise": "surprise",
}


def _mug() -> list[Shot]:
    """One take a person and class, from neutral to apex and back."""
    shots = []
    for person in range(1, MUG_PEOPLE + 1):
        subject = f"{person:03d}"
        for label, word in _MUG_FOLDERS.items():
            # As in the real set, one subject is nested twice, and some takes do not start at 0.
            folder = f"{subject}/{subject}" if person == 1 else subject
            start = person % 3
            for frame in range(MUG_FRAMES):
                # Reaches the apex after a third of the take, and holds it for another third.
                phase = min(1.0, 1.5 * math.sin(math.pi * frame / (MUG_FRAMES - 1)))
                file = f"subjects3/{folder}/{word}/take000/img_{start + frame:04d}.jpg"
                shots.append(Shot(file, subject, label, label, frame=frame, phase=phase))
    return shots


_CK48_SEQUENCES = {  # folder's word, number of sequences
    "angry": ("anger", 45),
    CONTEMPT: ("contempt", 18),
    "disgust": ("disgust", 59),
    "fear": ("fear", 25),
    "happy": ("happy", 69),
    "sad": ("sadness", 28),
    "surprise": ("surprise", 83),
}
_CK48_PEOPLE = 118


def _ckplus() -> list[Shot]:
    """CK+48: the last three frames of 327 sequences of 118 people, and no neutral."""
    shots, sequences = [], 0
    for k, (label, (word, number)) in enumerate(_CK48_SEQUENCES.items(), start=1):
        for _ in range(number):
            subject = f"S{10 + sequences % _CK48_PEOPLE:03d}"
            apex = 12 + sequences % 17
            sequences += 1
            for frame, phase in ((apex - 2, 0.8), (apex - 1, 0.92), (apex, 1.0)):
                file = f"CK+48/{word}/{subject}_{k:03d}_{frame:08d}.png"
                shots.append(Shot(file, subject, label, label, frame=frame, phase=phase))
    return shots
