"""``fercore-train predict``: what is said of the faces in pictures."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fercore import cli
from fercore.faces import Box


def test_predict_finds_faces_and_draws_them(cpu, tiny, capsys, monkeypatch):
    Image.new("L", (200, 100), 90).save("photo.png")
    Path("broken.png").write_bytes(b"no image")
    boxes = [Box(20, 20, 70, 70), Box(120, 20, 170, 70)]
    monkeypatch.setattr("fercore.faces.open_detector", lambda: lambda gray: boxes)
    photo = ["predict", tiny, "photo.png"]
    assert cli.main([*photo, "broken.png", "--draw", "seen"]) == 0
    out, err = capsys.readouterr()
    assert "52x52+19+19" in out
    assert "52x52+119+19" in out
    assert "Boxes are WIDTHxHEIGHT+LEFT+TOP" in out
    assert "seen: 1 picture with them drawn on" in out
    assert err == "not read: broken.png: not an image that Pillow can read\n"
    assert Path("seen/photo.png").is_file()
    assert cli.main([*photo, "--json"]) == 0
    assert [entry["found"] for entry in json.loads(capsys.readouterr().out)] == [True, True]
    boxes.clear()
    assert cli.main(photo) == 0
    assert "Whole images were used where no face was found: 1 of 1" in capsys.readouterr().out
    assert cli.main([*photo, "--crop", "0,0,1,1"]) == 0
    assert "the part 0,0,1,1 was used" in capsys.readouterr().out
    monkeypatch.setattr("fercore.faces.open_detector", lambda: None)
    assert cli.main(photo) == 0
    assert "No face was looked for" in capsys.readouterr().out


def test_precision_is_that_of_the_device(tiny, capsys):
    Image.new("L", (48, 48), 90).save("photo.png")

    def seen(*arguments):
        assert cli.main(["predict", tiny, "photo.png", "--json", *arguments]) == 0
        (face,) = json.loads(capsys.readouterr().out)
        return list(face["probabilities"].values())

    exact = seen("--device", "reference")
    rounded = seen("--device", "emulated", "--precision", "bf16")
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != seen("--device", "emulated") == pytest.approx(exact, rel=1e-5)
