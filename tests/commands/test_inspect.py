"""``fercore-train inspect``: counts, sheets, splits and folds."""

from pathlib import Path

from fercore import cli
from tests.commands.running import QUICK, fails
from tests.faces import write_folder


def test_inspect_counts_and_draws_a_sheet(tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    assert cli.main(["inspect", f"src=folder:{source}", "--sheet", "sheet.png"]) == 0
    assert "56" in capsys.readouterr().out
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")


def test_contempt_is_counted_on_request(tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1, classes=("happy", "contempt", "sad"))
    assert cli.main(["inspect", f"src=folder:{source}"]) == 0
    shown = capsys.readouterr().out
    assert "16 images" in shown
    assert "8 images of 'contempt' left out: not one of the 7 classes." in shown
    assert cli.main(["inspect", f"src=folder:{source}", "--contempt", "--write", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "24 images" in shown
    assert any(line.split()[0] == "contempt" for line in shown.splitlines() if line)
    assert "contempt/000.png,,,contempt," in Path("mine/src.csv").read_text()
    assert "(--contempt)" in fails(capsys, "inspect", f"src=folder:{source}", "--splits", "mine")


def test_a_dataset_is_inspected_and_evaluated_with_a_crop_and_options(cpu, tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    name = f"src=folder:{source}"
    reading = ["--crop", "0.1,0.1,0.9,0.9", "--option", r"subject=/(\d+)\."]
    assert cli.main(["inspect", name, *reading]) == 0
    shown = capsys.readouterr().out
    assert "56 images, 8 subjects" in shown
    assert "Images cropped to x 0.1 to 0.9" in shown
    fit = ["fit", name, "--model", "tiny", "--epochs", "1", "--out", "model"]
    assert cli.main([*fit, "--set", "source.crop=[0.1, 0.1, 0.9, 0.9]"]) == 0
    accuracy = next(line for line in capsys.readouterr().out.splitlines() if "accuracy" in line)
    assert cli.main(["evaluate", "model/best.safetensors", name, *reading[:2]]) == 0
    assert accuracy in capsys.readouterr().out
    assert "did you mean 'subject'" in fails(capsys, "inspect", name, "--option", "subjct=3")
    assert "--option x: write KEY=VALUE" in fails(capsys, "inspect", name, "--option", "x")


def test_inspect_writes_folds_that_a_study_takes(cpu, faces, capsys):
    target = faces[3]
    arguments = ["inspect", target, "--folds", "4", "--write", "folds"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "tgt: 4 folds of 56 images" in shown
    assert "--splits folds/fold-1" in shown
    assert "folds/fold-1/tgt.csv: is there already" in fails(capsys, *arguments)
    study = ["protocol", *faces, *QUICK, "--strategies", "BL", "--splits", "folds/fold-3"]
    assert cli.main([*study, "--out", "run"]) == 0
    log = capsys.readouterr().err
    assert "folds/fold-3 has no manifest src.csv: split by the rule 'paper'." in log
    assert "/ 14 images to train on, to validate and to test" in log
    written = Path("run/splits/tgt.csv").read_bytes()
    assert written == Path("folds/fold-3/tgt.csv").read_bytes()
    assert "57 folds; choose from 3 to 56" in fails(capsys, "inspect", target, "--folds", "57")
    assert "70" not in fails(capsys, "inspect", target, "--folds", "subjects")
    assert "--folds goes with neither" in fails(capsys, *arguments, "--splits", "strict")


def test_inspect_writes_its_split_as_a_manifest(cpu, faces, capsys):
    target = faces[3]
    assert cli.main(["inspect", target, "--write", "mine"]) == 0
    assert "mine/tgt.csv: this split; to use it, add --splits mine" in capsys.readouterr().out
    assert "mine/tgt.csv: is there already" in fails(capsys, "inspect", target, "--write", "mine")
    assert cli.main(["inspect", target, "--splits", "mine"]) == 0
    assert "The split of mine/tgt.csv." in capsys.readouterr().out


def test_a_set_too_small_to_split_can_be_inspected(tmp_path, capsys):
    few = write_folder(tmp_path / "few", 1, seed=1, classes=("happy", "sad"))
    assert cli.main(["inspect", f"few=folder:{few}"]) == 0
    assert "It cannot be split: few: too few distinct images" in capsys.readouterr().out
    assert "too few" in fails(capsys, "inspect", f"few=folder:{few}", "--write", "x")
