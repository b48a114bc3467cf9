"""Which images the sets have, against the names and counts of the real ones."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from fercore.data.dataset import BASIC, CLASSES
from fercore.data.synthetic.layouts import FER2013_ROWS, MUG_FRAMES, MUG_PEOPLE, plan
from fercore.data.synthetic.styles import STYLES


@pytest.mark.parametrize("format", sorted(STYLES))
def test_files_are_distinct_and_labels_known(format: str) -> None:
    shots = plan(format)
    if format != "fer2013":
        assert len({shot.file for shot in shots}) == len(shots)
    performances = {(s.subject, s.expression, s.take, s.frame) for s in shots}
    assert len(performances) == len(shots), "two images would be drawn alike"
    assert {shot.label for shot in shots} <= set(CLASSES)


def test_fer2013_is_imbalanced_and_a_little_mislabelled() -> None:
    shots = plan("fer2013")
    assert Counter(shot.file for shot in shots) == FER2013_ROWS
    for usage, rows in FER2013_ROWS.items():
        counts = Counter(shot.label for shot in shots if shot.file == usage)
        assert set(counts) == set(CLASSES[:BASIC])
        assert max(counts, key=counts.__getitem__) == "happy"
        assert min(counts, key=counts.__getitem__) == "disgust"
        assert counts["happy"] / rows == pytest.approx(7215 / 28709, abs=0.02)
    wrong = sum(shot.label != shot.expression for shot in shots) / len(shots)
    assert 0.02 < wrong < 0.06
    assert len({shot.subject for shot in shots}) == len(shots)
    # In random order: the first rows already show most classes.
    assert len({shot.label for shot in shots[:40]}) >= 6


def test_jaffe_has_the_real_names_and_counts() -> None:
    pattern = re.compile(r"([A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)(\d)\.(\d+)\.tiff")
    shots = plan("jaffe")
    names = [pattern.fullmatch(shot.file) for shot in shots]
    assert all(names)
    assert len(shots) == 213
    assert Counter(name[2] for name in names if name) == {
        "AN": 30,
        "DI": 29,
        "FE": 32,
        "HA": 31,
        "NE": 30,
        "SA": 31,
        "SU": 30,
    }
    assert Counter(name[1] for name in names if name) == {
        subject: count
        for subjects, count in (("KA", 23), ("YM KL KM", 22), ("NA MK TM UY", 21), ("KR NM", 20))
        for subject in subjects.split()
    }
    numbers = {int(name[4]) for name in names if name}
    assert numbers == set(range(1, 220)) - {8, 12, 21, 76, 108, 183}
    assert "KA.AN1.39.tiff" in {shot.file for shot in shots}


def test_tfeid_has_40_people_two_intensities_and_510_images_of_the_classes() -> None:
    words = "anger|contempt|disguest|fear|happiness|neutral|sadness|surprise"
    codes = {
        "ng": "neutral",
        "ag": "angry",
        "dg": "disgust",
        "fg": "fear",
        "hg": "happy",
        "sg": "sad",
        "pg": "surprise",
    }
    shots = plan("tfeid")
    for shot in shots:
        match = re.fullmatch(rf"df[hs]_({words})_x/([^/]+)\.jpg", shot.file)
        assert match, shot.file
        tokens = match[2].split("_")
        assert re.fullmatch(r"[fm]\d\d", tokens[0])
        assert tokens[0] == shot.subject
        assert codes.get(tokens[-1][:2], "contempt") == shot.label
        assert shot.woman == (tokens[0][0] == "f")
    usable = [shot for shot in shots if shot.label != "contempt"]
    assert len(usable) == 510
    assert len({shot.subject for shot in usable}) == 40
    assert {shot.phase < 1 for shot in usable if shot.file.startswith("dfs")} == {True}
    assert {shot.phase for shot in usable if shot.file.startswith("dfh")} == {1.0}


def test_mug_takes_go_from_neutral_to_the_apex_and_back() -> None:
    pattern = re.compile(
        r"subjects3/(?:001/)?(\d{3})/"
        r"(anger|disgust|fear|happiness|neutral|sadness|surprise)/take\d{3}/img_(\d{4})\.jpg"
    )
    shots = plan("mug")
    assert len(shots) == MUG_PEOPLE * 7 * MUG_FRAMES
    takes: dict[str, list[float]] = {}
    for shot in shots:
        match = pattern.fullmatch(shot.file)
        assert match, shot.file
        assert match[1] == shot.subject
        takes.setdefault(shot.file.rsplit("/", 1)[0], []).append(shot.phase)
    assert len(takes) == MUG_PEOPLE * 7
    for phases in takes.values():
        assert (phases[0], phases[-1]) == pytest.approx((0.0, 0.0), abs=1e-9)
        assert max(phases) == 1.0
        assert min(phases[len(phases) // 4 : -len(phases) // 4]) > 0.6  # what the loader takes


def test_ckplus_has_ck48s_names_and_counts_and_no_neutral() -> None:
    shots = plan("ckplus")
    pattern = re.compile(r"CK\+48/([a-z]+)/((S\d{3})_\d{3})_\d{8}\.png")
    names = [pattern.fullmatch(shot.file) for shot in shots]
    assert all(names)
    assert Counter(name[1] for name in names if name) == {
        "anger": 135,
        "contempt": 54,
        "disgust": 177,
        "fear": 75,
        "happy": 207,
        "sadness": 84,
        "surprise": 249,
    }
    assert len({name[3] for name in names if name}) == 118
    assert Counter(Counter(name[2] for name in names if name).values()) == {3: 327}
    assert all(name[3] == shot.subject for name, shot in zip(names, shots, strict=True) if name)


@pytest.mark.parametrize("format", sorted(STYLES))
@pytest.mark.parametrize("count", [1, 40, 140])
def test_a_smaller_set_keeps_every_class_and_whole_sequences(format: str, count: int) -> None:
    whole, part = plan(format), plan(format, count)
    assert {shot.label for shot in part} == {shot.label for shot in whole}
    if format == "fer2013":
        assert abs(len(part) - count) <= 3 * BASIC
        return
    assert set(part) <= set(whole)
    assert abs(len(part) - count) <= 0.15 * count + 8 * MUG_FRAMES
    if count == 140:
        assert len({shot.subject for shot in part}) > 2

    def frames(shots: list, take: tuple[str, str, int]) -> int:
        return sum((s.subject, s.label, s.take) == take for s in shots)

    for take in {(s.subject, s.label, s.take) for s in part}:
        assert frames(part, take) == frames(whole, take)


def test_only_fer2013_grows_beyond_its_natural_size() -> None:
    assert abs(len(plan("fer2013", 6400)) - 6400) <= 2
    assert len(plan("jaffe", 1000)) == 213
