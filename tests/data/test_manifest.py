from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fercore.data import manifest
from fercore.data.dataset import Dataset
from fercore.data.parts import Parts
from fercore.data.splits import split
from fercore.errors import FercoreError

from .values import make_dataset, make_jaffe


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset(
        [0, 1, 2, 0], ["ann", "bob", "cy", "cy"], ["", "", "take", "take"], name="lab"
    )


@pytest.fixture
def parts() -> Parts:
    return Parts(np.array([0, 3]), np.array([1]), np.array([2]))


@pytest.fixture
def written(tmp_path: Path, dataset: Dataset, parts: Parts) -> Path:
    path = tmp_path / "lab.csv"
    manifest.write(path, dataset, parts)
    return path


def change(path: Path, line: int, old: str, new: str) -> None:
    """Replace text in one line (from 1) of a file."""
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("".join(lines))


def test_columns_and_rows_stand_as_documented(written, dataset):
    lines = written.read_text().splitlines()

    assert lines[0] == "file,subject,group,label,split,sha256"
    assert lines[1:] == [
        f"angry/0.png,ann,,angry,train,{dataset.sha256[0]}",
        f"disgust/1.png,bob,,disgust,validation,{dataset.sha256[1]}",
        f"fear/2.png,cy,take,fear,test,{dataset.sha256[2]}",
        f"angry/3.png,cy,take,angry,train,{dataset.sha256[3]}",
    ]


def test_what_is_written_is_read_back(tmp_path):
    dataset = make_jaffe()
    parts = split(dataset)
    path = tmp_path / "jaffe.csv"
    manifest.write(path, dataset, parts)

    read = manifest.read(path, dataset)

    for name, rows in parts.rows().items():
        assert np.array_equal(read.rows()[name], rows)
        assert read.rows()[name].dtype == np.int64


def test_a_folder_of_manifests_is_a_rule(written, dataset, parts):
    assert np.array_equal(split(dataset, written.parent).train, parts.train)
    assert np.array_equal(split(dataset, str(written.parent)).test, parts.test)


def test_rows_may_stand_in_any_order_with_a_byte_order_mark_and_blank_lines(
    written, dataset, parts
):
    header, *rows = written.read_text().splitlines()
    written.write_text("\ufeff" + "\r\n\r\n".join([header, *reversed(rows)]))

    assert np.array_equal(manifest.read(written, dataset).train, parts.train)


def test_names_with_commas_quotes_and_foreign_bytes_survive(tmp_path, parts):
    dataset = make_dataset([0, 1, 2, 0], name="lab")
    files = (
        'a,"b".png',
        "Zoë.png",
        "line\nbreak.png",
        b"\xff.png".decode(errors="surrogateescape"),
    )
    dataset = Dataset(**{**vars(dataset), "files": files})
    path = tmp_path / "lab.csv"

    manifest.write(path, dataset, parts)

    assert np.array_equal(manifest.read(path, dataset).train, parts.train)


def test_contempt_is_read_back_where_it_is_a_class(tmp_path, parts):
    dataset = make_dataset([0, 7, 2, 7], name="lab", classes=8)
    path = tmp_path / "lab.csv"

    manifest.write(path, dataset, parts)

    assert path.read_text().splitlines()[2].split(",")[:4] == ["contempt/1.png", "", "", "contempt"]
    assert np.array_equal(manifest.read(path, dataset).train, parts.train)


def test_a_manifest_with_contempt_for_a_set_without(tmp_path, parts):
    whole = make_dataset([0, 7, 2, 0], name="lab", classes=8)
    manifest.write(tmp_path / "lab.csv", whole, parts)
    basic = replace(whole.select([0, 2, 3]), classes=7)

    with pytest.raises(FercoreError, match=r"no image 'contempt/1.png'; .*\(--contempt\)"):
        manifest.read(tmp_path / "lab.csv", basic)


def test_contempt_is_no_label_of_a_set_without(written, dataset):
    change(written, 3, ",disgust", ",contempt")

    with pytest.raises(FercoreError, match=r"unknown label 'contempt'; .*surprise, neutral$"):
        manifest.read(written, dataset)


def test_an_empty_split_leaves_an_image_out(written, dataset):
    change(written, 5, ",train,", ",,")

    read = manifest.read(written, dataset)

    assert list(read.train) == [0]
    assert "Images in no part: 1." in read.notes


def test_people_in_two_parts_are_allowed_and_noted(written, dataset):
    assert "Subjects in both train and test: 1 (cy)." in manifest.read(written, dataset).notes


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (2, "angry/0", "angry/9", "line 2: lab has no image 'angry/9.png'; remove the line"),
        (4, "fear/2", "angry/0", "line 4: angry/0.png stands in line 2 already"),
        (3, "validation", "val", "line 3: disgust/1.png has the unknown split 'val'; write train"),
        (3, ",disgust", ",Disgust", "line 3: disgust/1.png has the unknown label 'Disgust'"),
        (4, ",fear", ",sad", "line 4: fear/2.png is labelled 'sad' here but 'fear' in the dataset"),
        (2, ",ann,,angry,train,", ",ann,,angry,train,0", "line 2: angry/0.png has other pixels"),
        (2, ",ann,", ",", "line 2: not 6 cells"),
        (2, ",ann,", ",ann,,", "line 2: not 6 cells"),
        (3, "disgust/1.png", '"disgust/1".png', "line 3: is not valid csv"),
        (1, "sha256", "md5", "line 1: no column sha256; the header must be file,subject,group"),
        (1, ",", ";", "line 1: no column file, label, split, sha256"),
        (3, "validation", "test", "no line has the split 'validation'"),
    ],
)
def test_faults_are_named_with_file_line_and_mend(written, dataset, line, old, new, message):
    change(written, line, old, new)

    with pytest.raises(FercoreError, match=re.escape(f"{written}: {message}")) as caught:
        manifest.read(written, dataset)

    assert ";" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_without_a_line_are_named(written, dataset):
    lines = written.read_text().splitlines(keepends=True)
    written.write_text("".join(lines[:3]))

    with pytest.raises(FercoreError, match=r"2 images of lab have no line, the first fear/2\.png"):
        manifest.read(written, dataset)


def test_a_missing_manifest_is_named(tmp_path, dataset):
    with pytest.raises(FercoreError, match=r"lab\.csv: is missing"):
        split(dataset, tmp_path)


def test_a_folder_in_place_of_a_manifest_is_named(tmp_path, dataset):
    (tmp_path / "lab.csv").mkdir()

    with pytest.raises(FercoreError, match=r"lab\.csv: cannot be read"):
        split(dataset, tmp_path)


def test_an_empty_manifest_is_named(tmp_path, dataset):
    (tmp_path / "lab.csv").write_text("")

    with pytest.raises(FercoreError, match="line 1: no column file, label, split, sha256"):
        split(dataset, tmp_path)
