"""The newer formats in one study, as source or target: people, official parts, classes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from fercore.config import study_from
from fercore.data.dataset import BASIC
from fercore.study_data import StudyData, load_study
from tests.data import test_affectnet, test_ferplus, test_rafdb
from tests.data.test_pixel_csv import text, write
from tests.data.trees import write_images

CODES = ("AF", "AN", "DI", "HA", "NE", "SA", "SU")
WORDS = (
    *("angry", "contemptuous", "disgusted", "fearful"),
    *("happy", "neutral", "sad", "surprised"),
)


def write_kdef(root: Path) -> None:
    people = [sex + number for sex in "FM" for number in ("01", "02", "03")]
    write_images(root, *(f"A{who}{code}S.png" for who, code in itertools.product(people, CODES)))


def write_rafd(root: Path) -> None:
    names = itertools.product(range(1, 6), WORDS, ("frontal", "left"))
    write_images(root, *(f"Rafd090_{n:02}_Kid_male_{word}_{gaze}.png" for n, word, gaze in names))


def write_rafdb(root: Path) -> None:
    lines = [f"train_{n:05}.jpg {1 + n % 7}" for n in range(70)]
    test_rafdb.write(root, lines + [f"test_{n:04}.jpg {1 + n % 7}" for n in range(14)])


def write_affectnet(root: Path) -> None:
    train = [f"1/{n:x}.png" for n in range(80)]
    held = [f"2/{n:x}.png" for n in range(16)]
    for name, files in (("training.csv", train), ("validation.csv", held)):
        rows = (test_affectnet.row(file, n % 8) for n, file in enumerate(files))
        test_affectnet.write_list(root, name, *rows)
    write_images(root / "Manually_Annotated_Images", *train, *held)


def write_ferplus(root: Path) -> None:
    root.mkdir()
    usages = ["Training"] * 48 + ["PublicTest"] * 16 + ["PrivateTest"] * 16
    write(root / "fer2013.csv", *(f"0,{text(n)},{usage}" for n, usage in enumerate(usages)))
    ballots = [test_ferplus.votes(n % 10) for n in range(len(usages))]
    test_ferplus.write_votes(root, ballots, usages)


WRITERS = {
    "kdef": write_kdef,
    "rafd": write_rafd,
    "rafdb": write_rafdb,
    "affectnet": write_affectnet,
    "ferplus": write_ferplus,
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    for name, writer in WRITERS.items():
        writer(root / name)
    return root


def study_data(trees: Path, source: str, *targets: str) -> StudyData:
    study = study_from(
        {
            "source": f"{source}={trees / source}",
            "targets": [f"{target}={trees / target}" for target in targets],
        }
    )
    return load_study(study, trees, cache=False)


@pytest.mark.parametrize("source", WRITERS)
def test_any_is_a_source_or_a_target(source: str, trees: Path) -> None:
    targets = [name for name in WRITERS if name != source]
    data = study_data(trees, source, *targets)
    for name in WRITERS:
        entry = data.datasets[name]
        rows = np.concatenate(list(entry.parts.rows().values()))
        assert sorted(rows) == list(range(len(entry.dataset)))
        assert all(len(part) for part in entry.parts.rows().values())
        assert set(entry.dataset.labels) == set(range(BASIC))
    for target in targets:
        assert data.shared_classes(target) == tuple(range(BASIC))


@pytest.mark.parametrize(("name", "people"), [("kdef", 6), ("rafd", 5)])
def test_nobody_is_in_two_parts(name: str, people: int, trees: Path) -> None:
    entry = study_data(trees, name, "rafdb").datasets[name]
    parts = [{entry.dataset.subjects[row] for row in rows} for rows in entry.parts.rows().values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == people


@pytest.mark.parametrize(("name", "tests"), [("rafdb", 14), ("affectnet", 14)])
def test_the_official_test_part_stays_as_it_is(name: str, tests: int, trees: Path) -> None:
    entry = study_data(trees, name, "kdef").datasets[name]
    assert len(entry.parts.test) == tests
    assert {entry.dataset.splits[row] for row in entry.parts.test} == {"test"}
    assert {entry.dataset.splits[row] for row in entry.parts.validation} == {"train"}
    assert any("no validation part" in note for note in entry.parts.notes)
