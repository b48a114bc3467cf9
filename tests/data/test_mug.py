"""fercore.data.mug: takes, their middle frames, and the irregular folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from fercore.data.mug import evenly
from fercore.errors import FercoreError
from tests.data.trees import read, read_in_every_form, write_image, write_images


def frames(take: str, first: int, count: int) -> list[str]:
    return [f"{take}/img_{number:04d}.jpg" for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("count", "wanted", "positions"),
    [
        (100, 5, [30, 40, 50, 60, 70]),
        (100, 1, [50]),
        (8, 4, [2, 3, 4, 5]),
        (8, 400, [2, 3, 4, 5]),
        (1, 3, [0]),
        (2, 1, [1]),
    ],
)
def test_positions_are_even_and_from_the_middle(
    count: int, wanted: int, positions: list[int]
) -> None:
    assert evenly(count, wanted, (0.25, 0.75)) == positions


@pytest.mark.parametrize("count", [1, 7, 50, 83, 160])
@pytest.mark.parametrize("wanted", [1, 5, 9])
def test_positions_stay_in_the_middle(count: int, wanted: int) -> None:
    positions = evenly(count, wanted, (0.25, 0.75))
    assert len(positions) == len(set(positions)) <= wanted
    assert len(positions) >= min(wanted, count // 2)
    assert all(int(0.25 * count) <= position < max(1, 0.75 * count) for position in positions)


def test_subject_emotion_and_take(tmp_path: Path) -> None:
    folder = tmp_path / "up" / "subjects3"
    write_images(
        folder,
        *frames("001/anger/take000", 0, 12),
        *frames("001/anger/take001", 7, 8),  # does not start at 0
        *frames("002/002/happiness/take000", 0, 10),  # nested twice
        *frames("003/neutral/take000", 9_995, 10),  # numbers grow a digit
    )
    (folder / "001" / "anger" / "take000" / "end").touch()
    write_images(folder, "001/anger/take000end/img_0000.jpg", "001/anger/take000/img_0003end.jpg")
    dataset = read_in_every_form("mug", folder, total=16)  # 4 a take
    assert dataset.files == (
        *(f"001/anger/take000/img_{n:04d}.jpg" for n in (3, 5, 6, 8)),
        *(f"001/anger/take001/img_{n:04d}.jpg" for n in (9, 10, 11, 12)),
        *(f"002/happiness/take000/img_{n:04d}.jpg" for n in (3, 4, 5, 6)),
        *(f"003/neutral/take000/img_{n}.jpg" for n in (9998, 9999, 10000, 10001)),
    )
    assert dataset.subjects == ("001",) * 8 + ("002",) * 4 + ("003",) * 4
    assert dataset.groups[::4] == (
        *("001/anger/take000", "001/anger/take001"),
        *("002/happiness/take000", "003/neutral/take000"),
    )
    assert dataset.labels.tolist() == [0] * 8 + [3] * 4 + [6] * 4
    assert dataset.skipped == ()
    assert (
        "16 of 40 frames taken: 4 a take at most, evenly from 25% to 75% of each of 4 takes."
        in dataset.notes
    )


def test_the_middle_can_be_chosen(tmp_path: Path) -> None:
    write_images(tmp_path, *frames("1/sad/take0", 0, 4), *frames("1/fear/take0", 0, 4))
    dataset = read("mug", tmp_path, middle=(0.5, 1.0))
    assert [file[-6:-4] for file in dataset.files] == ["02", "03"] * 2
    for bad in ({"middle": (0.5, 0.5)}, {"middle": (0, 2)}, {"total": 0}):
        with pytest.raises(FercoreError, match="mug: total"):
            read("mug", tmp_path, **bad)


def test_strange_entries_are_told(tmp_path: Path) -> None:
    write_images(tmp_path, *frames("1/sad/take0", 0, 4), *frames("1/fear/take0", 0, 4))
    write_images(tmp_path, *frames("1/contempt/take0", 0, 4), *frames("1/mixed/take0", 0, 2))
    write_image(tmp_path / "1" / "sad" / "poster.jpg")
    dataset = read("mug", tmp_path)
    assert "4 images of 'contempt' left out: not one of the 7 classes." in dataset.notes
    assert "2 images of 'mixed' left out: not one of the 7 classes." in dataset.notes
    assert [entry.file for entry in dataset.skipped] == ["1/sad/poster.jpg"]
