"""Colours: contrast of text and marks in both schemes, computed as WCAG 2.2 defines it."""

import itertools
import re
from pathlib import Path

import pytest

from fercore import page
from fercore.page import svg

STYLE = (Path(page.__file__).parent / "templates" / "style.css").read_text()


def variables(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT = variables(STYLE.partition("@media")[0])
DARK = variables(STYLE.partition("prefers-color-scheme: dark")[2].partition("/*")[0])
SCHEMES = pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])


def channels(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def mixed(colour, share, page):
    return [
        share * a + (1 - share) * b for a, b in zip(channels(colour), channels(page), strict=True)
    ]


def test_the_formula_is_the_standards():
    assert contrast(channels("#000000"), channels("#ffffff")) == pytest.approx(21)
    assert contrast(channels("#777777"), channels("#ffffff")) == pytest.approx(4.48, abs=0.005)


def test_both_schemes_name_the_same_colours():
    assert LIGHT.keys() == DARK.keys()
    assert {f"s{number}" for number in range(svg.SERIES)} <= LIGHT.keys()
    used = set(re.findall(r"var\(--([\w-]+)", STYLE)) - {"share", "series"}
    assert used <= LIGHT.keys()


@SCHEMES
def test_text_can_be_read(colours):
    """4.5 for text (WCAG AA); labels of points have the colour of their strategy."""
    text = ["ink", "muted", "link", *(f"s{number}" for number in range(svg.SERIES))]
    for name, ground in itertools.product(text, ("page", "better")):
        assert contrast(channels(colours[name]), channels(colours[ground])) >= 4.5, (name, ground)
    for name, ground in (("ink", "raised"), ("ink", "warn"), ("muted", "page")):
        assert contrast(channels(colours[name]), channels(colours[ground])) >= 4.5


@SCHEMES
@pytest.mark.parametrize("shade", ["heat", "loss", "win"])
def test_text_can_be_read_on_every_shade(colours, shade):
    for share in (0, 0.25, 0.5, 0.75, 1):
        ground = mixed(colours[shade], share, colours["page"])
        assert contrast(channels(colours["ink"]), ground) >= 4.5, share


@SCHEMES
def test_marks_can_be_seen(colours):
    """3 for what carries meaning without being text; bars are drawn at 0.75."""
    for name in ("source", "target", "warn-rule", *(f"s{n}" for n in range(svg.SERIES))):
        assert contrast(channels(colours[name]), channels(colours["page"])) >= 3
    assert "opacity: .75" in STYLE
    for number in range(svg.SERIES):
        bar = mixed(colours[f"s{number}"], 0.75, colours["page"])
        assert contrast(bar, channels(colours["page"])) >= 3


def test_what_is_folded_is_printed():
    """In Chromium's PDF the rule shows what is folded; exceptions hide it again."""
    paper = STYLE.partition("@media print")[2]
    assert "details::details-content { content-visibility: visible; block-size: auto; }" in paper
    assert "details:not" not in paper
