"""fercore.data.tfeid: spelling, nesting, intensities, names against folders."""

from __future__ import annotations

from pathlib import Path

from tests.data.trees import read, read_in_every_form, write_images

FACES = {
    "dfh_anger_x/f01_x_ag+1.jpg": ("f01", 0),
    "dfh_disguest_x/f02_x_dg.jpg": ("f02", 1),
    "dfs_fear_x/m01_x_fg.jpg": ("m01", 2),
    "dfh_happiness_x/m02_x_hg.bmp": ("m02", 3),
    "dfs_sadness_x/m20_sg.jpg": ("m20", 4),
    "dfh_surprise_x/M19_x_PG.JPG": ("m19", 5),
    "dfh_neutral_x/f20_x_ng.jpg": ("f20", 6),
    "dfh_neutral_x/f19_x_zz.jpg": ("f19", 6),  # an unknown code: the folder decides
}


def test_names_give_subject_and_label(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "up" / "tfeid", *FACES, "dfh_contempt_x/f01_x_cg.jpg")
    dataset = read_in_every_form("tfeid", folder)
    found = zip(dataset.files, dataset.subjects, dataset.labels, strict=True)
    assert {file: (subject, label) for file, subject, label in found} == FACES
    assert "1 image of 'contempt' left out: not one of the 7 classes." in dataset.notes
    assert "Images by intensity: high 6, slight 2." in dataset.notes


def test_contempt_on_request(tmp_path: Path) -> None:
    more = {"dfh_contempt_x/f01_x_cg.jpg": ("f01", 7), "dfs_contempt_x/m03_x_zz.jpg": ("m03", 7)}
    write_images(tmp_path, *FACES, *more)
    dataset = read("tfeid", tmp_path, contempt=True)
    found = zip(dataset.files, dataset.subjects, dataset.labels, strict=True)
    assert {file: (subject, label) for file, subject, label in found} == {**FACES, **more}
    assert dataset.notes == ("Images by intensity: high 7, slight 3.",)


def test_nested_folders(tmp_path: Path) -> None:
    root = tmp_path / "dfh_all" / "dfh_un-rimmed"
    write_images(root, *FACES)
    assert set(read("tfeid", tmp_path).files) == set(FACES)


def test_flat_files(tmp_path: Path) -> None:
    dataset = read("tfeid", write_images(tmp_path, "f01_x_ag.jpg", "f01_x_ng.jpg"))
    assert dataset.labels.tolist() == [0, 6]
    assert "Images by intensity: unknown 2." in dataset.notes


def test_contradictions_and_strange_names_are_listed(tmp_path: Path) -> None:
    write_images(tmp_path, *FACES, "dfh_fear_x/f05_x_hg.jpg", "dfh_fear_x/cover.jpg")
    dataset = read("tfeid", tmp_path)
    assert len(dataset) == len(FACES)
    assert {entry.file: entry.reason[:21] for entry in dataset.skipped} == {
        "dfh_fear_x/f05_x_hg.jpg": "its name says happy, ",
        "dfh_fear_x/cover.jpg": "not named SUBJECT_...",
    }
