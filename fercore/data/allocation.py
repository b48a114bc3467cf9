"""Sharing out rows that must stay together: people, sequences and identical images.

Rows are first clustered into units, then units are given to parts so that the parts have the wanted
sizes and the classes' proportions. All order comes from hashes of the seed and the images'
fingerprints, so the result depends on the images alone and not on how they are listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fercore.data.dataset import Dataset

SEARCHED_UNITS = 600
"""Up to so many units a search over all pairs is quick; beyond, drawing them comes as near."""

RESTARTS = 100
"""Searches from different beginnings, of which the best is kept; fewer where there are many units,
since those have good solutions everywhere."""

STRATIFICATION = 0.1
"""What a class's deviation costs, where a part's deviation in size costs 1: sizes come first."""


@dataclass(frozen=True, eq=False)
class Units:
    """``U`` sets of rows that may not be divided, in an order that the images alone decide."""

    rows: tuple[np.ndarray, ...]  # of each unit: int64, ascending
    keys: tuple[str, ...]  # of each unit: its smallest fingerprint; units never share one
    counts: np.ndarray  # int64 [U, classes], images by class

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> np.ndarray:
        """Images of each unit, int64 [U]."""
        return np.asarray(self.counts.sum(axis=1))

    def choose(self, units: np.ndarray) -> Units:
        """The units at these positions (or where this mask is true)."""
        positions = np.arange(len(self))[units]
        return Units(
            tuple(self.rows[i] for i in positions),
            tuple(self.keys[i] for i in positions),
            self.counts[positions],
        )

    def all_rows(self, units: np.ndarray) -> np.ndarray:
        """The rows of the units at these positions (or where this mask is true), ascending."""
        chosen = self.choose(units).rows
        return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def cluster(dataset: Dataset, rows: np.ndarray, *, by_subject: bool) -> Units:
    """The smallest units in which no group, no two identical images and, ``by_subject``, no person
    are divided. Only ties within ``rows`` count."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(tie: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(tie, tie)
        while parent[tie] != tie:
            parent[tie] = parent[parent[tie]]  # halves the way for the next one
            tie = parent[tie]
        return tie

    for row in rows:
        image = ("image", dataset.sha256[row])
        ties = [("group", dataset.groups[row])]
        if by_subject:
            ties.append(("subject", dataset.subjects[row]))
        for tie in ties:
            if tie[1]:
                parent[root(tie)] = root(image)
    members: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        members.setdefault(root(("image", dataset.sha256[row])), []).append(int(row))

    units = [np.sort(np.array(unit, np.int64)) for unit in members.values()]
    keyed = sorted(
        ((min(dataset.sha256[row] for row in unit), unit) for unit in units),
        key=lambda pair: pair[0],
    )
    classes = dataset.classes
    counts = [np.bincount(dataset.labels[unit], minlength=classes) for _, unit in keyed]
    return Units(
        tuple(unit for _, unit in keyed),
        tuple(key for key, _ in keyed),
        np.array(counts, np.int64).reshape(len(keyed), classes),
    )


def apportion(shares: Sequence[float], total: int) -> tuple[int, ...]:
    """Whole numbers in proportion to ``shares`` that add up to ``total`` (largest remainders).

    None is zero as long as ``total`` allows.
    """
    quotas = np.array(shares, np.float64) / sum(shares) * total
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: total - counts.sum()]] += 1
    while counts.min() == 0 and total >= len(counts):
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return tuple(int(count) for count in counts)


def share_out(units: Units, sizes: Sequence[int], seed: int) -> np.ndarray:
    """The part of each unit, int64 [U]: part ``p`` holds about ``sizes[p]`` images, in the classes'
    proportions, and at least one unit.

    ``sizes`` add up to the number of images; there are at least as many units as parts, or
    ValueError.
    """
    if len(units) < len(sizes) or sum(sizes) != units.sizes.sum():
        raise ValueError(f"{len(units)} units of {units.sizes.sum()} images for parts {sizes}")
    one_class_each = np.count_nonzero(units.counts, axis=1).max() == 1
    if one_class_each or len(units) > SEARCHED_UNITS:
        return _draw(units, sizes, seed)
    return _search(units, sizes, seed)


def stratified_order(units: Units, seed: int | str) -> np.ndarray:
    """All units, int64 [U], in a seeded order of which every beginning is stratified.

    A unit counts for its commonest class. The class's units, shuffled, lie at equal distances on
    a line from 0 to 1 (at the middle of their share of its images, as in Sainte-Laguë's method)
    and its first at 0, so that no class is left out; the order is that of the line.
    """
    shuffled = shuffle(units.keys, seed)
    classes = units.counts.argmax(axis=1)[shuffled]
    sizes = units.sizes[shuffled].astype(np.float64)
    place = np.zeros(len(units))
    for c in np.unique(classes):
        here = classes == c
        ends = np.cumsum(sizes[here])
        middles = (ends - sizes[here] / 2) / ends[-1]
        middles[0] = 0.0
        place[here] = middles
    return np.asarray(shuffled[np.argsort(place, kind="stable")])


