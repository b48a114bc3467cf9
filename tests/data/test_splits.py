from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from fercore.data.dataset import BASIC, SPLITS, Dataset
from fercore.data.parts import Parts, leaked_twins
from fercore.data.splits import k_fold, leave_one_subject_out, part_of_training, split
from fercore.errors import FercoreError

from .values import JAFFE_SUBJECTS, make_dataset, make_jaffe, make_mug, make_tfeid, steady


def sizes(parts: Parts) -> tuple[int, ...]:
    return tuple(len(rows) for rows in parts.rows().values())


def values_of(column: tuple[str, ...], rows: np.ndarray) -> set[str]:
    return {column[row] for row in rows} - {""}


def assert_disjoint(dataset: Dataset, parts: Parts, *columns: tuple[str, ...]) -> None:
    """Every row in one part, every value of the columns in one part."""
    rows = list(parts.rows().values())
    assert all(part.dtype == np.int64 and len(part) for part in rows)
    assert all(np.all(np.diff(part) > 0) for part in rows)
    assert sorted(np.concatenate(rows)) == list(range(len(dataset)))
    for column in columns:
        for a, b in combinations(rows, 2):
            assert not values_of(column, a) & values_of(column, b)


def class_counts(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    return np.bincount(dataset.labels[rows], minlength=BASIC)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """Small sets with people or without, sequences, and some images that occur several times."""
    people = draw(st.integers(0, 12))
    count = draw(st.integers(12, 60))
    label = st.integers(0, BASIC - 1)
    labels = draw(st.lists(label, min_size=count, max_size=count))
    owner = [f"p{i % people}" if people else "" for i in range(count)]
    groups = [f"g{i % 20}" if draw(st.booleans()) else "" for i in range(count)]
    twins = draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, count - 1), max_size=3))
    contents = [twins.get(row, row) for row in range(count)]
    return make_dataset(labels, owner, groups, contents=contents)


def split_or_reject(dataset: Dataset, seed: int) -> Parts:
    """The split; drawn examples whose rows hang together in fewer than three units do not count."""
    try:
        return split(dataset, seed=seed)
    except FercoreError:
        reject()


# -- sets without an official split ------------------------------------------------------------


@steady
@given(datasets(), st.integers(0, 3))
def test_people_sequences_and_identical_images_are_in_one_part(dataset, seed):
    parts = split_or_reject(dataset, seed)

    assert_disjoint(dataset, parts, dataset.subjects, dataset.groups, dataset.sha256)


@steady
@given(datasets(), st.randoms(use_true_random=False))
def test_the_order_and_names_of_files_change_nothing(dataset, random):
    order = list(range(len(dataset)))
    random.shuffle(order)
    parts = split_or_reject(dataset, seed=1)

    shuffled = split(dataset.select(order), seed=1)

    for name in SPLITS:
        assert {order[row] for row in shuffled.rows()[name]} == set(parts.rows()[name])


def test_the_seed_decides():
    dataset = make_dataset([i % 7 for i in range(700)])

    first, again, other = (split(dataset, seed=seed) for seed in (0, 0, 1))

    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_sets_without_people_are_stratified_to_the_image():
    labels = [0] * 400 + [3] * 240 + [5] * 60
    dataset = make_dataset(labels)

    parts = split(dataset)

    assert sizes(parts) == (560, 70, 70)
    assert np.array_equal(class_counts(dataset, parts.test), [40, 0, 0, 24, 0, 6, 0])
    assert np.array_equal(class_counts(dataset, parts.validation), [40, 0, 0, 24, 0, 6, 0])


def test_fractions_are_followed():
    parts = split(make_dataset([i % 7 for i in range(100)]), fractions=(0.5, 0.2, 0.3))

    assert sizes(parts) == (50, 20, 30)


@pytest.mark.parametrize(
    ("people", "count"),
    [(["a"] * 5 + ["b"] * 5, 2), (["a"] * 10, 1)],
)
def test_fewer_people_than_parts_are_refused_with_the_mend(people, count):
    dataset = make_dataset([0, 1] * 5, people, name="lab")

    with pytest.raises(
        FercoreError, match=rf"lab: too few subjects \({count}\) .* --splits DIR .* DIR/lab\.csv"
    ):
        split(dataset)


