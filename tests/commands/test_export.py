"""``fercore-train export`` and ``import``: to other programs and back."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fercore import cli
from tests.commands.running import fails


def test_export_to_pytorch_and_import(tiny, capsys):
    assert cli.main(["export", tiny, "there.safetensors"]) == 0
    assert "classes in the order angry, disgust" in capsys.readouterr().out
    assert cli.main(["import", "there.safetensors", "back.safetensors"]) == 0
    assert "back.safetensors: tiny, " in capsys.readouterr().out
    assert Path("back.safetensors").read_bytes() == Path(tiny).read_bytes()
    arguments = ["import", "there.safetensors", "other.safetensors", "--std", "0.5"]
    assert cli.main([*arguments, "--classes", "sad,angry,disgust,fear,happy,surprise,neutral"]) == 0
    before, after = load_file("back.safetensors"), load_file("other.safetensors")
    assert (after["conv1_1.weight"] == before["conv1_1.weight"] / 2).all()
    assert (after["fc3.weight"][4] == before["fc3.weight"][0]).all()
    for command in (["export", tiny, tiny], ["import", "there.safetensors", tiny]):
        assert f"{tiny}: is there already" in fails(capsys, *command)
    foreign = fails(capsys, "export", "there.safetensors", "x.onnx")
    assert "was not written by fercore" in foreign
    assert "is read by fercore-train import" in foreign


def test_export_to_onnx(tiny, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed")
    assert cli.main(["export", tiny, "tiny.onnx"]) == 0
    assert "tiny.onnx: pixels in, logits and probabilities out" in capsys.readouterr().out
    assert Path("tiny.onnx").stat().st_size > 1000
    assert "end it in .onnx" in fails(capsys, "export", tiny, "tiny.tflite")
