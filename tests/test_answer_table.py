"""The answers of all columns side by side: seeds summed, people gathered, figures estimated."""

import numpy as np
import pytest

from fercore import metrics
from fercore.answer_table import (
    AnswerTable,
    estimate,
    estimate_accuracy,
    estimate_difference,
    read_tables,
)
from fercore.answers import Images, StudyAnswers
from fercore.errors import FercoreError
from fercore.run_directory import RunDirectory
from tests.answered import record_of, small_study, write_images, write_run


def table_of(right, subjects=None, groups=None, columns=None, dataset="tgt"):
    """A table of given right answers: ``[images, columns]`` of one seed, or ``[seeds, ...]``."""
    right = np.asarray(right)
    right = right if right.ndim == 3 else right[None]
    seeds, count, width = right.shape
    names = tuple(map(str, range(count)))
    images = Images(
        labels=np.arange(count) % 7,
        files=names,
        subjects=tuple(subjects or [""] * count),
        groups=tuple(groups or [""] * count),
        sha256=names,
    )
    return AnswerTable(
        target="tgt",
        dataset=dataset,
        columns=columns or tuple(("ABCDEFGH"[i], 100) for i in range(width)),
        seeds=tuple(range(seeds)),
        images=images,
        right=right.sum(axis=0),
        by_seed=right.sum(axis=1) / max(count, 1),
    )


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
    np.testing.assert_allclose(target.accuracies, [2 / 6, 5 / 6, 2 / 6])


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
    np.testing.assert_array_equal(source.by_seed[:, 0], [0.5, 1, 0])
    assert source.accuracies[0] == pytest.approx(3 / 6)
    assert target.accuracies[0] == 1


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
    right = (random.random((40, 2)) < [0.5, 0.9]).astype(int)
    table, other = table_of(right), table_of(random.permutation(right), dataset="src")
    found = estimate_difference(table, 1, 0)
    assert found.value == pytest.approx(right[:, 1].mean() - right[:, 0].mean())
    assert found.interval.low < found.value < found.interval.high
    # The sum of two that are drawn apart is less uncertain than twice the one.
    twice = estimate(lambda a, b: a[..., 1] + b[..., 1], table, other)
    once = estimate(lambda a: a[..., 1], table)
    assert twice.value == pytest.approx(2 * once.value)
    assert width(twice) == pytest.approx(np.sqrt(2) * width(once), rel=0.05)


def width(found):
    return found.interval.high - found.interval.low


def test_people_who_differ_widen_an_interval_and_people_who_agree_do_not_narrow_it():
    differ = np.repeat([[1], [1], [1], [0], [0], [0]], 10, axis=0)
    agree = np.tile([[1], [0]], (30, 1))
    people = [str(i // 10) for i in range(60)]
    for right, wider in ((differ, True), (agree, False)):
        table = table_of(right, subjects=people)
        by_person, by_image = (
            estimate_accuracy(table, 0),
            estimate_accuracy(table, 0, by_image=True),
        )
        assert by_person.value == by_image.value == 0.5
        assert (width(by_person) > 1.5 * width(by_image)) == wider
        assert width(by_person) >= width(by_image)


def test_all_right_is_not_always_right():
    found = estimate_accuracy(table_of(np.ones((20, 1), int)), 0)
    assert found.value == 1
    assert found.interval.low == pytest.approx(metrics.wilson(20, 20).low)


def test_source_and_target_are_drawn_apart(tmp_path):
    """The same draws for both would make independent errors cancel or double."""
    source, target = read_tables(*small_study(tmp_path))
    assert source.units[-1].draws != target.units[-1].draws


def test_one_person_gives_no_interval():
    table = table_of([[1, 0], [0, 0]], subjects=["ann", "ann"])
    assert estimate_accuracy(table, 0).interval is None
    assert estimate_accuracy(table, 0, by_image=True).interval is not None


def test_no_image_gives_no_figure():
    table = table_of(np.zeros((0, 2), int))
    found = estimate_difference(table, 0, 1)
    assert np.isnan(found.value)
    assert found.interval is None
