"""fercore.data.ferplus: joined by row, the majority of votes, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fercore.data.ferplus import winner
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
