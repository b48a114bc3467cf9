from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fercore.data import DatasetSpec, load
from fercore.data.dataset import BASIC, CLASSES, SIZE, Dataset, Skipped
from fercore.data.inspect import ALL, contact_sheet, describe, render_text
from fercore.data.parts import Parts
from fercore.data.splits import split
from fercore.errors import FercoreError

from .trees import real
from .values import make_dataset, make_jaffe


@pytest.fixture
def dataset() -> Dataset:
    """Rows 0, 1 and 4 are one image; 4 has another label and 2 and 3 are twins within a part."""
    labels = [0, 0, 3, 3, 5, 5]
    people = ["m10", "m2", "m2", "m2", "m10", ""]
    made = make_dataset(labels, people, contents=["a", "a", "b", "b", "a", "c"], name="lab")
    images = made.images.copy()
    images[3] = 17
    return replace(made, images=images)


@pytest.fixture
def parts() -> Parts:
    return Parts(np.array([0, 1, 2, 3]), np.array([5]), np.array([4]), ("Drawn by lot.",))


def test_counts(dataset, parts):
    inspection = describe(dataset, parts)

    assert inspection.images == 6
    assert inspection.classes["train"]["angry"] == 2
    assert inspection.classes["train"]["neutral"] == 0
    assert {part: sum(counts.values()) for part, counts in inspection.classes.items()} == {
        "train": 4,
        "validation": 1,
        "test": 1,
        ALL: 6,
    }
    assert list(inspection.subjects[ALL].items()) == [("", 1), ("m2", 3), ("m10", 2)]
    assert inspection.subjects["test"] == {"m10": 1}
    assert inspection.notes == ("Drawn by lot.",)


def test_duplicates(dataset, parts):
    found = describe(dataset, parts).duplicates

    assert (found.distinct, found.groups) == (3, 2)
    assert (found.within_parts, found.across_parts) == (2, 1)
    assert found.conflicting == (("angry/0.png", "angry/1.png", "surprise/4.png"),)
    assert found.leaked == ("surprise/4.png",)


def test_blank_images(dataset, parts):
    assert describe(dataset, parts).blank == ("happy/3.png",)


def test_text_says_everything(dataset, parts):
    faults = [Skipped(f"bad{i}.png", "truncated") for i in range(5)] + [Skipped("x.png", "huge")]
    dataset = replace(dataset, skipped=tuple(faults), synthetic=True)

    text = render_text(describe(dataset, parts))

    for line in (
        "lab (format folder): 6 images, 2 subjects, SYNTHETIC (drawn faces, no people)",
        "class     train  validation  test  all",
        "angry         2           0     0    2",
        "all           4           1     1    6",
        "  train (2 subjects): m2 3, m10 1",
        "  validation (1 subject): (not named) 1",
        "  3 of 6 images are distinct",
        "  2 groups of identical images: 2 within a part, 1 across parts",
        "  1 test image with an exact twin in train, such as surprise/4.png",
        "Blank images: 1: happy/3.png",
        "Skipped files: 6",
        "  5: truncated: bad0.png, bad1.png, bad2.png, ...",
        "  1: huge: x.png",
        "  Drawn by lot.",
    ):
        assert line in text.splitlines()
    files = "angry/0.png = angry/1.png = surprise/4.png"
    assert f"  conflicting labels in 1 group, such as {files}" in text
    assert max(map(len, text.splitlines())) <= 100


def test_text_of_a_clean_set_is_short():
    dataset = make_dataset([i % 7 for i in range(70)])

    text = render_text(describe(dataset, split(dataset)))

    assert "Identical images: none" in text
    assert "Blank images: none" in text
    assert "Skipped files: none" in text
    assert "Subjects" not in text
    assert "published" not in text


def test_complete_jaffe_meets_the_published_counts():
    dataset = make_jaffe()
    counts = (30, 29, 32, 31, 31, 30, 30)
    labels = np.repeat(np.arange(7), counts).astype(np.int32)
    dataset = replace(dataset, labels=np.random.default_rng(0).permutation(labels))

    text = render_text(describe(dataset, split(dataset)))

    assert "Every published count is met." in text
    assert "other than published" not in text


def test_incomplete_jaffe_shows_the_published_counts_in_brackets():
    dataset = make_jaffe()
    dataset = dataset.select([row for row in range(213) if dataset.subjects[row] != "NM"])

    text = render_text(describe(dataset, split(dataset)))

    assert "193 (213)" in text
    assert "(in brackets: published, where it differs)" in text
    assert "  other than published: NM 0 (20)" in text.splitlines()


def test_published_fer2013_counts_add_up():
    dataset = make_dataset([0, 1] * 10, format="fer2013")

    inspection = describe(dataset, split(dataset))

    for part, total in {"train": 28709, "validation": 3589, "test": 3589, ALL: 35887}.items():
        assert sum(inspection.published_classes[part].values()) == total
        assert inspection.published_sizes.get(part, total) == total
    for name in CLASSES[:BASIC]:
        by_part = [inspection.published_classes[part][name] for part in ("train", "validation")]
        by_part.append(inspection.published_classes["test"][name])
        assert sum(by_part) == inspection.published_classes[ALL][name]


