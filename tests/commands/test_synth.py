"""``fercore-train synth``: where faces are drawn."""

from pathlib import Path

from fercore import cli
from tests.commands.running import fails


def test_synth_draws_into_no_folder_of_other_things(capsys):
    Path("faces/thesis").mkdir(parents=True)
    assert "faces: holds other files (thesis)" in fails(capsys, "synth", "faces")


def test_synth_draws_one_dataset(capsys):
    assert cli.main(["synth", "faces", "--only", "jaffe"]) == 0
    assert "jaffe=faces" in capsys.readouterr().out
    assert Path("faces/SYNTHETIC.txt").exists()
