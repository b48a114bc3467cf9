"""The answers of all columns side by side: seeds summed, people gathered, figures estimated."""

import numpy as np
import pytest

from fercore.answer_table import AnswerTable, estimate, read_tables
from fercore.answers import Images, StudyAnswers
from fercore.errors import FercoreError
from fercore.run_directory import RunDirectory
from tests.answered import record_of, small_study, write_images, write_run


def table_of(right, subjects=None, groups=None, seeds=(0,), columns=None):
    """A table of given right answers, ``[images, columns]``."""
    right = np.asarray(right)
    count = len(right)
    names = tuple(map(str, range(count)))
    images = Images(
        labels=np.arange(count) % 7,
        files=names,
        subjects=tuple(subjects or [""] * count),
        groups=tuple(groups or [""] * count),
        sha256=names,
    )
    columns = columns or tuple(("ABCDEFGH"[i], 100) for i in range(right.shape[1]))
    return AnswerTable("tgt", "tgt", columns, seeds, images, right)


def test_two_tables_a_target_with_every_column(tmp_path):
    source, target = read_tables(*small_study(tmp_path))
    assert (source.target, source.dataset) == ("tgt", "src")
    assert (target.target, target.dataset) == ("tgt", "tgt")
    assert source.columns == target.columns == (("BL", None), ("FC", 100), ("TO", 100))
    np.testing.assert_array_equal(source.right.T, [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(target.right[:, 1], [1, 1, 1, 0, 1, 1])
    assert target.images.files[0] == "tgt-test-0.png"


def test_people_are_units_where_they_are_known(tmp_path):
    source, target = read_tables(*small_study(tmp_path))
    assert [(units.name, len(units)) for units in source.units] == [("image", 4)]
    assert [(units.name, len(units)) for units in target.units] == [("subject", 3), ("image", 6)]
    people = target.units[0]
    np.testing.assert_array_equal(people.sizes, [2, 3, 1])
    np.testing.assert_array_equal(people.sums, [[0, 2, 1], [1, 2, 1], [1, 1, 0]])
    np.testing.assert_allclose(people.accuracies, [2 / 6, 5 / 6, 2 / 6])


def test_sequences_stand_in_for_people_and_the_nameless_for_themselves():
    table = table_of(np.ones((4, 1), int), groups=["take", "", "take", ""])
    assert [(units.name, len(units)) for units in table.units] == [("sequence", 3), ("image", 4)]
    assert sorted(table.units[0].sizes) == [1, 1, 2]


def test_seeds_are_counted_together(tmp_path):
    directory = RunDirectory(tmp_path)
    for dataset in ("src", "tgt"):
        write_images(directory, dataset, [("", "a"), ("", "b")])
    rights = {"BL-s0": [1, 0], "BL-s1": [1, 1], "BL-s2": [0, 0]}
    for run, right in rights.items():
        write_run(directory, run, {"src": right, "tgt": [1, 1]})
    records = [record_of(run, "BL", None, seed=i) for i, run in enumerate(rights)]
    source, target = read_tables(StudyAnswers(directory), records)
    assert source.seeds == (0, 1, 2)
    np.testing.assert_array_equal(source.right[:, 0], [2, 1])
    assert source.units[0].accuracies[0] == pytest.approx(3 / 6)
    assert target.units[0].accuracies[0] == 1


def test_columns_with_other_seeds_are_refused(tmp_path):
    answers, records = small_study(tmp_path)
    records.append(record_of("BL", "BL", None, seed=1))
    with pytest.raises(FercoreError, match=r"results\.json: FC 100 has the seeds \[0\], other"):
        read_tables(answers, records)


def test_shared_classes_leave_out_images_and_answers(tmp_path):
    """The target has no neutral face: those of the source go, and an answer 'neutral' does too."""
    answers, records = small_study(tmp_path)
    whole, _ = read_tables(answers, records)
    assert whole.images.labels.tolist() == [5, 6, 0, 1]
    assert whole.right[:, 1].tolist() == [1, 0, 0, 0]
    some, _ = read_tables(answers, records, shared=True)
    assert some.images.labels.tolist() == [5, 0, 1]
    assert some.images.files == tuple(whole.images.files[i] for i in (0, 2, 3))
    # The angry face was taken for neutral; among the other logits, all equal, angry is the first.
    assert some.right[:, 1].tolist() == [1, 1, 0]


def test_an_estimate_resamples_what_it_is_made_of(random):
    right = random.random((40, 2)) < [0.5, 0.9]
    people = np.repeat(np.arange(8), 5).astype(str).tolist()
    by_person, by_image = table_of(right.astype(int), subjects=people).units
    found = estimate(lambda a: a[..., 1] - a[..., 0], by_person, bounds=(-1, 1))
    assert found.value == pytest.approx(right[:, 1].mean() - right[:, 0].mean())
    assert found.interval.low < found.value < found.interval.high
    # A sum of two that are drawn apart is less uncertain than twice the one.
    twice = estimate(lambda a, b: a[..., 1] + b[..., 1], by_person, by_image)
    once = estimate(lambda a: a[..., 1], by_person)
    assert twice.value == pytest.approx(2 * once.value)
    assert twice.interval.high - twice.interval.low < 2 * (once.interval.high - once.interval.low)


def test_source_and_target_are_drawn_apart(tmp_path):
    """The same draws for both would make independent errors cancel or double."""
    source, target = read_tables(*small_study(tmp_path))
    assert source.units[-1].draws != target.units[-1].draws


def test_one_person_gives_no_interval():
    table = table_of([[1, 0], [0, 0]], subjects=["ann", "ann"])
    assert estimate(lambda a: a[..., 0], table.units[0]).interval is None
    assert estimate(lambda a: a[..., 0], table.units[1]).interval is not None