def test_ck48_meets_its_published_counts():
    dataset = load(DatasetSpec("ckplus", "ckplus", real("ck48.zip")), cache=False)

    text = render_text(describe(dataset, split(dataset)))

    assert "Every published count is met." in text
    assert "927 images, 106 subjects" in text
    assert "contempt" not in text.split("Notes")[0]


def test_contempt_of_ck48_meets_its_published_count():
    spec = DatasetSpec("ckplus", "ckplus", real("ck48.zip"))
    dataset = load(spec, contempt=True, cache=False)

    text = render_text(describe(dataset, split(dataset)))

    assert "Every published count is met." in text
    assert "981 images, 118 subjects" in text


def test_contempt_has_a_line_where_it_is_asked_for():
    dataset = make_dataset([0, 1, 7, 7, 0, 1] * 5, format="ckplus", classes=8)

    text = render_text(describe(dataset, split(dataset)))

    line = next(line.split() for line in text.splitlines() if line.startswith("contempt"))
    assert line[-2:] == ["10", "(54)"]
    total = next(line.split() for line in text.splitlines() if line.startswith("all"))
    assert total[-2:] == ["30", "(981)"]


# -- contact sheet -----------------------------------------------------------------------------


def sheet(dataset: Dataset, tmp_path, **options) -> np.ndarray:
    path = tmp_path / "sheet.png"
    contact_sheet(dataset, path, **options)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def flat(shades: list[int], labels: list[int], people: list[str] | None = None) -> Dataset:
    """Faces of one shade each, so that they can be found again on the sheet."""
    images = np.array(shades, np.uint8)[:, None, None] * np.ones((1, SIZE, SIZE), np.uint8)
    return replace(make_dataset(labels, people, name="lab"), images=images)


def shades_in_row(pixels: np.ndarray, label: int) -> list[int]:
    """The shades of the faces in a class's row, from left to right."""
    line = pixels[60 + label * (96 + 16 + 8) + 48, 24 + 132 :]
    return [int(line[left, 0]) for left in range(48, len(line), 96 + 8) if line[left, 0] < 255]


def test_every_class_has_its_row_of_faces(tmp_path):
    dataset = flat([10, 20, 30, 40, 50], [0, 0, 3, 3, 6])

    pixels = sheet(dataset, tmp_path)

    assert sorted(shades_in_row(pixels, 0)) == [10, 20]
    assert sorted(shades_in_row(pixels, 3)) == [30, 40]
    assert shades_in_row(pixels, 6) == [50]
    assert shades_in_row(pixels, 1) == []


def test_contempt_has_the_last_row_of_faces(tmp_path):
    basic = flat([10, 20], [0, 6])
    whole = replace(flat([10, 20, 30], [0, 6, 7]), classes=8)

    pixels = sheet(whole, tmp_path)

    assert shades_in_row(pixels, 7) == [30]
    assert len(pixels) == len(sheet(basic, tmp_path)) + 96 + 16 + 8


def test_people_come_once_before_they_come_again(tmp_path):
    shades = list(range(10, 130, 10))
    dataset = flat(shades, [0] * 12, ["ann"] * 10 + ["bob", "cy"])

    for seed in range(5):
        shown = shades_in_row(sheet(dataset, tmp_path, per_class=3, seed=seed), 0)
        assert len(shown) == 3
        assert {110, 120} < set(shown)


def test_the_seed_decides_which_faces_are_shown(tmp_path):
    dataset = flat(list(range(0, 200, 2)), [0] * 100)

    first, again, other = (sheet(dataset, tmp_path, seed=seed) for seed in (0, 0, 1))

    assert np.array_equal(first, again)
    assert shades_in_row(first, 0) != shades_in_row(other, 0)


def test_synthetic_sets_are_marked_in_red(tmp_path):
    dataset = flat([10, 20], [0, 1])

    def red(pixels: np.ndarray) -> int:
        title = pixels[:60]
        return int(np.sum((title[..., 0] > 150) & (title[..., 1] < 80)))

    assert red(sheet(dataset, tmp_path)) == 0
    assert red(sheet(replace(dataset, synthetic=True), tmp_path)) > 100


def test_letters_that_the_font_has_not_are_drawn_as_others(tmp_path):
    """Pillow's font draws the same box for whatever it does not know."""

    def named(name: str, person: str) -> np.ndarray:
        return sheet(replace(flat([1], [0]), name=name, subjects=(person,)), tmp_path)

    drawn = named("Fête", "Noël-Ånn")
    np.testing.assert_array_equal(drawn, named("Fete", "Noel-Ann"))
    assert (drawn != named("Fete", "No\ufffel-Ann")).any()
    np.testing.assert_array_equal(named("lab", "中\udcff"), named("lab", "??"))


def test_a_sheet_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(FercoreError, match="cannot be written"):
        contact_sheet(flat([1, 2], [0, 1]), tmp_path / "file" / "sheet.png")