def test_people_tied_by_an_identical_image_count_as_one():
    dataset = make_dataset([0, 1, 2], ["a", "b", "c"], contents=["same", "same", "other"])

    with pytest.raises(FercoreError, match=r"too few subjects \(2\)"):
        split(dataset)


def test_two_images_are_refused():
    with pytest.raises(FercoreError, match=r"too few distinct images \(2\) for 3 parts"):
        split(make_dataset([0, 1]))


def test_an_unknown_rule_is_refused(tmp_path):
    with pytest.raises(FercoreError, match="nor a rule; did you mean 'paper'"):
        split(make_jaffe(), tmp_path / "papr")


# -- the paper's counts ------------------------------------------------------------------------


def test_jaffe_has_the_papers_counts():
    dataset = make_jaffe()

    parts = split(dataset)

    assert sizes(parts) == (131, 15, 67)
    assert values_of(dataset.subjects, parts.test) == {"KA", "KL", "KM"}
    assert not values_of(dataset.subjects, parts.train) & {"KA", "KL", "KM"}
    assert class_counts(dataset, parts.validation).min() >= 2
    notes = " ".join(parts.notes)
    assert "131/15/67; in the paper 131/15/67" in notes
    assert "Subjects in both train and validation: " in notes


def test_strict_jaffe_validates_on_a_person_of_its_own():
    dataset = make_jaffe()

    parts = split(dataset, "strict")

    assert_disjoint(dataset, parts, dataset.subjects)
    assert values_of(dataset.subjects, parts.test) == {"KA", "KL", "KM"}
    # Of the other seven people, KR and NM with 20 images come nearest to 15.
    assert values_of(dataset.subjects, parts.validation) <= {"KR", "NM"}
    assert sizes(parts) == (126, 20, 67)
    assert not any("Subjects in both" in note for note in parts.notes)


