"""``fercore-train fit``: one network, and what is done with it."""

import json
from pathlib import Path

from safetensors.numpy import load_file

from fercore import cli
from tests.commands.running import fails
from tests.faces import write_folder


def test_fit_evaluate_and_predict(cpu, tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    fit = ["fit", f"src=folder:{source}", "--model", "tiny", "--epochs", "1", "--out", "model"]
    assert cli.main(fit) == 0
    shown = capsys.readouterr().out
    assert "src, test: " in shown
    assert " of training in all" in shown
    assert "95 %" in shown
    assert "conv1_1.weight" in load_file("model/best.safetensors")

    assert cli.main(["evaluate", "model/best.safetensors", f"src=folder:{source}"]) == 0
    tested = capsys.readouterr().out
    accuracy = next(line for line in shown.splitlines() if line.startswith("accuracy"))
    assert accuracy in tested  # the same split, the same network
    whole = ["evaluate", "model/best.safetensors", f"src=folder:{source}", "--part", "all"]
    assert cli.main([*whole, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 56

    face = str(source / "happy" / "000.png")
    assert cli.main(["predict", "model/best.safetensors", face]) == 0
    assert "hole images were used" in capsys.readouterr().out
    assert cli.main(["predict", "model/best.safetensors", face, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["file"] == face
    crop = ["predict", "model/best.safetensors", face, "--crop"]
    assert cli.main([*crop, "0.1,0.1,0.9,0.9"]) == 0
    assert "the part 0.1,0.1,0.9,0.9 was used" in capsys.readouterr().out
    assert "left,top,right,bottom" in fails(capsys, *crop, "0.1,x")
    assert "left < right" in fails(capsys, *crop, "0.9,0.1,0.1,0.9")


def test_fit_resumes(cpu, tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    fit = ["fit", f"src=folder:{source}", "--model", "tiny", "--epochs", "1", "--out", "model"]
    assert cli.main(fit) == 0
    weights = Path("model/best.safetensors").read_bytes()
    assert cli.main([*fit, "--resume"]) == 0
    assert "(trained before)" in capsys.readouterr().err
    assert Path("model/best.safetensors").read_bytes() == weights
