"""fercore.data.pixel_csv: rows are strict, a few bad ones are listed, many are an error."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fercore.data.images import Crop
from fercore.errors import FercoreError
from tests.data.trees import pixels, read

USAGES = ("Training", "PublicTest", "PrivateTest")


def text(seed: int) -> str:
    return " ".join(map(str, pixels(seed).ravel()))


def row(seed: int) -> str:
    return f"{seed % 7},{text(seed)},{USAGES[seed % 3]}"


def write(path: Path, *rows: str, header: str = "emotion,pixels,Usage", end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in (header, *rows)).encode())
    return path


def test_rows_become_images(tmp_path: Path) -> None:
    dataset = read("fer2013", write(tmp_path / "fer2013.csv", *map(row, range(14))))
    assert dataset.labels.tolist() == [*range(7), *range(7)]
    assert dataset.splits[:4] == ("train", "validation", "test", "train")
    assert dataset.files[0] == "fer2013.csv:2"
    assert dataset.files[13] == "fer2013.csv:15"
    np.testing.assert_array_equal(dataset.images, np.stack([pixels(i) for i in range(14)]))
    assert dataset.skipped == ()
    assert set(dataset.subjects) == set(dataset.groups) == {""}


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    plain = read("fer2013", write(tmp_path / "fer2013.csv", *map(row, range(7))))
    swapped = [",".join(row(i).split(",")[j] for j in (0, 2, 1)) for i in range(7)]
    icml = write(tmp_path / "icml_face_data.csv", *swapped, header="emotion, Usage, pixels")
    quoted = [f'{i},"{row(i).split(",")[1]}",{USAGES[i % 3]}' for i in range(7)]
    windows = write(
        tmp_path / "w.csv", *quoted, header='\ufeff"Emotion","pixels","usage"', end="\r\n"
    )
    for path in (icml, windows):
        dataset = read("fer2013", path)
        assert dataset.sha256 == plain.sha256
        assert dataset.splits == plain.splits
        np.testing.assert_array_equal(dataset.labels, plain.labels)


def test_without_usage_every_row_is_in_train(tmp_path: Path) -> None:
    rows = [row(i).rsplit(",", 1)[0] for i in range(7)]
    dataset = read("fer2013", write(tmp_path / "train.csv", *rows, header="emotion,pixels"))
    assert set(dataset.splits) == {"train"}
    assert "train.csv has no Usage column: every row is in train." in dataset.notes


def test_a_crop_applies_to_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", *map(row, range(7)))
    whole, cropped = read("fer2013", path), read("fer2013", path, Crop(0, 0, 0.5, 0.5))
    assert whole.sha256 == cropped.sha256
    assert not np.array_equal(whole.images, cropped.images)


BAD_ROWS = {
    "short": (f"0,{' '.join(['1'] * 2303)},Training", "2,303 pixels where 2,304 are needed"),
    "long": (f"0,{' '.join(['1'] * 2305)},Training", "2,305 pixels where 2,304 are needed"),
    "no number": (f"0,{' '.join(['1'] * 2303)} x,Training", "pixel 'x' is not a whole number"),
    "999": (f"0,{' '.join(['1'] * 2303)} 999,Training", "pixel '999' is not a whole number"),
    "negative": (f"0,-1 {' '.join(['1'] * 2303)},Training", "pixel '-1' is not a whole number"),
    "fraction": (f"0,1.5 {' '.join(['1'] * 2303)},Training", "pixel '1.5' is not"),
    "label 7": (f"7,{text(0)},Training", "label '7' is not one of 0 to 6"),
    "no label": (f",{text(0)},Training", "label '' is not one of 0 to 6"),
    "usage": (f"0,{text(0)},Test", "Usage 'Test' is none of Training, PublicTest, PrivateTest"),
    "columns": (f"0,{text(0)}", "2 columns where the header has 3"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_listed_with_its_line(kind: str, tmp_path: Path) -> None:
    bad, reason = BAD_ROWS[kind]
    path = write(tmp_path / "fer2013.csv", *map(row, range(7)), bad, row(7), "")
    dataset = read("fer2013", path)
    assert len(dataset) == 8
    assert dataset.files[-1] == "fer2013.csv:10"
    assert [entry.file for entry in dataset.skipped] == ["fer2013.csv:9"]
    assert reason in dataset.skipped[0].reason


def test_many_bad_rows_are_an_error(tmp_path: Path) -> None:
    bad = BAD_ROWS["label 7"][0]
    path = write(tmp_path / "fer2013.csv", *map(row, range(89)), *[bad] * 10)
    assert len(read("fer2013", path).skipped) == 10
    write(path, *map(row, range(89)), *[bad] * 11)
    with pytest.raises(FercoreError, match=r"11 of the 100 rows .* fer2013\.csv:91: label '7'"):
        read("fer2013", path)


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", row(0), "1" * 60_000)
    with pytest.raises(FercoreError, match=r"fer2013\.csv: line 3 is longer than any row"):
        read("fer2013", path)
    with zipfile.ZipFile(tmp_path / "fer2013.zip", "w") as archive:
        archive.write(path, "fer2013.csv")
    with pytest.raises(FercoreError, match=r"fer2013\.csv: line 3 is longer than any row"):
        read("fer2013", tmp_path / "fer2013.zip")


def test_only_bad_rows_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", BAD_ROWS["999"][0])
    with pytest.raises(FercoreError, match=r"first fault: fer2013\.csv:2: pixel '999'"):
        read("fer2013", path)
    with pytest.raises(FercoreError, match="no usable fer2013 image"):
        read("fer2013", write(path))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("pixels", ": no column 'emotion', so its images have no labels"),
        ("emotion,image,Usage", ": no column 'pixels'"),
        ("emotion;pixels;Usage", ": no column 'pixels'"),
        ("", ": no column 'pixels'"),
    ],
)
def test_a_wrong_header_is_an_error(header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FercoreError, match=message):
        read("fer2013", write(tmp_path / "test.csv", row(0), header=header))
