"""What --dry-run says."""

import msgspec
import pytest

from fercore import backends, checkpoint, estimate, models
from fercore.config import study_from
from fercore.errors import FercoreError
from fercore.forecast import Forecast
from fercore.plan import make_plan
from fercore.protocol import make_backend, make_jobs
from fercore.study_data import load_study
from tests.faces import shrink_tiny, write_folder


@pytest.fixture
def study(tmp_path, monkeypatch):
    try:
        backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))
    shrink_tiny(monkeypatch)
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    return study_from(
        {
            "source": f"src=folder:{write_folder(tmp_path / 'source', 10, seed=1)}",
            "targets": [f"tgt=folder:{write_folder(tmp_path / 'target', 10, seed=2)}"],
            "model": "tiny",
            "strategies": ["FC", "FU"],
            "amounts": [100],
            "recipe": {"epochs": 2, "batch_size": 16},
            "finetune": {"epochs": 3, "min_steps": 0},
            "out": str(tmp_path / "run"),
        }
    )


def test_runs_images_steps_and_times(study, tmp_path):
    text = estimate.dry_run(study)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    # 56 of 70 images train: 4 batches of 16 an epoch.
    assert rows["BL"][1:5] == ["random", "56", "2", "8"]
    assert rows["tgt-FC-100"][1:5] == ["BL", "56", "3", "12"]
    assert rows["tgt-FU-100"][1:5] == ["random", "112", "2", "14"]
    assert rows["BL"][-1] == "s"
    assert "3 runs; about" in text
    assert not (tmp_path / "run").exists()


def test_a_given_baseline_takes_no_training(study, tmp_path):
    given = tmp_path / "given.safetensors"
    checkpoint.save_model(given, models.build("tiny"))
    text = estimate.dry_run(msgspec.structs.replace(study, baseline=str(given)))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["BL"][1:5] == ["given", "56", "0", "0"]
    assert rows["tgt-FC-100"][1:5] == ["BL", "56", "3", "12"]


@pytest.fixture
def planned(study):
    data = load_study(study, None)
    runs = make_plan(study, "src", ("tgt",))
    backend = make_backend(study)
    return data, runs, make_jobs(runs, data, backend), backend


def test_each_kind_of_run_is_measured_in_new_views_and_in_old_ones(planned):
    _, runs, jobs, backend = planned
    forecast = estimate.measure_speeds(runs, jobs, backend)
    # Where nothing is frozen, no view is cheaper for having been seen; but there are views.
    assert {kind for kind, _ in forecast.speeds} == {"all", "fc"}
    assert {new for kind, new in forecast.speeds if kind == "fc"} == {True, False}
    assert all(speed > 0 for speed in forecast.speeds.values())


def test_what_was_not_measured_is_unknown(planned):
    data, runs, jobs, _ = planned
    text = estimate.describe_plan(runs, jobs, data, Forecast())
    assert "3 runs; about unknown" in text


def test_jobs_know_what_is_frozen_and_what_is_tested(planned):
    _, _, jobs, _ = planned
    bl, fc, fu = jobs
    assert bl.work.below == 0
    assert fc.work.below + fc.work.above == bl.work.above
    assert 0 < fc.work.above < bl.work.above
    assert (bl.views, fc.views, fu.views) == (0, 8, 0)
    # 7 images validate and 7 test, in each of the two sets.
    assert (bl.followed, fc.followed, fu.followed) == (7, 14, 14)
    assert [job.tested for job in jobs] == [28, 28, 28]
