"""Time and energy of training, summed and put into words."""

import json

import pytest

from fercore.consumption import Spent, amount, describe, of_runs, total
from fercore.errors import FercoreError

READABLE = {"energy": "processor: package-0"}


def test_epochs_are_added_up_by_source():
    used = total(
        [
            Spent(seconds=2.0, joules={"processor": 30.0, "gpu": 400.0}),
            Spent(seconds=3.0, joules={"processor": 5.0, "gpu": 100.0}),
        ]
    )
    assert (used.seconds, used.joules) == (5.0, {"processor": 35.0, "gpu": 500.0})
    assert not used.is_partial("processor")
    assert describe(used, READABLE) == (
        "5 s of training in all took 35 J of the processor and 500 J of the GPU, other programs "
        "included."
    )


def test_what_was_measured_in_part_says_so():
    used = total([Spent(seconds=600.0), Spent(seconds=240.0, joules={"processor": 24_000.0})])
    assert used.is_partial("processor")
    assert describe(used, READABLE) == (
        "14 min of training in all took 24 kJ of the processor (counted in 4 min of that, not in "
        "the rest), other programs included."
    )


def test_what_could_not_be_read_is_named_beside_what_could():
    used = total([Spent(seconds=600.0, joules={"gpu": 1.0})])
    why = {"energy": "processor not readable: x needs root; gpu: NVML"}
    assert describe(used, why) == (
        "10 min of training in all took 1 J of the GPU, other programs included (processor not "
        "readable: x needs root; gpu: NVML)."
    )


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, ""),
        (READABLE, ""),
        ({"energy": "processor not readable: x"}, " (processor not readable: x)"),
    ],
)
def test_without_a_counter_there_is_no_number(environment, reason):
    text = describe(total([Spent(seconds=61.0)]), environment)
    assert text == f"61 s of training in all. Energy was not measured{reason}."


def test_runs_of_older_versions_have_no_energy(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, line in ((old, {"seconds": 1.0}), (new, {"seconds": 2.0, "joules": {"gpu": 3.0}})):
        folder.mkdir()
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, **line}) + "\n")
    used = of_runs([old, new, tmp_path / "not begun"])
    assert (used.seconds, used.joules, used.measured) == (3.0, {"gpu": 3.0}, {"gpu": 2.0})


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"seconds": 1.0}\n{"seconds"')
    with pytest.raises(FercoreError, match=r"metrics\.jsonl: is damaged"):
        of_runs([tmp_path])


@pytest.mark.parametrize(
    ("joules", "text"),
    [
        (0.0, "0 J"),
        (999.4, "999 J"),
        (999.6, "1 kJ"),
        (34_210.0, "34.2 kJ"),
        (999_600.0, "1 MJ"),
        (1.254e6, "1.25 MJ"),
        (2.5e9, "2.5 GJ"),
    ],
)
def test_amounts_have_three_digits(joules, text):
    assert amount(joules) == text
