"""A study's images by the parts that runs name."""

from dataclasses import replace

import numpy as np
import pytest

from fercore.data.parts import Parts
from fercore.errors import FercoreError
from fercore.plan import Part
from fercore.study_data import SplitDataset, StudyData, check_targets
from tests.small_data import shared, striped


def split_dataset(count=20, seed=0, name="stripes"):
    rows = np.arange(count)
    parts = Parts(rows[: count - 8], rows[count - 8 : count - 4], rows[count - 4 :])
    return SplitDataset(striped(count, seed, name), parts, {50: parts.train[::2]})


@pytest.fixture
def data():
    return StudyData({"a": split_dataset(20, 1, "a"), "b": split_dataset(12, 2, "b")})


def test_parts_and_shares(data):
    assert len(data.select(Part("a", "train"))) == data.size(Part("a", "train")) == 12
    half = data.select(Part("a", "train", 50))
    np.testing.assert_array_equal(half.images, data.datasets["a"].dataset.images[0:12:2])
    assert data.select(Part("b", "test")).files == ("8.png", "9.png", "10.png", "11.png")


def test_joined_parts_stand_one_after_the_other(data):
    parts = (Part("a", "train"), Part("b", "train"))
    joined = data.join(parts)
    assert data.joined_size(parts) == len(joined) == 12 + 4
    assert joined.name == "a+b"
    np.testing.assert_array_equal(joined.labels[12:], data.select(parts[1]).labels)
    assert len(joined.files) == len(joined.subjects) == 16


def test_balanced_sampling_repeats_in_turn(data):
    parts = (Part("a", "train"), Part("b", "train"))
    joined = data.join(parts, "balanced")
    assert data.joined_size(parts, "balanced") == len(joined) == 24
    small = data.select(parts[1]).images
    np.testing.assert_array_equal(joined.images[12:], np.concatenate([small, small, small]))


def test_source_targets_and_shared_classes(data):
    assert (data.source, data.targets) == ("a", ("b",))
    ours, theirs = (set(data.datasets[name].dataset.labels.tolist()) for name in "ab")
    assert set(data.shared_classes("b")) == ours & theirs
    assert set(data.shared_classes(None)) == ours


def test_a_digest_moves_with_images_labels_split_and_shares():
    base = split_dataset()
    digests = {base.digest, split_dataset().digest}
    assert len(digests) == 1
    images = base.dataset.images.copy()
    images[3, 4, 5] ^= 1
    labels = (base.dataset.labels + 1) % 7
    swapped = Parts(base.parts.train, base.parts.test, base.parts.validation)
    for changed in (
        replace(base, dataset=replace(base.dataset, images=images)),
        replace(base, dataset=replace(base.dataset, labels=labels.astype(np.int32))),
        replace(base, parts=swapped),
        replace(base, shares={50: base.parts.train[1::2]}),
    ):
        digests.add(changed.digest)
    assert len(digests) == 5


def test_a_digest_moves_with_targets_and_what_they_mean():
    base = split_dataset()
    other = shared(base.dataset)
    other.targets[0] = other.targets[1]
    changed = (shared(base.dataset), shared(base.dataset, multi_target=True), other)
    digests = {replace(base, dataset=dataset).digest for dataset in changed}
    assert len(digests | {base.digest}) == 4


@pytest.mark.parametrize("multi_target", [False, True])
@pytest.mark.parametrize("sampling", ["union", "balanced"])
def test_labels_join_targets_as_classes_by_themselves(data, multi_target, sampling):
    a, b = data.datasets.values()
    soft = shared(a.dataset, multi_target=multi_target)
    joined = StudyData({"a": replace(a, dataset=soft), "b": b}).join(
        (Part("a", "train"), Part("b", "train")), sampling
    )
    assert joined.multi_target == multi_target
    assert joined.lessons is joined.targets
    np.testing.assert_array_equal(joined.targets[:12], soft.targets[a.parts.train])
    np.testing.assert_array_equal(joined.targets[12:], np.eye(7)[joined.labels[12:]])


def test_two_meanings_of_targets_do_not_go_together():
    one, other = shared(striped(4, name="a")), shared(striped(4, name="b"), multi_target=True)
    check_targets([one, one, striped(4)])
    with pytest.raises(FercoreError, match=r"^b has labels 'multi-target' and a 'probability'"):
        check_targets([one, other])


def test_facts_list_what_was_not_read(data):
    from fercore.data.dataset import Skipped

    entry = data.datasets["a"]
    entry = replace(entry, dataset=replace(entry.dataset, skipped=(Skipped("x.png", "empty"),)))
    facts = entry.facts()
    assert facts.images == {"train": 12, "validation": 4, "test": 4}
    assert facts.shares == {"50": 6}
    assert facts.skipped == (("x.png", "empty"),)
