"""``fercore-train fit``: one network, and what is done with it."""

import json
from pathlib import Path

from safetensors.numpy import load_file

from fercore import cli
from fercore.data.dataset import CLASSES
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


def test_evaluate_tests_on_the_classes_that_the_network_knows(cpu, tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1, classes=CLASSES)
    fit = ["fit", f"src=folder:{source}", "--model", "tiny", "--epochs", "1"]
    for flags, folder, images in (([], "seven", 56), (["--contempt"], "eight", 64)):
        assert cli.main([*fit, *flags, "--out", folder]) == 0
        rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
        assert ("contempt" in rows) == (folder == "eight")
        evaluate = ["evaluate", f"{folder}/best.safetensors", f"src=folder:{source}"]
        assert cli.main([*evaluate, "--part", "all", "--json"]) == 0
        score = json.loads(capsys.readouterr().out)
        assert score["n"] == images
        assert len(score["confusion"]) == score["classes_shared"] == images // 8
    assert cli.main(["export", "eight/best.safetensors", "there.safetensors"]) == 0
    assert "surprise, neutral, contempt\n" in capsys.readouterr().out
    assert cli.main(["import", "there.safetensors", "back.safetensors"]) == 0
    assert load_file("back.safetensors")["fc3.weight"].shape[0] == 8


def test_fit_resumes(cpu, tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    fit = ["fit", f"src=folder:{source}", "--model", "tiny", "--epochs", "1", "--out", "model"]
    assert cli.main(fit) == 0
    weights = Path("model/best.safetensors").read_bytes()
    assert cli.main([*fit, "--resume"]) == 0
    assert "(trained before)" in capsys.readouterr().err
    assert Path("model/best.safetensors").read_bytes() == weights
