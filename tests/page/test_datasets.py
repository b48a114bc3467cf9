"""What the page says of the datasets: counts, people, twins, skipped files."""

import pytest

from fercore.answers import StudyAnswers
from fercore.page import datasets
from fercore.page.study import read
from tests.page.folder import StudyFolder


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "run", targets=("tgt", "other"))


def views(folder):
    return datasets.views(read(folder.directory), StudyAnswers(folder.directory))


def test_images_and_people_by_part(folder):
    source, target, _ = views(folder)
    assert [(part.name, part.total, part.subjects) for part in target.parts] == [
        *(("train", 28, 4), ("50 % of train", 14, 2)),
        *(("validation", 14, 2), ("test", 21, 3)),
    ]
    assert target.parts[0].counts == [4] * 7
    assert [part.name for part in source.parts] == ["train", "validation", "test"]
    assert (source.role, target.role) == ("source", "target")


def test_people_who_are_not_named_are_unknown(folder):
    manifest = folder.path / "splits" / "src.csv"
    lines = [line.split(",") for line in manifest.read_text().splitlines()]
    lines[1:] = [[line[0], "", *line[2:]] for line in lines[1:]]
    manifest.write_text("\n".join(map(",".join, lines)) + "\n")
    assert {part.subjects for part in views(folder)[0].parts} == {None}


def test_twins_within_a_set(folder):
    assert views(folder)[0].notes[-1] == "No two images of the three parts are identical."
    twin = "f" * 64
    folder.write_manifest("src", **{"sad/train-0.png": twin, "sad/test-0.png": twin})
    folder.write_manifest("tgt", **{"fear/test-1.png": twin})
    source, target, _ = views(folder)
    assert source.notes[-1] == (
        "2 images have an identical twin in the set; 1 of 21 test images have one in train."
    )
    assert target.notes[1] == "No two images of the three parts are identical."


def test_twins_with_different_labels(folder):
    twins = dict.fromkeys(("sad/train-0.png", "happy/train-1.png", "sad/train-2.png"), "e" * 64)
    folder.write_manifest(
        "src", **twins, **dict.fromkeys(("sad/test-0.png", "sad/test-1.png"), "f")
    )
    assert views(folder)[0].notes[-1] == (
        "5 images have an identical twin in the set, 3 of them one with another label; 0 of 21 "
        "test images have one in train."
    )


def test_twins_in_the_source_that_the_networks_have_seen(folder):
    twins = {"fear/test-1.png": "a" * 64, "sad/test-0.png": "b" * 64, "sad/train-0.png": "c" * 64}
    folder.write_manifest("tgt", **twins)
    folder.write_manifest(
        "src",
        **{"sad/train-0.png": "a" * 64, "sad/train-1.png": "b" * 64},  # learned, and then tested
        **{"sad/test-0.png": "b" * 64, "sad/train-2.png": "c" * 64},
    )
    source, target, other = views(folder)
    assert target.notes[-1] == "2 of 21 test images have an identical twin in src's train."
    assert other.notes[-1].startswith("0 of 21 test images have")
    assert not any("src's train" in note for note in source.notes)


def test_notes_and_skipped_files_are_kept(folder):
    source = views(folder)[0]
    assert source.notes[0] == "A note on src."
    assert source.skipped == (("bad.png", "is no image"),)


def test_without_manifests_it_says_what_is_missing(tmp_path):
    folder = StudyFolder(tmp_path / "run", split=False)
    source = views(folder)[0]
    assert source.parts == []
    assert "splits/src.csv: is missing" in source.missing
