"""What --dry-run says."""

import pytest

from fercore import backends, estimate
from fercore.config import study_from
from fercore.errors import FercoreError
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


def test_each_kind_of_run_is_measured_once(study):
    from fercore.plan import make_plan
    from fercore.protocol import make_backend
    from fercore.study_data import load_study

    data = load_study(study, None)
    runs = make_plan(study, "src", ("tgt",))
    speeds = estimate.measure_speeds(runs, data, make_backend(study))
    assert set(speeds) == {"all", "fc"}
    assert all(speed > 0 for speed in speeds.values())


def test_what_was_not_measured_is_unknown(study):
    from fercore.forecast import Forecast
    from fercore.plan import make_plan
    from fercore.protocol import job
    from fercore.study_data import load_study

    data = load_study(study, None)
    runs = make_plan(study, "src", ("tgt",))
    text = estimate.describe_plan(runs, [job(run, data) for run in runs], data, Forecast())
    assert "3 runs; about unknown" in text
