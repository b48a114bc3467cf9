"""``fercore-train evaluate``: the warning of images that the network was trained on."""

import json
import shutil
from pathlib import Path

import pytest

from fercore import cli
from fercore.data import manifest
from fercore.run_directory import RunDirectory
from tests.commands.running import QUICK
from tests.faces import write_folder


def warned(capsys, network, dataset, *arguments):
    """What a test says beside the accuracy."""
    capsys.readouterr()
    assert cli.main(["evaluate", str(network), dataset, "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    return err


@pytest.fixture
def study(cpu, faces):
    assert cli.main(["protocol", *faces, *QUICK, "--strategies", "FC", "--out", "run"]) == 0
    return Path("run")


def images(study, dataset, part):
    entries = (entry for _, entry in manifest.entries(study / "splits" / f"{dataset}.csv"))
    return {entry["sha256"] for entry in entries if entry["split"] == part}


def test_another_split_than_the_study_s_is_warned_of(study, faces, capsys):
    src, tgt = faces[1], faces[3]
    adapted, splits = study / "runs/tgt-FC-100/best.safetensors", Path("run/splits").absolute()
    assert warned(capsys, adapted, tgt) == ""  # split as in the study
    assert warned(capsys, adapted, tgt, "--splits", "run/splits") == ""
    assert warned(capsys, adapted, tgt, "--part", "train") == ""
    whole = len(images(study, "tgt", "train"))
    assert warned(capsys, adapted, tgt, "--part", "all") == (
        f"warning: the network was trained on {whole} of 56 tested images, which flatters its "
        f"accuracy; test the others with --splits {splits}\n"
    )
    # Another seed's test part, as inspect draws it.
    assert cli.main(["inspect", tgt, "--seed", "1", "--write", "other"]) == 0
    tested = images(study, "tgt", "train") & {
        entry["sha256"]
        for _, entry in manifest.entries(Path("other/tgt.csv"))
        if entry["split"] == "test"
    }
    assert tested
    assert f"trained on {len(tested)} of " in warned(capsys, adapted, tgt, "--seed", "1")
    # BL has not seen the target, and FC has seen the source when it was BL.
    assert warned(capsys, study / "runs/BL/best.safetensors", tgt, "--part", "all") == ""
    assert "was trained on" in warned(capsys, adapted, src, "--part", "all")


def test_images_are_known_under_another_name(study, faces, capsys):
    other = faces[3].replace("tgt=", "other=")
    text = warned(capsys, study / "runs/tgt-FC-100/best.safetensors", other, "--part", "all")
    assert text.endswith("which flatters its accuracy\n")


def test_half_of_the_images_is_what_half_a_training_has_seen(study, faces, capsys):
    half = sum(
        entry["split"] == "train" for _, entry in manifest.entries(study / "splits/50/tgt.csv")
    )
    network = study / "runs/tgt-FC-50/best.safetensors"
    assert f"trained on {half} of 56" in warned(capsys, network, faces[3], "--part", "all")


def test_a_network_that_lies_in_no_study_is_tested_in_silence(study, faces, capsys):
    shutil.copy(study / "runs/BL/best.safetensors", "mine.safetensors")
    assert warned(capsys, "mine.safetensors", faces[1], "--part", "all") == ""
    (study / "config.toml").unlink()
    assert RunDirectory.around(study / "runs/BL/best.safetensors") is None


def test_lost_manifests_leave_it_open(study, faces, capsys):
    (study / "splits/src.csv").unlink()
    text = warned(capsys, study / "runs/BL/best.safetensors", faces[1])
    assert text.startswith("warning: whether the network was trained on tested images cannot be s")


def test_twins_that_a_set_has_of_its_own_are_not_counted(cpu, tmp_path, capsys):
    """The study tested them, too, and its page says so."""
    write_folder(tmp_path / "twins/train", 4, seed=1)
    write_folder(tmp_path / "twins/validation", 2, seed=2)
    shutil.copytree(tmp_path / "twins/train", tmp_path / "twins/test")
    twins = f"twins=folder:{tmp_path / 'twins'}"
    assert cli.main(["fit", twins, "--model", "tiny", "--epochs", "1", "--out", "one"]) == 0
    assert warned(capsys, "one/best.safetensors", twins) == ""


def test_a_network_of_fit_is_known_too(cpu, faces, capsys):
    assert cli.main(["fit", faces[1], "--model", "tiny", "--epochs", "1", "--out", "one"]) == 0
    assert warned(capsys, "one/best.safetensors", faces[1]) == ""
    text = warned(capsys, "one/best.safetensors", faces[1], "--part", "all")
    assert text.endswith(f"--splits {Path('one/splits').absolute()}\n")
