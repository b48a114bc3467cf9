"""Runs side by side on one device, timed: the dry run, and one that fails."""

import argparse
import json
from unittest.mock import patch

import pytest

from bench import runs
from fercore import backends, models
from fercore.errors import FercoreError
from tests.narrow import ARCHITECTURES


@pytest.fixture(autouse=True)
def narrow():
    try:
        backends.get("emulated")
    except FercoreError as error:
        pytest.skip(str(error))
    with patch.dict(models.ARCHITECTURES, ARCHITECTURES):
        yield


def arguments(*options):
    parser = argparse.ArgumentParser()
    runs.add_arguments(parser)
    return parser.parse_args(options)


@pytest.mark.parametrize("strategy", ["BL", "FC"])
def test_the_dry_run_goes_all_the_way(capsys, strategy):
    chosen = arguments("--dry-run", "--json", "--strategy", strategy)
    chosen.run(chosen)
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["strategy"]) == ("emulated", strategy)
    assert found["images_per_s"].keys() == {"1", "2"}
    assert min(found["images_per_s"].values()) > 0


def test_a_run_that_fails_stops_the_others(monkeypatch):
    train = runs.run_epoch

    def failing(stepper, number, epoch):
        if number == 1:
            raise FercoreError("no memory")
        train(stepper, number, epoch)

    monkeypatch.setattr(runs, "run_epoch", failing)
    chosen = arguments("--batch", "1", "--steps", "1", "--epochs", "1")
    with pytest.raises(FercoreError, match="no memory"):
        runs.images_per_s(backends.get("emulated"), chosen, 2)
