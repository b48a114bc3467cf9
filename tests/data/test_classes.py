"""fercore.data.classes: words for classes."""

from __future__ import annotations

import pytest

from fercore.data.classes import class_name, label_of, left_out_notes
from fercore.data.dataset import BASIC, CLASSES


@pytest.mark.parametrize(
    ("word", "label"),
    [
        *[("angry", 0), ("Anger", 0), ("disgusted", 1), ("disguest", 1), ("FEARFUL", 2)],
        *[("joy", 3), ("happiness", 3), ("3_Happy", 3), ("sadness", 4), ("surprised", 5)],
        *[("normal", 6), ("neutral ", 6), ("contemptuous", 7), ("misc", None), ("3", None)],
    ],
)
def test_labels(word: str, label: int | None) -> None:
    assert label_of(word, len(CLASSES)) == label
    assert label_of(word, BASIC) == (None if label == 7 else label)


def test_contempt_is_known_even_where_it_has_no_label() -> None:
    assert class_name("Contempt") == "contempt"
    assert class_name("misc") is None
    assert CLASSES[BASIC:] == ("contempt",)


def test_notes_count_what_was_left_out() -> None:
    assert left_out_notes({"misc": 2}, len(CLASSES)) == [
        "2 images of 'misc' left out: not one of the 8 classes."
    ]
    assert left_out_notes({"misc": 1, "contempt": 1200}, BASIC) == [
        "1,200 images of 'contempt' left out: not one of the 7 classes.",
        "1 image of 'misc' left out: not one of the 7 classes.",
    ]