def test_validation_images_of_jaffe_leave_their_twins_in_the_same_part():
    dataset = make_jaffe()
    people = [row for row, name in enumerate(dataset.subjects) if name in ("YM", "NA")]
    contents = [row // 2 if row in people else str(row) for row in range(len(dataset))]
    dataset = make_dataset(
        list(dataset.labels), dataset.subjects, contents=contents, format="jaffe", name="jaffe"
    )

    parts = split(dataset)

    assert_disjoint(dataset, parts, dataset.sha256)


def test_jaffe_without_the_papers_people_is_split_by_people_in_the_same_proportions():
    others = {name: count for name, count in JAFFE_SUBJECTS.items() if name not in ("KA", "KM")}
    dataset = make_jaffe(others)

    parts = split(dataset)

    assert_disjoint(dataset, parts, dataset.subjects)
    assert abs(len(parts.test) - len(dataset) * 67 / 213) <= 11
    assert abs(len(parts.validation) - len(dataset) * 15 / 213) <= 11


def test_jaffe_of_two_people_says_what_to_do():
    with pytest.raises(FercoreError, match=r"jaffe: too few subjects \(2\) .* --splits DIR"):
        split(make_jaffe({"KA": 23, "KL": 22}))


@pytest.mark.parametrize("make", [make_tfeid, make_mug])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", ["paper", "strict"])
def test_tfeid_and_mug_come_within_half_a_person_of_the_papers_proportions(make, seed, rule):
    dataset = make(seed)
    paper = {"tfeid": (405, 47, 58), "mug": (5877, 741, 734)}[dataset.format]

    parts = split(dataset, rule, seed)

    assert_disjoint(dataset, parts, dataset.subjects, dataset.groups)
    smallest = min(Counter(dataset.subjects).values())
    for reached, target in zip(sizes(parts), paper, strict=True):
        assert abs(reached - target * len(dataset) / sum(paper)) <= max(8, smallest / 2)
    for name in ("validation", "test"):
        counts = class_counts(dataset, parts.rows()[name])
        assert counts.min() > 0
    assert any("in the paper" in note for note in parts.notes)


# -- official splits ---------------------------------------------------------------------------


def fer_like(train: int = 300, validation: int = 40, test: int = 0, seed: int = 0) -> Dataset:
    """Labels in FER2013's proportions; every tenth image is a copy of another one."""
    random = np.random.default_rng(seed)
    count = train + validation + test
    labels = random.choice(7, count, p=np.array([14, 2, 14, 25, 17, 11, 17]) / 100)
    contents = [row if row % 10 else int(random.integers(count)) for row in range(count)]
    official = ["train"] * train + ["validation"] * validation + ["test"] * test
    return make_dataset(
        [int(label) for label in labels], splits=official, contents=contents, format="fer2013"
    )


def test_an_official_split_stays_as_it_is_and_its_leaks_are_counted():
    dataset = fer_like(test=40)

    parts = split(dataset)

    for name in SPLITS:
        official = [row for row, part in enumerate(dataset.splits) if part == name]
        assert list(parts.rows()[name]) == official
    in_train = {dataset.sha256[row] for row in parts.train}
    leaked = [row for row in parts.test if dataset.sha256[row] in in_train]
    assert leaked
    assert list(leaked_twins(dataset, parts)) == leaked
    assert f"Exact twins in train: {len(leaked)} of 40 test images." in parts.notes


@pytest.mark.parametrize("seed", range(3))
def test_a_missing_test_part_is_drawn_from_train(seed):
    dataset = fer_like(seed=seed)

    parts = split(dataset, seed=seed)

    assert sizes(parts) == (260, 40, 40)
    assert list(parts.validation) == list(range(300, 340))
    test_images = values_of(dataset.sha256, parts.test)
    assert not test_images & values_of(dataset.sha256, parts.train)
    assert not test_images & values_of(dataset.sha256, parts.validation)
    quotas = class_counts(dataset, np.arange(300)) * 40 / 300
    assert np.all(np.abs(class_counts(dataset, parts.test) - quotas) < 3)
    assert any("no test part: 40 images" in note for note in parts.notes)


def test_a_missing_validation_part_is_drawn_by_its_fraction():
    dataset = make_dataset([0, 1] * 50, splits=["train"] * 80 + ["test"] * 20)

    parts = split(dataset)

    assert sizes(parts) == (70, 10, 20)
    assert list(parts.test) == list(range(80, 100))


def test_a_part_drawn_from_an_official_one_shares_no_people_either():
    people = [f"p{row // 10}" for row in range(100)]
    dataset = make_dataset([0, 1] * 50, people, splits=["train"] * 80 + ["validation"] * 20)

    parts = split(dataset)

    assert_disjoint(dataset, parts, dataset.subjects)
    assert sizes(parts) == (60, 20, 20)


def test_people_in_both_official_parts_are_no_obstacle_but_noted():
    people = [f"p{row % 5}" for row in range(100)]
    dataset = make_dataset([0, 1] * 50, people, splits=["train"] * 80 + ["test"] * 20)

    parts = split(dataset)

    assert sizes(parts) == (70, 10, 20)
    assert "Subjects in both train and test: 5 (p0, p1, p2, p3, p4)." in parts.notes


def test_train_alone_is_split_like_a_set_without_parts():
    dataset = make_dataset([i % 7 for i in range(100)], splits=["train"] * 100)

    assert sizes(split(dataset)) == (80, 10, 10)


def test_rows_outside_the_official_parts_stay_out():
    dataset = make_dataset([0, 1] * 4, splits=["train"] * 4 + ["validation", "test", "", ""])

    parts = split(dataset)

    assert sizes(parts) == (4, 1, 1)
    assert "Images in no part: 2." in parts.notes


def test_a_training_part_that_cannot_give_a_test_part_is_refused():
    dataset = make_dataset([0, 1] * 5, splits=["train"] * 4 + ["validation"] * 6, name="lab")

    with pytest.raises(FercoreError, match=r"lab: no 6 images for a test part .* --splits DIR"):
        split(dataset)


# -- a share of the training part --------------------------------------------------------------


@steady
@given(datasets(), st.integers(1, 100), st.integers(1, 100), st.integers(0, 2))
def test_amounts_are_nested_and_take_sequences_whole(dataset, amount, other, seed):
    train = np.arange(len(dataset))[::-1].copy()

    less, more = (
        part_of_training(dataset, train, percent, seed) for percent in sorted((amount, other))
    )

    assert set(less) <= set(more)
    for chosen in (less, more):
        position = {row: i for i, row in enumerate(train)}
        assert list(chosen) == sorted(chosen, key=position.get)
        left = np.setdiff1d(train, chosen)
        assert not values_of(dataset.groups, chosen) & values_of(dataset.groups, left)
        assert not values_of(dataset.sha256, chosen) & values_of(dataset.sha256, left)


def test_half_of_single_images_is_half_of_every_class():
    dataset = make_jaffe()
    train = split(dataset).train

    half = part_of_training(dataset, train, 50, seed=0)

    assert len(half) in (65, 66)
    assert np.all(np.abs(class_counts(dataset, half) - class_counts(dataset, train) / 2) <= 1)
    assert not np.array_equal(half, part_of_training(dataset, train, 50, seed=1))
    assert np.array_equal(half, part_of_training(dataset, train, 50, seed=0))


def test_half_of_sequences_is_half_within_a_sequence():
    dataset = make_mug(0)
    train = split(dataset).train
    frames = Counter(dataset.groups).most_common(1)[0][1]

    half = part_of_training(dataset, train, 50, seed=0)

    assert abs(len(half) - len(train) / 2) <= frames / 2
    difference = class_counts(dataset, half) - class_counts(dataset, train) / 2
    assert np.all(np.abs(difference) <= frames)


def test_all_of_the_training_part_keeps_its_order():
    dataset = make_jaffe()
    train = split(dataset).train[::-1]

    assert np.array_equal(part_of_training(dataset, train, 100, seed=0), train)


def test_the_smallest_amount_keeps_every_class():
    dataset = make_dataset([0] * 500 + [1, 1, 4])

    chosen = part_of_training(dataset, np.arange(503), 1, seed=0)

    assert set(dataset.labels[chosen]) == {0, 1, 4}


@pytest.mark.parametrize("amount", [0, -5, 101])
def test_amounts_outside_1_to_100_are_refused(amount):
    with pytest.raises(FercoreError, match="percentage from 1 to 100"):
        part_of_training(make_jaffe(), np.arange(10), amount, seed=0)


# -- folds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 5, 10])
def test_folds_are_disjoint_by_people_and_their_tests_make_up_the_set(k):
    dataset = make_jaffe()

    folds = list(k_fold(dataset, k))

    assert len(folds) == k
    for parts in folds:
        assert_disjoint(dataset, parts, dataset.subjects)
    assert sorted(np.concatenate([parts.test for parts in folds])) == list(range(213))
    assert max(len(parts.test) for parts in folds) <= 213 / k + 22
    assert folds[0].notes[0] == f"Fold 1 of {k}."


def test_folds_of_single_images_are_stratified():
    dataset = make_dataset([0] * 50 + [1] * 25)

    for parts in k_fold(dataset, 5):
        assert list(class_counts(dataset, parts.test)[:2]) == [10, 5]


@pytest.mark.parametrize("k", [1, 2, 11])
def test_impossible_folds_are_refused(k):
    with pytest.raises(FercoreError, match="choose from 3 to 10, the number of its subjects"):
        k_fold(make_jaffe(), k)


def test_leaving_out_one_subject_tests_everybody_once():
    dataset = make_jaffe()

    folds = list(leave_one_subject_out(dataset))

    assert [parts.notes[0] for parts in folds] == [
        f"Test: {name}." for name in sorted(JAFFE_SUBJECTS)
    ]
    for parts in folds:
        assert_disjoint(dataset, parts, dataset.subjects)
        assert len(values_of(dataset.subjects, parts.test)) == 1
        assert len(values_of(dataset.subjects, parts.validation)) == 1


def test_leaving_out_one_subject_works_where_one_has_nearly_all_images():
    dataset = make_jaffe({"KA": 95} | dict.fromkeys(["KL", "KR", "MK", "NA", "NM"], 1))

    without_ka = next(iter(leave_one_subject_out(dataset)))

    assert_disjoint(dataset, without_ka, dataset.subjects)
    assert sizes(without_ka) == (4, 1, 95)


def test_leaving_out_unnamed_subjects_is_refused():
    dataset = make_dataset([0, 1, 0, 1], ["a", "b", "", "c"], name="lab")

    with pytest.raises(FercoreError, match=r"1 of 4 images do not name, the first angry/2\.png"):
        leave_one_subject_out(dataset)


def test_leaving_one_of_two_subjects_out_is_refused():
    with pytest.raises(FercoreError, match=r"too few subjects \(2\)"):
        leave_one_subject_out(make_jaffe({"KA": 5, "KL": 5}))