def shuffle(keys: Sequence[str], seed: int | str) -> np.ndarray:
    """Positions of the keys, int64, in an order that looks random and depends on them alone."""
    return np.argsort(_lots(keys, seed), kind="stable")


def _lots(keys: Sequence[str], seed: int | str) -> np.ndarray:
    """A number from 0 to 1 for each key, float64, evenly distributed over the seeds."""
    digests = (hashlib.sha256(f"{seed}/{key}".encode()).digest() for key in keys)
    return np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])


# -- many units, or units of one class: draw them one by one ----------------------------------


def _draw(units: Units, sizes: Sequence[int], seed: int) -> np.ndarray:
    """Every part but the first takes, in stratified order, units that fit; the first the rest."""
    part = np.zeros(len(units), np.int64)
    left = np.arange(len(units))
    for p in range(len(sizes) - 1, 0, -1):
        rest = units.choose(left)
        taken = _fitting(rest.sizes, stratified_order(rest, f"{seed}/{p}"), sizes[p], keep=p)
        part[left[taken]] = p
        left = np.delete(left, taken)
    return part


def _fitting(sizes: np.ndarray, order: np.ndarray, room: int, keep: int) -> list[int]:
    """Units in that order as long as they fit into ``room`` images, one at least; ``keep`` units
    remain for others."""
    taken: list[int] = []
    for unit in order:
        if room == 0 or len(order) - len(taken) <= keep:
            break
        if sizes[unit] <= room:
            taken.append(int(unit))
            room -= int(sizes[unit])
    return taken or [int(order[np.argmin(sizes[order])])]


# -- few units of several classes: search -----------------------------------------------------


def _search(units: Units, sizes: Sequence[int], seed: int) -> np.ndarray:
    """Shared out by lot, then improved by moves and swaps; the best of several attempts.

    What is made small is the sum over the parts of squared deviations: of the size, and of every
    class's images from its share, rare classes weighing more.
    """
    totals = units.counts.sum(axis=0)
    weights = STRATIFICATION * totals.sum() / (np.count_nonzero(totals) * np.maximum(totals, 1))
    features = np.column_stack([units.sizes, units.counts * np.sqrt(weights)])
    shares = np.array(sizes) / sum(sizes)
    target = np.outer(shares, features.sum(axis=0))
    found = []
    for restart in range(min(RESTARTS, max(1, 5000 // len(units)))):
        part = _improve(features, target, _begin(shares, _lots(units.keys, f"{seed}/{restart}")))
        found.append((round(float(np.square(_excess(features, target, part)).sum()), 6), part))
    return min(found, key=lambda pair: pair[0])[1]


def _begin(shares: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """Units cast by lot into parts with these shares, at least one into each."""
    part = np.searchsorted(np.cumsum(shares)[:-1], lots, side="right")
    part[np.argsort(lots, kind="stable")[: len(shares)]] = np.arange(len(shares))
    return part


def _improve(features: np.ndarray, target: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The best move of a unit or swap of two, again and again until none helps.

    With the parts' excess E, moving unit u from part a to b changes the sum of squares by
    2 u·(E_b - E_a) + 2 u·u, and swapping u in a with v in b by 2 d·(E_a - E_b) + 2 d·d, d = v - u.
    """
    part = part.copy()
    squares = np.square(features).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * features @ features.T
    units = np.arange(len(features))
    while True:
        products = features @ _excess(features, target, part).T  # [U, P]: u·E_p
        own = products[units, part]
        crossed = products[:, part]  # [U, U]: u·E of v's part
        moves = 2 * (products - own[:, None] + squares[:, None])
        moves[np.bincount(part, minlength=len(target))[part] == 1] = np.inf  # empties no part
        swaps = 2 * (crossed + crossed.T - own[:, None] - own[None, :] + distances)
        # Rounded, so that equal choices stay equal whatever the order of summation in BLAS.
        moves, swaps = np.round(moves, 6), np.round(swaps, 6)
        if min(moves.min(), swaps.min()) >= 0:
            return part
        if moves.min() <= swaps.min():
            unit, to = np.unravel_index(moves.argmin(), moves.shape)
            part[unit] = to
        else:
            u, v = np.unravel_index(swaps.argmin(), swaps.shape)
            part[u], part[v] = part[v], part[u]


def _excess(features: np.ndarray, target: np.ndarray, part: np.ndarray) -> np.ndarray:
    """What each part has above its target, float64 [P, features]."""
    total: np.ndarray = np.zeros_like(target)
    np.add.at(total, part, features)
    excess: np.ndarray = total - target
    return excess
