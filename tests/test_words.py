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
