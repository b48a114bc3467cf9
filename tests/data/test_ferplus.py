"""fercore.data.ferplus: joined by row, the majority of votes, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fercore.data import check_options
from fercore.data.ferplus import Labels, elected, winner
from fercore.errors import FercoreError
from tests.data.test_pixel_csv import text, write
from tests.data.trees import read, read_in_every_form, write_image

HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)
USAGES = ["Training"] * 6 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
ELECTED = {0: 6, 1: 3, 2: 5, 3: 4, 4: 0, 5: 1, 6: 2}  # column of the votes -> label


def votes(column: int, count: int = 10) -> list[int]:
    cast = [0] * 10
    cast[column] = count
    return cast


def write_votes(
    root: Path, ballots: Sequence[Sequence[object]], usages: Sequence[str] = USAGES
) -> Path:
    """One row a ballot; the names drift, and are empty where nobody sees a face."""
    lines = [HEADER]
    for number, (usage, ballot) in enumerate(zip(usages, ballots, strict=False)):
        name = "" if ballot[9] == 10 else f"fer{number * 2:07}.png"
        lines.append(",".join([usage, name, *map(str, ballot)]))
    path = root / "fer2013new.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_both(root: Path, ballots: Sequence[Sequence[object]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    rows = (f"{n % 7},{text(n)},{usage}" for n, usage in enumerate(USAGES))
    write(root / "fer2013.csv", *rows)
    write_votes(root, ballots)
    return root


BALLOTS = [votes(column) for column in (*range(7), 9, 7, 8, 0, 1)]


def test_labels_are_joined_by_row(tmp_path: Path) -> None:
    """Votes of every class; then not a face, contempt and unknown, and two more."""
    dataset = read_in_every_form("ferplus", write_both(tmp_path / "up" / "fer", BALLOTS))
    found = dict(zip(dataset.files, dataset.labels, strict=True))
    kept = {**{column: column for column in range(7)}, 10: 0, 11: 1}  # row -> column
    assert found == {f"fer2013.csv:{n + 2}": ELECTED[column] for n, column in kept.items()}
    assert dataset.splits == ("train",) * 6 + ("validation",) + ("test",) * 2
    assert dataset.notes[1] == "Left out of 12 images: 1 contempt, 1 not a face, 1 unknown."


def test_contempt_on_request(tmp_path: Path) -> None:
    dataset = read("ferplus", write_both(tmp_path, BALLOTS), contempt=True)
    assert dataset.files[7] == "fer2013.csv:10"  # the row whose votes are for contempt
    assert dataset.labels.tolist() == [*(ELECTED[c] for c in range(7)), 7, ELECTED[0], ELECTED[1]]
    assert dataset.notes[1] == "Left out of 12 images: 1 not a face, 1 unknown."


@pytest.mark.parametrize(
    ("ballot", "word"),
    [
        ([6, 4, 0, 0, 0, 0, 0, 0, 0, 0], "neutral"),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], None),  # a tie
        ([4, 3, 3, 0, 0, 0, 0, 0, 0, 0], None),  # the most, but not half
        ([0, 3, 2, 1, 1, 1, 1, 1, 0, 0], "happiness"),  # 3 of 5: single votes are outliers
        ([0, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),  # nothing but outliers
        ([0, 0, 0, 0, 0, 0, 0, 4, 3, 3], None),
        ([0, 0, 0, 0, 0, 0, 0, 0, 4, 6], "nf"),
        ([0, 0, 0, 0, 0, 0, 0, 9, 1, 0], "contempt"),
        ([0, 0, 0, 0, 0, 0, 2, 0, 8, 0], "unknown"),
    ],
)
def test_the_majority(ballot: list[int], word: str | None) -> None:
    assert winner(ballot) == (word or "without a majority")


@pytest.mark.parametrize(("agreement", "kept"), [(0.0, 3), (0.5, 2), (0.6, 1), (0.9, 1)])
def test_agreement_is_the_share_that_a_label_needs(
    agreement: float, kept: int, tmp_path: Path
) -> None:
    """4 of 10 beside 3 and 3; 6 of 10; all; a tie, which never counts."""
    ballots = [[4, 3, 3] + [0] * 7, [0, 6, 4] + [0] * 7, votes(4), [5, 5] + [0] * 8]
    ballots += [votes(9)] * 6 + [votes(3)] * 2
    dataset = read("ferplus", write_both(tmp_path, ballots), agreement=agreement)
    assert len(dataset) == kept + 2
    assert f"more than {agreement:.0%} of the votes" in dataset.notes[0]


@pytest.mark.parametrize("agreement", [1.0, -0.1])
def test_wrong_agreement(agreement: float, tmp_path: Path) -> None:
    with pytest.raises(FercoreError, match="at least 0 and below 1"):
        read("ferplus", write_both(tmp_path, BALLOTS), agreement=agreement)


def test_a_bad_row_of_pixels_keeps_its_place(tmp_path: Path) -> None:
    write_both(tmp_path, BALLOTS)
    lines = (tmp_path / "fer2013.csv").read_text().splitlines()
    lines[2] = lines[2].replace(",", ",x", 1)
    (tmp_path / "fer2013.csv").write_text("\n".join(lines) + "\n")
    dataset = read("ferplus", tmp_path)
    assert [entry.file for entry in dataset.skipped] == ["fer2013.csv:3"]
    assert dataset.labels.tolist()[:3] == [ELECTED[column] for column in (0, 2, 3)]


def test_blank_lines_do_not_shift_the_rows(tmp_path: Path) -> None:
    whole = read("ferplus", write_both(tmp_path, BALLOTS))
    path = tmp_path / "fer2013new.csv"
    path.write_text(path.read_text().replace("\n", "\n\n", 4))
    assert read("ferplus", tmp_path).labels.tolist() == whole.labels.tolist()


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_both(tmp_path, BALLOTS)
    write_votes(tmp_path, BALLOTS[:-1])
    with pytest.raises(FercoreError, match=r"new\.csv: 11 rows, but fer2013\.csv has 12; .* both"):
        read("ferplus", tmp_path)
    write_votes(tmp_path, BALLOTS, [*USAGES[1:], "PrivateTest"])
    with pytest.raises(
        FercoreError, match=r"line 7: Usage 'PublicTest' is not that of fer2013\.csv:7"
    ):
        read("ferplus", tmp_path)


@pytest.mark.parametrize("cell", ["x", "-1", "", "1.5"])
def test_votes_that_are_no_counts(cell: str, tmp_path: Path) -> None:
    ballots: list[Sequence[object]] = [*BALLOTS]
    ballots[3] = [cell, *votes(1)[1:]]
    with pytest.raises(FercoreError, match=r"fer2013new\.csv: line 5: votes must be whole numbers"):
        read("ferplus", write_both(tmp_path, ballots))


def test_other_csv_files_with_pixels_beside_them(tmp_path: Path) -> None:
    whole = read("ferplus", write_both(tmp_path, BALLOTS))
    write(tmp_path / "ckextended.csv", f"0,{text(0)},Training")
    write(tmp_path / "train.csv", f"0,{text(0)}", header="emotion,pixels")
    assert read("ferplus", tmp_path).files == whole.files


def test_votes_without_images(tmp_path: Path) -> None:
    write_votes(tmp_path, BALLOTS)
    for path in (tmp_path, tmp_path / "fer2013new.csv"):
        with pytest.raises(FercoreError, match=r"new\.csv: holds labels alone; put fer2013\.csv"):
            read("ferplus", path)


def test_images_without_votes(tmp_path: Path) -> None:
    write_both(tmp_path, BALLOTS)
    (tmp_path / "fer2013new.csv").unlink()
    with pytest.raises(
        FercoreError, match=r"no ferplus images; .*did you mean the format 'fer2013'"
    ):
        read("ferplus", tmp_path)


def test_fer2013_ignores_the_votes_beside_it(tmp_path: Path) -> None:
    dataset = read("fer2013", write_both(tmp_path, BALLOTS))
    assert dataset.labels.tolist() == [number % 7 for number in range(12)]


def test_a_folder_of_images_has_no_rows_to_join(tmp_path: Path) -> None:
    write_votes(tmp_path, BALLOTS)
    write_image(tmp_path / "train" / "angry" / "Training_1.jpg")
    with pytest.raises(FercoreError, match=r"put fer2013\.csv, which has the images, beside it"):
        read("ferplus", tmp_path)


def ballot(**cast: int) -> list[int]:
    """Votes by the first letters of their columns."""
    return [cast.get(name, 0) for name in ("n", "h", "su", "sa", "a", "d", "f", "c", "u", "nf")]


@pytest.mark.parametrize(
    ("cast", "kept"),
    [
        ({"n": 10}, {"neutral": 10}),
        ({"n": 6, "h": 4}, {"neutral": 6, "happiness": 4}),
        ({"n": 8, "h": 2}, {"neutral": 8}),  # three quarters already
        ({"h": 5, "su": 5}, {"happiness": 5, "surprise": 5}),  # a tie is no fault here
        ({"n": 4, "sa": 3, "a": 3}, {"neutral": 4, "sadness": 3, "anger": 3}),
        ({"n": 6, "h": 3, "f": 1}, {"neutral": 6, "happiness": 3}),  # a single vote
        ({"n": 4, "h": 2, "su": 2, "sa": 2}, {}),  # four words
        ({"n": 6, "u": 4}, {"neutral": 6}),  # unknown ends the list
        ({"n": 5, "u": 5}, {}),  # ... which has just half
        ({"u": 6, "n": 4}, {"unknown": 6}),
        ({"nf": 9, "f": 1}, {"nf": 9}),
        ({"n": 4, "nf": 3, "h": 3}, {"neutral": 4, "happiness": 3}),  # equals go in together
        ({"a": 6, "c": 4}, {"anger": 6, "contempt": 4}),
        (dict.fromkeys(("n", "h", "su", "sa", "a", "d", "f", "c", "u", "nf"), 1), {}),
    ],
)
def test_probability(cast: dict[str, int], kept: dict[str, int]) -> None:
    assert elected(ballot(**cast), "probability") == kept


@pytest.mark.parametrize(
    ("cast", "kept"),
    [
        ({"n": 10}, {"neutral": 10}),
        ({"n": 7, "h": 3}, {"neutral": 7, "happiness": 3}),  # 30 % is enough
        ({"n": 8, "h": 2}, {"neutral": 8}),
        ({"n": 5, "h": 3, "su": 2}, {"neutral": 5, "happiness": 3}),
        ({"n": 4, "sa": 3, "a": 3}, {"neutral": 4, "sadness": 3, "anger": 3}),
        ({"n": 4, "h": 2, "su": 2, "sa": 2}, {}),  # 40 % in all
        ({"n": 2, "h": 1, "su": 1}, {"neutral": 2}),  # single votes do not count
        ({"u": 6, "n": 4}, {"neutral": 4, "unknown": 6}),
        ({}, {}),
    ],
)
def test_multi_target(cast: dict[str, int], kept: dict[str, int]) -> None:
    assert elected(ballot(**cast), "multi-target") == kept


@pytest.mark.parametrize("cast", [votes(4), votes(8), votes(7), votes(0, 1), [5, 5] + [0] * 8])
def test_the_majority_elects_the_winner(cast: list[int]) -> None:
    word = winner(cast)
    assert elected(cast) == ({} if word.startswith("without") else {word: max(cast)})


MIXED = [
    ballot(n=6, h=4),
    ballot(a=5, d=5),
    ballot(c=6, a=4),  # contempt leads
    ballot(a=6, c=4),  # ... follows
    ballot(u=6, n=4),
    ballot(nf=10),
    ballot(h=6, su=4),  # validation: only the majority counts
    ballot(h=5, su=5),
    ballot(f=10),
    ballot(sa=7, n=3),  # test
    ballot(sa=5, n=5),
    ballot(su=10),
]


@pytest.mark.parametrize("labels", ["probability", "multi-target"])
def test_training_images_have_targets_and_others_their_majority(
    labels: Labels, tmp_path: Path
) -> None:
    dataset = read("ferplus", write_both(tmp_path, MIXED), labels=labels)
    assert [int(file.split(":")[1]) - 2 for file in dataset.files] == [0, 1, 3, 6, 8, 9, 11]
    assert dataset.labels.tolist() == [6, 0, 0, 3, 2, 4, 5]
    expected = np.eye(7, dtype=np.float32)[dataset.labels]
    expected[0, [6, 3]] = 0.6, 0.4
    expected[1, [0, 1]] = 0.5
    assert dataset.targets is not None
    assert dataset.targets.dtype == np.float32
    np.testing.assert_array_equal(dataset.targets, expected)
    assert dataset.multi_target == (labels == "multi-target")
    kind = {"probability": "are probabilities", "multi-target": "are multi-target"}[labels]
    assert f"Training labels {kind}" in dataset.notes[0]
    assert dataset.notes[1] == (
        "Left out of 12 images: 1 contempt, 1 not a face, 1 unknown, 2 without a majority."
    )
    assert (
        dataset.notes[2]
        == "Validation and test labels are the majority's, and so are their images."
    )


@pytest.mark.parametrize("labels", ["probability", "multi-target"])
def test_contempt_has_its_share_on_request(labels: Labels, tmp_path: Path) -> None:
    """It leads in the third row and follows in the fourth; the other rows stay what they are."""
    write_both(tmp_path, MIXED)
    basic = read("ferplus", tmp_path, labels=labels)
    dataset = read("ferplus", tmp_path, labels=labels, contempt=True)
    assert [int(file.split(":")[1]) - 2 for file in dataset.files] == [0, 1, 2, 3, 6, 8, 9, 11]
    assert dataset.labels.tolist() == [6, 0, 7, 0, 3, 2, 4, 5]
    assert dataset.targets is not None
    assert basic.targets is not None
    assert dataset.targets.shape == (8, 8)
    assert dataset.targets[2].tolist() == pytest.approx([0.4, 0, 0, 0, 0, 0, 0, 0.6])
    assert dataset.targets[3].tolist() == pytest.approx([0.6, 0, 0, 0, 0, 0, 0, 0.4])
    rest = [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal(dataset.targets[rest, :7], basic.targets[[0, 1, 3, 4, 5, 6]])
    assert not dataset.targets[rest, 7].any()
    assert dataset.notes[1] == (
        "Left out of 12 images: 1 not a face, 1 unknown, 2 without a majority."
    )


def test_images_of_validation_and_test_are_the_same_whatever_is_taught(tmp_path: Path) -> None:
    write_both(tmp_path, MIXED)
    majority = read("ferplus", tmp_path)
    assert majority.targets is None
    for labels in ("probability", "multi-target"):
        dataset = read("ferplus", tmp_path, labels=labels)
        for one in (dataset, majority):
            assert len(one.splits) == len(one.labels)
        tested = [
            file
            for file, part in zip(dataset.files, dataset.splits, strict=True)
            if part != "train"
        ]
        assert tested == [
            f for f, part in zip(majority.files, majority.splits, strict=True) if part != "train"
        ]


def test_an_image_without_agreement_is_counted(tmp_path: Path) -> None:
    ballots = [ballot(n=4, h=2, su=2, sa=2), *MIXED[1:]]
    dataset = read("ferplus", write_both(tmp_path, ballots), labels="probability")
    assert "1 without agreement" in dataset.notes[1]


def test_targets_keep_their_places_where_rows_of_pixels_are_bad(tmp_path: Path) -> None:
    write_both(tmp_path, MIXED)
    whole = read("ferplus", tmp_path, labels="probability")
    lines = (tmp_path / "fer2013.csv").read_text().splitlines()
    lines[1] = lines[1].replace(",", ",x", 1)
    (tmp_path / "fer2013.csv").write_text("\n".join(lines) + "\n")
    dataset = read("ferplus", tmp_path, labels="probability")
    assert dataset.targets is not None
    assert whole.targets is not None
    np.testing.assert_array_equal(dataset.targets, whole.targets[1:])


def test_files_that_do_not_belong_together_teach_nothing_else_either(tmp_path: Path) -> None:
    write_both(tmp_path, MIXED)
    write_votes(tmp_path, MIXED[:-1])
    with pytest.raises(FercoreError, match=r"11 rows, but fer2013\.csv has 12"):
        read("ferplus", tmp_path, labels="multi-target")


def test_labels_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FercoreError, match="cannot be 'probabilty'; did you mean 'probability'"):
        check_options("ferplus", {"labels": "probabilty"}, "ferplus [options]")


def test_selected_rows_keep_their_targets(tmp_path: Path) -> None:
    dataset = read("ferplus", write_both(tmp_path, MIXED), labels="probability")
    some = dataset.select([3, 0])
    assert dataset.targets is not None
    assert some.targets is not None
    np.testing.assert_array_equal(some.targets, dataset.targets[[3, 0]])
    assert some.lessons is some.targets
