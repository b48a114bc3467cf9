"""The many words that datasets use for the classes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fercore.data.dataset import CLASSES

CONTEMPT = "contempt"
"""The last of CLASSES, whose images are left out unless they are asked for."""

_WORDS = {
    "angry": ("angry", "anger"),
    "disgust": ("disgust", "disgusted", "disguest"),  # TFEID's folders spell it so
    "fear": ("fear", "fearful", "afraid", "scared"),
    "happy": ("happy", "happiness", "joy"),
    "sad": ("sad", "sadness"),
    "surprise": ("surprise", "surprised", "suprise"),
    "neutral": ("neutral", "neutrality", "normal"),
    CONTEMPT: ("contempt", "contemptuous"),
}
_CLASS_OF_WORD = {word: name for name, words in _WORDS.items() for word in words}


def class_name(word: str) -> str | None:
    """The class a word stands for: one of CLASSES, or None when it is none.

    Only letters count, so ``"0_Angry"`` is angry.
    """
    return _CLASS_OF_WORD.get(re.sub("[^a-z]", "", word.lower()))


def label_of(word: str, classes: int) -> int | None:
    """The label that a word stands for; None for what is not of the first so many CLASSES."""
    name = class_name(word)
    return CLASSES.index(name) if name in CLASSES[:classes] else None


def left_out_notes(left_out: Mapping[str, int], classes: int) -> list[str]:
    """A sentence for each class word whose images were not taken; ``left_out`` counts them."""
    return [
        f"{count:,} image{'s' * (count != 1)} of '{word}' left out: "
        f"not one of the {classes} classes."
        for word, count in sorted(left_out.items())
    ]
