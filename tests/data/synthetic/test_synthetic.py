"""Writing synthetic datasets: the files on disk, their pixels, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fercore.data import DatasetSpec, load
from fercore.data.dataset import BASIC, CLASSES, Dataset
from fercore.data.synthetic import STUDY, write_dataset, write_study
from fercore.data.synthetic.camera import photograph
from fercore.data.synthetic.layouts import Shot, plan
from fercore.data.synthetic.styles import STYLES
from fercore.errors import FercoreError

SIZES = {
    "fer2013": ((48, 48), "L"),
    "jaffe": ((256, 256), "L"),
    "tfeid": ((200, 250), "L"),
    "mug": ((192, 192), "RGB"),
    "ckplus": ((48, 48), "L"),
}


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(format: str, folder: Path) -> Dataset:
    return load(DatasetSpec(format, format, folder), cache=False)


@pytest.mark.parametrize("format", sorted(STYLES))
def test_same_seed_same_bytes_other_seed_other_faces(format: str, tmp_path: Path) -> None:
    written = write_dataset(format, tmp_path / "a", seed=3, count=14)
    assert written == write_dataset(format, tmp_path / "b", seed=3, count=14)
    write_dataset(format, tmp_path / "c", seed=4, count=14)
    first, same, other = (content(tmp_path / name) for name in "abc")
    assert first == same
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize("format", sorted(STYLES))
def test_pixels_use_the_range_and_differ_from_image_to_image(format: str) -> None:
    size, mode = SIZES[format]
    shots = plan(format)
    images = [photograph(format, shot, 0) for shot in shots[:: len(shots) // 25]]
    assert {(image.size, image.mode) for image in images} == {(size, mode)}
    assert len({image.tobytes() for image in images}) == len(images)
    for image in images:
        pixels = np.asarray(image.convert("L"), dtype=np.float64)
        assert 15 < pixels.mean() < 240
        assert pixels.std() > 5
        assert np.mean((pixels == 0) | (pixels == 255)) < 0.75


def test_people_keep_their_looks_and_sets_do_not_share_people() -> None:
    def face(format: str, subject: str, take: int = 1, frame: int = 0) -> np.ndarray:
        shot = Shot("", subject, "neutral", "neutral", take, frame)
        return np.asarray(photograph(format, shot, 0).convert("L"), dtype=np.float64)

    frames = np.abs(face("mug", "001", frame=0) - face("mug", "001", frame=1)).mean()
    people = np.abs(face("mug", "001") - face("mug", "002")).mean()
    assert 0 < frames < 0.5 * people
    assert np.abs(face("fer2013", "001") - face("ckplus", "001")).mean() > 10


def test_styles_differ() -> None:
    """Mean gray, contrast and grain alone tell the sets apart."""

    def statistics(format: str) -> tuple[float, float, float]:
        shots = plan(format)
        stack = np.stack(
            [
                np.asarray(photograph(format, shot, 0).convert("L").resize((96, 96)), np.float64)
                for shot in shots[:: len(shots) // 20]
            ]
        )
        grain = np.abs(np.diff(stack[:, :12, :12], axis=2)).mean()
        return stack.mean(), stack.std(axis=(1, 2)).mean(), grain

    values = {format: statistics(format) for format in ("jaffe", "tfeid", "mug", "ckplus")}
    assert values["ckplus"][0] < values["mug"][0] < values["jaffe"][0]
    assert values["tfeid"][1] > 1.3 * values["jaffe"][1]
    assert values["ckplus"][2] > 2 * values["tfeid"][2]


def test_fer2013_is_a_csv_of_three_columns(tmp_path: Path) -> None:
    written = write_dataset("fer2013", tmp_path / "fer", count=40)
    text = (tmp_path / "fer" / "fer2013.csv").read_text()
    assert text.startswith("emotion,pixels,Usage\n")
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == written
    assert {row["Usage"] for row in rows} == {"Training", "PublicTest", "PrivateTest"}
    for row in rows:
        assert 0 <= int(row["emotion"]) < BASIC
        values = [int(value) for value in row["pixels"].split(" ")]
        assert len(values) == 48 * 48
        assert 0 <= min(values) <= max(values) <= 255
    assert len({row["pixels"] for row in rows}) == written


@pytest.mark.parametrize("format", sorted(STYLES))
def test_the_loaders_read_it_and_know_it_is_synthetic(format: str, tmp_path: Path) -> None:
    written = write_dataset(format, tmp_path / format, count=60)
    dataset = read(format, tmp_path / format)
    shots = plan(format, 60)
    assert len(shots) == written
    assert dataset.synthetic
    assert not dataset.skipped
    if format == "mug":  # half of the frames are outside the middle of their takes
        assert 0.4 * written < len(dataset) < 0.8 * written
    else:
        assert len(dataset) == sum(shot.label != "contempt" for shot in shots)
    assert {CLASSES[label] for label in dataset.labels} == {s.label for s in shots} - {"contempt"}
    if format != "fer2013":
        assert set(dataset.subjects) <= {shot.subject for shot in shots}
        by_file = {shot.file: shot for shot in shots}
        for file, label in zip(dataset.files, dataset.labels, strict=True):
            matches = [shot for path, shot in by_file.items() if path.endswith(file)]
            assert [shot.label for shot in matches] == [CLASSES[label]]


def test_image_files_are_what_their_names_say(tmp_path: Path) -> None:
    for format, kind in (("jaffe", "TIFF"), ("tfeid", "JPEG"), ("mug", "JPEG"), ("ckplus", "PNG")):
        write_dataset(format, tmp_path / format, count=1)
        files = [path for path in (tmp_path / format).rglob("*.*") if path.suffix != ".txt"]
        assert files
        for file in files:
            with Image.open(file) as image:
                assert (image.size, image.mode) == SIZES[format]
                assert image.format == kind


def gradient_histograms(images: np.ndarray) -> np.ndarray:
    """Six orientations in 6 x 6 cells, standardised: the plainest features that see a smile."""
    down, right = np.gradient(images.astype(np.float64), axis=(1, 2))
    strength = np.hypot(right, down)
    orientation = (np.arctan2(down, right) % np.pi / np.pi * 6).astype(int) % 6
    cells = [
        (strength * (orientation == k)).reshape(len(images), 6, 8, 6, 8).sum(axis=(2, 4))
        for k in range(6)
    ]
    features = np.sqrt(np.stack(cells, axis=-1)).reshape(len(images), -1)
    features -= features.mean(axis=1, keepdims=True)
    return features / features.std(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("format", "count", "least"), [("fer2013", 900, 0.2), ("tfeid", 320, 0.35)]
)
def test_classes_are_told_apart_by_the_nearest_mean(
    format: str, count: int, least: float, tmp_path: Path
) -> None:
    """On people who were not seen; chance is 1 in 7, and wild faces are hard for such a method."""
    write_dataset(format, tmp_path / format, count=count)
    dataset = read(format, tmp_path / format)
    if format == "fer2013":
        train = np.array([split == "train" for split in dataset.splits])
    else:
        train = np.array([subject[1:] < "13" for subject in dataset.subjects])
    features, labels = gradient_histograms(dataset.images), dataset.labels
    means = np.stack([features[train & (labels == c)].mean(axis=0) for c in range(BASIC)])
    nearest = ((features[~train, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    truth = labels[~train]
    recall = [np.mean(nearest[truth == c] == c) for c in range(BASIC) if c in truth]
    assert len(recall) == BASIC
    assert np.mean(recall) > least


def test_writing_again_keeps_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "jaffe"
    written = write_dataset("jaffe", folder, seed=1, count=7)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    drawn: list[int] = []
    again = write_dataset("jaffe", folder, 1, 7, lambda name, done, total: drawn.append(done))
    assert again == written
    assert drawn == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_marker_says_what_it_is(tmp_path: Path) -> None:
    write_dataset("ckplus", tmp_path / "ck", seed=5, count=7)
    text = (tmp_path / "ck" / "SYNTHETIC.txt").read_text()
    assert text.startswith("SYNTHETIC FACES")
    for part in ("ckplus", "seed: 5", "version", "fercore.data.synthetic"):
        assert part in text


def test_other_parameters_and_foreign_files_are_refused_and_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "jaffe"
    write_dataset("jaffe", folder, seed=1, count=7)
    before = content(folder)
    for other in ({"seed": 2, "count": 7}, {"seed": 1, "count": 30}):
        with pytest.raises(FercoreError, match=r"other parameters \(see SYNTHETIC.txt\)"):
            write_dataset("jaffe", folder, **other)
    assert content(folder) == before

    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "KA.AN1.39.tiff").write_bytes(b"mine")
    with pytest.raises(FercoreError, match="photos: holds other files"):
        write_dataset("jaffe", photos)
    assert content(photos) == {"KA.AN1.39.tiff": b"mine"}

    with pytest.raises(FercoreError, match="is not a folder"):
        write_dataset("jaffe", photos / "KA.AN1.39.tiff")
    (tmp_path / "empty").mkdir()
    assert write_dataset("jaffe", tmp_path / "empty", count=7) == 7


def test_interrupted_writes_leave_nothing_behind(tmp_path: Path) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset("jaffe", tmp_path / "jaffe", 0, 14, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "kdef"}, "no synthetic faces for 'kdef'; choose from fer2013"),
        ({"format": "jaffe", "count": 0}, "at least 1"),
    ],
)
def test_unusable_parameters(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(FercoreError, match=message):
        write_dataset(folder=tmp_path / "x", **arguments)


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FercoreError, match="cannot be written"):
        write_dataset("jaffe", tmp_path / "file" / "jaffe", count=7)


def test_study_has_a_source_and_three_targets(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    paths = write_study(tmp_path, seed=2, scale=0.02, on_progress=lambda *state: seen.append(state))
    assert tuple(paths) == STUDY == ("fer2013", "jaffe", "tfeid", "mug")
    assert paths["fer2013"] == str(tmp_path / "fer2013" / "fer2013.csv")
    for name, path in paths.items():
        assert (tmp_path / name / "SYNTHETIC.txt").is_file()
        assert read(name, Path(path)).synthetic
        steps = [(done, total) for format, done, total in seen if format == name]
        assert steps == [(i, steps[-1][1]) for i in range(1, steps[-1][1] + 1)]
    seen.clear()
    assert write_study(tmp_path, seed=2, scale=0.02) == paths
    assert seen == []
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(FercoreError, match="scale"):
            write_study(tmp_path, scale=scale)
