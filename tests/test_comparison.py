"""Every pair of strategies: who is judged, by what, and how it ends."""

import numpy as np
import pytest

from fercore.comparison import compare
from fercore.statistics import paired
from tests.test_answer_table import table_of

COLUMNS = (("BL", None), ("FC", 50), ("FC", 100), ("RE", 50), ("RE", 100))


def test_pairs_are_those_of_one_amount_and_bl_with_all():
    compared = compare(table_of(np.ones((4, 5), int), columns=COLUMNS))
    assert {(c.second, c.first) for c in compared} == {
        *((("BL", None), column) for column in COLUMNS[1:]),
        (("FC", 50), ("RE", 50)),
        (("FC", 100), ("RE", 100)),
    }


def test_a_clear_difference_and_none():
    """B is right on 30 of 40 images more than A, C on one more than B."""
    right = np.zeros((40, 3), int)
    right[:30, 1] = right[:31, 2] = 1
    found = {(c.first[0], c.second[0]): c for c in compare(table_of(right))}
    better, same = found["B", "A"], found["C", "B"]
    assert better.difference == pytest.approx(0.75)
    assert (better.only_first, better.only_second) == (30, 0)
    (judgement,) = better.judgements
    assert (judgement.unit, judgement.units, judgement.verdict) == ("image", 40, "better")
    assert judgement.p == pytest.approx(paired.mcnemar(30, 0))
    assert judgement.interval.low > 0.5
    assert same.judgements[0].verdict == "not distinguishable"
    assert same.judgements[0].p == 1


def test_order_decides_between_better_and_worse():
    right = np.zeros((40, 2), int)
    right[:30, 0] = 1
    (found,) = compare(table_of(right))
    assert found.first == ("B", 100)
    assert found.judgements[0].verdict == "worse"
    assert found.difference < 0


def test_p_values_are_corrected_over_all_pairs_of_the_table(random):
    right = (random.random((60, 4)) < [0.3, 0.4, 0.5, 0.6]).astype(int)
    compared = compare(table_of(right))
    p_values = [c.judgements[0].p for c in compared]
    assert len(p_values) == 6
    assert [c.judgements[0].p_holm for c in compared] == pytest.approx(paired.holm(p_values))


@pytest.mark.parametrize(("people", "verdict"), [(3, "not testable"), (6, "better")])
def test_three_people_cannot_decide_and_six_who_agree_can(people, verdict):
    right = np.zeros((people * 10, 2), int)
    right[:, 1] = 1
    subjects = [str(i // 10) for i in range(len(right))]
    (found,) = compare(table_of(right, subjects=subjects))
    by_person, by_image = found.judgements
    assert (by_person.unit, by_person.units) == ("subject", people)
    assert by_person.p == pytest.approx(2.0 ** (1 - people))
    assert by_person.verdict == verdict
    assert (by_image.unit, by_image.verdict) == ("image", "better")


def test_enough_people_for_one_pair_can_be_too_few_for_many():
    """Six reach p = 0.03, which three pairs make 0.09."""
    right = np.zeros((6, 3), int)
    right[:, 1:] = 1
    subjects = list("abcdef")
    verdicts = {c.judgements[0].verdict for c in compare(table_of(right, subjects=subjects))}
    assert verdicts == {"not testable"}


def test_a_person_counts_once_however_many_images_there_are():
    """B is better for five of six people, by 50 images; the sixth undoes it."""
    right = np.zeros((60, 2), int)
    right[:50, 1] = 1
    right[50:, 0] = 1
    subjects = [str(i // 10) for i in range(60)]
    (found,) = compare(table_of(right, subjects=subjects))
    by_person, by_image = found.judgements
    assert by_image.verdict == "better"
    assert by_person.p == pytest.approx(14 / 64)  # sums of four or six equal signs
    assert by_person.verdict == "not distinguishable"
    assert by_person.interval.low < 0 < by_image.interval.low


def test_one_person_has_no_interval():
    (found,) = compare(table_of([[1, 0], [0, 0]], subjects=["ann", "ann"]))
    assert found.judgements[0].interval is None
    assert found.judgements[0].verdict == "not testable"


COUNTS = np.array([[3, 1], [2, 2], [1, 0], [3, 3], [0, 2]])
"""How many of three seeds got each of five images right, for two columns."""

SEEDS = np.array([seed < COUNTS for seed in range(3)])
"""Which they were: accuracies are 4/5, 3/5, 2/5 and 4/5, 3/5, 1/5."""


def test_several_seeds_are_judged_together():
    """An image's score is 0 to 3, and its difference is flipped as a whole."""
    (found,) = compare(table_of(SEEDS))
    assert found.difference == pytest.approx((8 - 9) / 15)
    assert found.only_first is None
    assert found.judgements[0].p == pytest.approx(paired.sign_flip(np.array([-2, 0, -1, 0, 2])))


def test_the_spread_over_seeds_is_told_apart():
    (found,) = compare(table_of(SEEDS))
    differences = np.array([0, 0, -0.2])
    assert found.over_seeds.mean == pytest.approx(differences.mean())
    assert found.over_seeds.sd == pytest.approx(differences.std(ddof=1))
    assert found.over_seeds.mean == pytest.approx(found.difference)
    (single,) = compare(table_of(SEEDS[0]))
    assert single.over_seeds.sd is None
