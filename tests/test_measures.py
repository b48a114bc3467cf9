"""Memory in numbers, of a study whose answers are known."""

import numpy as np
import pytest

from fercore import measures
from fercore.answer_table import read_tables
from fercore.statistics.levels import TwinEffect
from tests.answered import record_of, small_study, write_run


@pytest.fixture
def measured(tmp_path):
    answers, records = small_study(tmp_path)
    source, target = read_tables(answers, records)
    found = measures.measure_memory(answers, records, source, target)
    return {memory.column: memory for memory in found}


def test_an_adapted_network(measured):
    memory = measured["FC", 100]
    assert memory.stages == (("BL", None), ("FC", 100))
    np.testing.assert_allclose(memory.accuracies, [[3 / 4, 2 / 6], [1 / 4, 5 / 6]])
    assert memory.source.value == 1 / 4
    assert memory.target.value == pytest.approx(5 / 6)
    assert memory.forgetting.value == memory.forgetting_from_best.value == pytest.approx(1 / 2)
    assert memory.gain.value == pytest.approx(1 / 2)
    assert memory.retention.value == pytest.approx(1 / 3)
    assert memory.harmonic_mean.value == pytest.approx(2 / (4 + 6 / 5))
    # The six test images show all six classes.
    assert memory.forward_transfer.value == pytest.approx(2 / 6 - 1 / 6)


def test_every_figure_has_an_interval_around_it(measured):
    for name in ("source", "target", "forgetting", "gain", "retention", "harmonic_mean"):
        estimate = getattr(measured["FC", 100], name)
        low, high = estimate.interval
        assert low < estimate.value < high


def test_the_baseline_forgets_nothing(measured):
    memory = measured["BL", None]
    assert memory.stages == (("BL", None),)
    assert memory.forgetting is memory.forgetting_from_best is memory.gain is None
    assert memory.retention.value == 1
    assert memory.forward_transfer.value == pytest.approx(2 / 6 - 1 / 6)


def test_a_network_from_random_weights_is_compared_to_the_baseline(measured):
    memory = measured["TO", 100]
    assert memory.stages == (("BL", None), ("TO", 100))
    assert memory.forgetting.value == pytest.approx(1 / 2)


def test_a_strategy_that_starts_from_another_has_three_stages(tmp_path):
    answers, records = small_study(tmp_path)
    rights = {"src": [0, 0, 0, 0], "tgt": [1, 1, 1, 1, 1, 1]}
    write_run(answers.directory, "tgt-FC-100", {**rights, "src": [1, 1, 1, 1]}, "BL", ["tgt"])
    write_run(answers.directory, "tgt-long-100", rights, "tgt-FC-100", ["tgt"])
    records.append(record_of("tgt-long-100", "long", 100))
    source, target = read_tables(answers, records)
    *_, memory = measures.measure_memory(answers, records, source, target)
    assert memory.stages == (("BL", None), ("FC", 100), ("long", 100))
    assert memory.forgetting.value == pytest.approx(3 / 4)
    assert memory.forgetting_from_best.value == pytest.approx(1)
    assert memory.forward_transfer.value == pytest.approx(2 / 6 - 1 / 6)  # before FC saw the target


def test_images_alone_tell_other_intervals_of_the_same_figure(tmp_path):
    answers, records = small_study(tmp_path)
    source, target = read_tables(answers, records)
    people = measures.measure_memory(answers, records, source, target)[1].target
    images = measures.measure_memory(answers, records, source, target, by_image=True)[1].target
    assert people.value == images.value
    assert people.interval != images.interval


def test_levels(tmp_path):
    answers, records = small_study(tmp_path)
    _, target = read_tables(answers, records)
    level = measures.measure_level(answers, target)
    assert (level.dataset, level.images, level.unit, level.units) == ("tgt", 6, "subject", 3)
    assert level.chance == pytest.approx(1 / 6)
    # Training labels are 0, 1 and 2: the first of equals is 0, which one test image of six shows.
    assert level.majority == pytest.approx(1 / 6)


def test_twins_count_all_that_a_network_has_learned_from(tmp_path):
    """One source test image is in the source's training part, one target image in the target's."""
    answers, records = small_study(tmp_path)
    source, target = read_tables(answers, records)
    on_source = measures.twin_effects(answers, records, source)
    assert on_source["BL", None] == TwinEffect(4, 1, 3 / 4, pytest.approx(2 / 3))
    assert on_source["FC", 100].twins == 1  # through BL
    assert on_source["TO", 100].twins == 0
    on_target = measures.twin_effects(answers, records, target)
    assert on_target["BL", None].twins == 0
    assert on_target["FC", 100] == TwinEffect(6, 1, pytest.approx(5 / 6), pytest.approx(4 / 5))
