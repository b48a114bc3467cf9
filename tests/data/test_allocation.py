"""Sharing out units, held against an exhaustive search on small sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercore.data.allocation import apportion, cluster, share_out, stratified_order
from fercore.data.dataset import BASIC

from .values import make_dataset, steady


def test_units_hold_together_what_is_tied_through_several_rows():
    # 0 and 1 by person, 1 and 2 by image, 2 and 3 by sequence; 4 stands alone.
    dataset = make_dataset(
        [0] * 5,
        subjects=["a", "a", "b", "", ""],
        groups=["", "", "take", "take", ""],
        contents=["p", "q", "q", "r", "s"],
    )

    units = cluster(dataset, np.arange(5), by_subject=True)
    without_people = cluster(dataset, np.arange(5), by_subject=False)

    assert sorted(map(list, units.rows)) == [[0, 1, 2, 3], [4]]
    assert sorted(map(list, without_people.rows)) == [[0], [1, 2, 3], [4]]


def test_ties_outside_the_rows_do_not_count():
    dataset = make_dataset([0] * 3, subjects=["a", "a", "a"], contents=["p", "q", "r"])

    units = cluster(dataset, np.array([0, 2]), by_subject=False)

    assert sorted(map(list, units.rows)) == [[0], [2]]


@pytest.mark.parametrize(
    ("shares", "total", "counts"),
    [
        ((131, 15, 67), 213, (131, 15, 67)),
        ((0.8, 0.1, 0.1), 10, (8, 1, 1)),
        ((0.8, 0.1, 0.1), 3, (1, 1, 1)),
        ((0.8, 0.1, 0.1), 927, (741, 93, 93)),
        ((405, 47, 58), 255, (203, 23, 29)),  # quotas 202.5, 23.5, 29: of two ties the first
        ((1, 1, 1), 2, (1, 1, 0)),
    ],
)
def test_apportion(shares, total, counts):
    result = apportion(shares, total)

    assert sum(result) == total
    assert result == counts


@steady
@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_apportion_gives_every_quota_within_one_unless_it_would_be_nothing(shares, total):
    counts = np.array(apportion(shares, total))
    quotas = np.array(shares) / sum(shares) * total

    assert counts.sum() == total
    if total >= len(shares):
        assert counts.min() >= 1
    if quotas.min() >= 1:
        assert np.all(np.abs(counts - quotas) < 1 + 1e-6)


def _cost(part: tuple[int, ...], counts: np.ndarray, sizes: tuple[int, ...]) -> float:
    """The definition: squared deviations of sizes, and of classes at a tenth and rare ones more."""
    totals = counts.sum(axis=0)
    present = totals > 0
    cost = 0.0
    for p, size in enumerate(sizes):
        inside = counts[np.array(part) == p].sum(axis=0)
        cost += (inside.sum() - size) ** 2
        share = size / sum(sizes)
        for c in np.flatnonzero(present):
            weight = 0.1 * totals.sum() / (present.sum() * totals[c])
            cost += weight * (inside[c] - share * totals[c]) ** 2
    return cost


@pytest.mark.parametrize("seed", range(3))
def test_search_finds_what_an_exhaustive_search_finds(seed):
    random = np.random.default_rng(seed)
    labels, people = [], []
    for person in range(8):
        images = random.integers(4, 15)
        labels += list(random.integers(0, BASIC, images))
        people += [f"p{person}"] * int(images)
    dataset = make_dataset(labels, people)
    units = cluster(dataset, np.arange(len(dataset)), by_subject=True)
    sizes = apportion((0.6, 0.2, 0.2), len(dataset))

    found = share_out(units, sizes, seed)

    best = min(
        _cost(part, units.counts, sizes)
        for part in itertools.product(range(3), repeat=8)
        if len(set(part)) == 3
    )
    assert _cost(tuple(found), units.counts, sizes) == pytest.approx(best)


@steady
@given(st.data())
def test_single_images_are_shared_out_exactly_and_stratified(data):
    labels = data.draw(st.lists(st.integers(0, 6), min_size=3, max_size=150))
    shares = data.draw(st.sampled_from([(0.8, 0.1, 0.1), (1, 1, 1), (1, 1), (5, 3, 2)]))
    dataset = make_dataset(labels)
    units = cluster(dataset, np.arange(len(labels)), by_subject=True)
    sizes = apportion(shares, len(labels))

    part = share_out(units, sizes, seed=data.draw(st.integers(0, 9)))

    assert tuple(np.bincount(part, minlength=len(sizes))) == sizes
    present = np.bincount(labels, minlength=7) > 0
    for p in range(1, len(sizes)):
        inside = units.counts[part == p].sum(axis=0)
        # Before p is drawn, the parts after it have taken theirs from every class.
        before = units.counts[part <= p].sum(axis=0)
        quotas = before * sizes[p] / before.sum()
        # Every class's first image comes early, which may cost the others one each.
        assert np.all(np.abs(inside - quotas)[present] <= 2)


@steady
@given(st.lists(st.integers(1, 9), min_size=3, max_size=12), st.integers(0, 3))
def test_no_part_is_empty_however_uneven_the_units(lengths, seed):
    people = [f"p{i}" for i, length in enumerate(lengths) for _ in range(length)]
    for labels in ([0] * len(people), [i % 7 for i in range(len(people))]):
        dataset = make_dataset(labels, people)
        units = cluster(dataset, np.arange(len(people)), by_subject=True)

        part = share_out(units, apportion((0.8, 0.1, 0.1), len(people)), seed)

        assert set(part) == {0, 1, 2}


def test_drawing_leaves_a_unit_for_every_part_to_come():
    dataset = make_dataset([0] * 7, ["a"] * 5 + ["b", "c"])
    units = cluster(dataset, np.arange(7), by_subject=True)

    part = share_out(units, (3, 2, 2), seed=0)

    assert set(part) == {0, 1, 2}


def test_every_beginning_of_the_stratified_order_is_stratified():
    labels = [0] * 100 + [1] * 50 + [2] * 10
    units = cluster(make_dataset(labels), np.arange(160), by_subject=False)

    classes = units.counts.argmax(axis=1)[stratified_order(units, 0)]

    for length in range(3, 161):
        counts = np.bincount(classes[:length], minlength=3)
        assert np.all(np.abs(counts - length * np.array([100, 50, 10]) / 160) < 2)


def test_units_too_few_or_sizes_wrong_are_a_programming_error():
    units = cluster(make_dataset([0, 1]), np.arange(2), by_subject=False)

    with pytest.raises(ValueError, match="2 units"):
        share_out(units, (1, 1, 0), 0)
    with pytest.raises(ValueError, match="of 2 images"):
        share_out(units, (2, 1), 0)
