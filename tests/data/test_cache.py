"""fercore.data.cache: the second load is the first one's result, until a file changes."""

from __future__ import annotations

import functools
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from fercore.data import DatasetSpec, cache, folder, load
from fercore.data.dataset import Dataset
from fercore.data.images import Crop
from tests.data.trees import write_image, write_images, zip_folder


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    write_images(tmp_path / "set", "happy/1.png", "sad/2.png", "contempt/3.png")
    (tmp_path / "set" / "sad" / "bad.png").touch()
    return DatasetSpec("mine", "folder", tmp_path / "set")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every time the loader runs."""
    calls: list[str] = []
    original = folder.load

    @functools.wraps(original)  # its parameters are the options that the format knows
    def counted(*args: object, **options: object) -> Dataset:
        calls.append("read")
        return original(*args, **options)

    monkeypatch.setattr(folder, "load", counted)
    return calls


def assert_equal(one: Dataset, other: Dataset) -> None:
    for field in fields(Dataset):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right, field.name


def test_the_second_load_reads_no_image(spec: DatasetSpec, reads: list[str]) -> None:
    first = load(spec)
    second = load(spec)
    assert reads == ["read"]
    assert_equal(first, second)
    assert first.skipped
    assert_equal(first, load(spec, cache=False))
    assert reads == ["read"] * 2


@pytest.mark.parametrize("multi_target", [False, True])
def test_targets_are_kept(multi_target: bool, tmp_path: Path) -> None:
    from fercore.data import cache
    from fercore.data.images import WHOLE
    from fercore.data.tree import open_tree
    from tests.small_data import shared, striped

    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").touch()
    dataset = shared(striped(5), multi_target=multi_target)
    for build in (lambda: dataset, lambda: pytest.fail("was not stored")):
        with open_tree(tmp_path / "set") as tree:
            assert_equal(cache.cached(tree, "ferplus", WHOLE, 7, {}, build), dataset)


def test_the_name_is_not_part_of_an_entry(spec: DatasetSpec, reads: list[str]) -> None:
    load(spec)
    assert load(DatasetSpec("other", spec.format, spec.path)).name == "other"
    (spec.path / "SYNTHETIC.txt").touch()
    assert load(spec).synthetic
    assert reads == ["read"] * 2  # the new file is a change


def test_any_change_of_a_file_is_seen(
    spec: DatasetSpec, reads: list[str], cache_folder: Path
) -> None:
    load(spec)
    image = spec.path / "happy" / "1.png"
    before = image.stat().st_mtime_ns
    write_image(image, 77)
    os.utime(image, ns=(before + 1, before + 1))
    changed = load(spec)
    write_image(spec.path / "happy" / "new.png", 78)
    assert len(load(spec)) == len(changed) + 1
    assert reads == ["read"] * 3
    assert len(list(cache_folder.iterdir())) == 1  # a changed set replaces its entry


def test_a_changed_zip_is_seen(spec: DatasetSpec, reads: list[str], tmp_path: Path) -> None:
    zipped = DatasetSpec("z", "folder", zip_folder(spec.path, tmp_path / "set.zip"))
    load(zipped)
    load(zipped)
    assert reads == ["read"]
    write_image(spec.path / "sad" / "new.png", 78)
    zip_folder(spec.path, tmp_path / "set.zip")
    assert "sad/new.png" in load(zipped).files
    assert reads == ["read"] * 2


def test_crops_and_options_have_entries_of_their_own(spec: DatasetSpec, reads: list[str]) -> None:
    whole = load(spec)
    cropped = load(spec, Crop(0, 0, 0.5, 0.5))
    named = load(spec, options={"subject": r"\d"})
    assert reads == ["read"] * 3
    assert not np.array_equal(whole.images, cropped.images)
    assert named.subjects == ("1", "2")
    for crop, options in ((None, {}), (Crop(0, 0, 0.5, 0.5), {}), (None, {"subject": r"\d"})):
        load(spec, crop, options)
    assert reads == ["read"] * 3


def test_contempt_has_an_entry_of_its_own(spec: DatasetSpec, reads: list[str]) -> None:
    basic, whole = load(spec), load(spec, contempt=True)
    assert (basic.classes, whole.classes) == (7, 8)
    assert (len(basic), len(whole)) == (2, 3)
    assert_equal(basic, load(spec))
    assert_equal(whole, load(spec, contempt=True))
    assert reads == ["read"] * 2


def test_a_changed_loader_is_seen(
    spec: DatasetSpec, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(spec)
    monkeypatch.setattr(cache, "_code", lambda: "another version")
    load(spec)
    assert reads == ["read"] * 2


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "flip"])
def test_a_damaged_entry_is_rebuilt(
    damage: str, spec: DatasetSpec, reads: list[str], cache_folder: Path
) -> None:
    first = load(spec)
    (entry,) = cache_folder.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flip":
        content[200] ^= 0xFF  # in the middle of the first image: the checksum notices
    damaged = {"empty": b"", "cut": content[: len(content) // 2], "noise": b"noise" * 99}
    entry.write_bytes(damaged.get(damage, content))
    assert_equal(first, load(spec))
    assert reads == ["read"] * 2
    load(spec)
    assert reads == ["read"] * 2


def test_a_cache_that_cannot_be_written_does_not_matter(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "file"))
    assert len(load(spec)) == 2


def test_where_entries_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.folder() == Path("/x/fercore/datasets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "fercore" / "datasets"
