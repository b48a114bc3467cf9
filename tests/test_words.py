"""How numbers and names are said."""

import pytest

from fercore import words
from fercore.metrics import Interval
from fercore.words import MINUS


def test_changes_have_signs_but_nought_has_none():
    said = [words.signed(number, 1) for number in (2.0, -2.04, 0.0, -0.01)]
    assert said == ["+2.0", f"{MINUS}2.0", "0.0", "0.0"]
    assert words.signed(-40) == f"{MINUS}40"


def test_equal_changes_are_said_alike_however_they_were_computed():
    below, above = 99 / 400 - 92 / 400, 7 / 400
    assert 100 * below < 1.75 < 100 * above
    assert words.points(-below) == words.points(-above) == f"{MINUS}1.8"
    assert words.points(-1e-17) == "0.0"


def test_halves_are_rounded_alike_everywhere():
    """Python's own formats round 1.25, which floating point has exactly, to even."""
    assert [words.fixed(x, 1) for x in (1.25, 1.35, -1.25, 0.25)] == ["1.3", "1.4", "-1.3", "0.3"]
    assert [words.percent(x) for x in (0.0125, 0.0135)] == ["1.3 %", "1.4 %"]
    assert [words.points(x) for x in (0.0125, -0.0125)] == ["+1.3", f"{MINUS}1.3"]
    assert [words.fixed(x) for x in (0.5, 1.5, 2.5)] == ["1", "2", "3"]


def test_numbers_have_as_many_digits_as_wanted():
    assert words.fixed(100.0, 2) == "100.00"
    assert words.fixed(-0.0) == "0"
    assert words.fixed(-0.04, 1) == "0.0"
    assert words.fixed(1e-30, 1) == "0.0"
    assert words.fixed(float("nan"), 1) == "nan"
    assert words.fixed(float("inf"), 1) == "inf"
    assert words.percent(0.6128, 2) == "61.28 %"


def test_one_of_a_kind_is_no_plural():
    assert words.counted(1, "image") == "1 image"
    assert words.counted(2000, "image") == "2,000 images"
    said = [words.counted(n, "person", "people") for n in (0, 1, 3)]
    assert said == ["0 people", "1 person", "3 people"]


def test_shares_and_their_changes():
    assert words.percent(0.6128) == "61.3 %"
    assert words.points(-0.0151) == f"{MINUS}1.5"
    assert words.points_range(Interval(-0.0151, 0.048)) == f"{MINUS}1.5 to +4.8"
    assert words.points_range(None) == ""


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists(names, text):
    assert words.listed(names) == text


def test_paragraphs_are_folded_with_their_indents_and_percent_stays_with_its_number():
    lines = words.folded("of 42.9 % and more", 9, "* ", "  ")
    assert lines == ["* of", "  42.9 %", "  and", "  more"]
