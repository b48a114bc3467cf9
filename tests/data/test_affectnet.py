"""fercore.data.affectnet: lists with boxes, numbered annotations, parts, what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fercore.data.splits import split
from fercore.errors import FercoreError
from tests.data.trees import read, read_in_every_form, write_image, write_images

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal"
)
IMAGES = "Manually_Annotated_Images"
LABELS = {0: 6, 1: 3, 2: 4, 3: 5, 4: 2, 5: 1, 6: 0}  # AffectNet's number -> label


def row(file: str, expression: object, box: tuple[int, ...] = (0, 0, 48, 48)) -> str:
    return f"{file},{','.join(map(str, box))},1.5;2.5;3;4,{expression},0.1,-0.2"


def write_list(root: Path, name: str, *rows: str, header: str = HEADER) -> None:
    path = root / "Manually_Annotated_file_lists" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows] if header else rows) + "\n")


def write_lists(root: Path, *, header: str = HEADER) -> Path:
    """Every class in both lists; the validation list with or without a header."""
    train = [row(f"{n}/a{n}.jpg", n) for n in range(8)]
    held = [row(f"{n}/b{n}.JPG", n) for n in range(8)]
    write_list(root, "training.csv", *train)
    write_list(root, "validation.csv", *held, header=header)
    write_images(root, *(f"{IMAGES}/{n}/{c}" for n in range(8) for c in (f"a{n}.jpg", f"b{n}.JPG")))
    return root


def test_lists_give_labels_and_parts(tmp_path: Path) -> None:
    dataset = read_in_every_form("affectnet", write_lists(tmp_path / "up" / "AffectNet"))
    found = dict(zip(dataset.files, zip(dataset.labels, dataset.splits, strict=True), strict=True))
    assert found == {
        **{f"{n}/a{n}.jpg": (label, "train") for n, label in LABELS.items()},
        **{f"{n}/b{n}.JPG": (label, "test") for n, label in LABELS.items()},
    }
    assert dataset.skipped == ()
    assert dataset.notes == (
        "2 images of 'contempt' left out: not one of the 7 classes.",
        "Faces are cut out by the boxes of the lists.",
        "Test is AffectNet's validation set, as in publications: its test set is not public.",
    )


def test_contempt_of_lists_on_request(tmp_path: Path) -> None:
    dataset = read("affectnet", write_lists(tmp_path), contempt=True)
    found = dict(zip(dataset.files, zip(dataset.labels, dataset.splits, strict=True), strict=True))
    assert found["7/a7.jpg"] == (7, "train")
    assert found["7/b7.JPG"] == (7, "test")
    assert len(found) == 16
    assert dataset.notes[0] == "Faces are cut out by the boxes of the lists."


def test_a_list_without_a_header(tmp_path: Path) -> None:
    dataset = read("affectnet", write_lists(tmp_path, header=""))
    assert dataset.splits.count("test") == 7
    assert dataset.skipped == ()


def test_validation_is_drawn_from_train(tmp_path: Path) -> None:
    write_list(tmp_path, "training.csv", *(row(f"1/{i:x}.jpg", i % 2) for i in range(30)))
    write_list(tmp_path, "validation.csv", *(row(f"2/{i:x}.jpg", i % 2) for i in range(10)))
    names = [f"1/{i:x}.jpg" for i in range(30)] + [f"2/{i:x}.jpg" for i in range(10)]
    write_images(tmp_path, *(f"{IMAGES}/{name}" for name in names))
    dataset = read("affectnet", tmp_path)
    parts = split(dataset)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (26, 4, 10)
    assert all(dataset.files[row].startswith("2/") for row in parts.test)
    assert "The official split has no validation part" in parts.notes[0]


def test_what_has_no_expression_is_counted(tmp_path: Path) -> None:
    write_lists(tmp_path)
    write_list(tmp_path, "training.csv", *(row(f"{n}/a{n}.jpg", n + 3) for n in range(8)))
    dataset = read("affectnet", tmp_path)
    for word, count in (("none", 1), ("uncertain", 1), ("no face", 1), ("contempt", 2)):
        assert any(
            note.startswith(f"{count} image") and f"'{word}'" in note for note in dataset.notes
        )


def test_the_crop_lies_within_the_faces_box(tmp_path: Path) -> None:
    image = np.zeros((200, 300), np.uint8)
    image[40:136, 100:196] = 200
    path = tmp_path / IMAGES / "1"
    path.mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(image).save(path / f"{name}.png")
    write_list(
        tmp_path,
        "training.csv",
        row("1/a.png", 1, (100, 40, 96, 96)),
        row("1/b.png", 2, (100, 40, 96, 96)),
    )
    assert (read("affectnet", tmp_path).images == 200).all()
    whole = read("affectnet", tmp_path, boxes=False)
    assert whole.images[0, 0, 0] == 0
    assert not any("boxes" in note for note in whole.notes)


@pytest.mark.parametrize(
    "box", [(0, 0, 49, 48), (-1, 0, 48, 48), (0, 0, 0, 48), ("nan", 0, 48, 48)]
)
def test_boxes_that_do_not_fit(box: tuple[int, ...], tmp_path: Path) -> None:
    write_lists(tmp_path)
    write_list(tmp_path, "training.csv", row("0/a0.jpg", 0, box), row("1/a1.jpg", 1))
    dataset = read("affectnet", tmp_path)
    assert [(entry.file, entry.reason) for entry in dataset.skipped] == [
        ("0/a0.jpg", "its face's box does not lie within the image")
    ]


def test_bad_rows_missing_images_and_unlisted_ones(tmp_path: Path) -> None:
    write_lists(tmp_path)
    rows = [
        row("0/a0.jpg", 0),
        row("1/absent.jpg", 1),
        row("1/a1.jpg", 11),
        "",
        row("2/a2.jpg", "x"),
    ]
    rows += [row("3/a3.jpg", 3, ("?", 0, 48, 48)), "4/a4.jpg", row("5/a5.jpg", 1.5)]
    write_list(tmp_path, "training.csv", *rows)
    dataset = read("affectnet", tmp_path)
    assert dataset.splits.count("train") == 1
    wrong = "no whole number from 0 to 10 as its expression"
    assert {entry.file: entry.reason for entry in dataset.skipped} == {
        "training.csv:3": "its image is not here",
        "training.csv:4": wrong,
        "training.csv:6": wrong,
        "training.csv:7": "its face's box is not four numbers",
        "training.csv:8": wrong,
        "training.csv:9": wrong,
    }
    assert "Images without a label, left out: 7." in dataset.notes


def test_labels_that_a_program_chose_are_left_out(tmp_path: Path) -> None:
    write_lists(tmp_path)
    write_list(tmp_path, "automatically_annotated.csv", row("0/c.jpg", 0))
    write_image(tmp_path / "Automatically_Annotated_Images" / "0" / "c.jpg")
    dataset = read("affectnet", tmp_path)
    assert len(dataset) == 14
    path = "Manually_Annotated_file_lists/automatically_annotated.csv"
    assert f"{path} left out: a program chose its labels." in dataset.notes


def write_numbers(root: Path) -> Path:
    """Every class in both sets; labels are text in some copies and numbers in others."""
    for folder, kind in (("train_set", str), ("val_set", int)):
        for number in range(8):
            write_image(root / folder / "images" / f"{number}.jpg", number + 10 * (kind is int))
            path = root / folder / "annotations" / f"{number}_exp.npy"
            path.parent.mkdir(exist_ok=True)
            np.save(path, kind(number))
            np.save(path.with_name(f"{number}_val.npy"), 0.5)
    return root


def test_numbers_give_labels_and_parts(tmp_path: Path) -> None:
    dataset = read_in_every_form("affectnet", write_numbers(tmp_path / "up" / "AffectNet"))
    found = dict(zip(dataset.files, zip(dataset.labels, dataset.splits, strict=True), strict=True))
    assert found == {
        f"{folder}/images/{n}.jpg": (label, part)
        for folder, part in (("train_set", "train"), ("val_set", "test"))
        for n, label in LABELS.items()
    }
    assert dataset.notes[0] == "2 images of 'contempt' left out: not one of the 7 classes."


def test_contempt_of_numbers_on_request(tmp_path: Path) -> None:
    dataset = read("affectnet", write_numbers(tmp_path), contempt=True)
    found = dict(zip(dataset.files, dataset.labels, strict=True))
    assert found["train_set/images/7.jpg"] == found["val_set/images/7.jpg"] == 7
    assert len(found) == 16


def test_one_set_alone(tmp_path: Path) -> None:
    dataset = read("affectnet", write_numbers(tmp_path) / "val_set")
    assert dataset.files[0] == "images/0.jpg"
    assert set(dataset.splits) == {""}


def test_bad_annotations_and_missing_images(tmp_path: Path) -> None:
    notes = write_numbers(tmp_path) / "train_set" / "annotations"
    np.save(notes / "0_exp.npy", 12)
    np.save(notes / "1_exp.npy", np.array([1, 2]))
    np.save(notes / "2_exp.npy", np.array("x"))
    (notes / "3_exp.npy").write_bytes(b"no array")
    np.save(notes / "4_exp.npy", np.array({"a": 1}), allow_pickle=True)
    (tmp_path / "train_set" / "images" / "5.jpg").unlink()
    (notes / "6_exp.npy").unlink()
    dataset = read("affectnet", tmp_path)
    wrong = "no whole number from 0 to 10 as its expression"
    assert {entry.file: entry.reason for entry in dataset.skipped} == {
        **{f"train_set/annotations/{n}_exp.npy": wrong for n in range(5)},
        "train_set/annotations/5_exp.npy": "its image is not here",
    }
    assert "Images without a label, left out: 6." in dataset.notes
    assert dataset.splits.count("train") == 0


def test_without_images(tmp_path: Path) -> None:
    write_list(tmp_path, "training.csv", row("0/a0.jpg", 0))
    with pytest.raises(FercoreError, match=r"first fault: training\.csv:2: its image is not here"):
        read("affectnet", tmp_path)
