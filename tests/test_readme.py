"""What the README shows works: its commands are the ones that are run, its strategy is one."""

import code
import re
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from fercore import backends, checkpoint, cli, models
from fercore.cli import parse
from fercore.config import study_from
from fercore.data import FORMATS
from fercore.plan import make_plan
from fercore.protocol import measure_work
from fercore.study_data import load_one
from tests.data.trees import write_images
from tests.faces import draw_face

ANGLES = ("S", "HL", "HR", "FL", "FR")
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def toml_blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_the_dataset_of_the_readme_is_one(tmp_path):
    text, _ = toml_blocks()
    (target,) = study_from({"source": "fer2013=x.csv", **tomllib.loads(text)}).targets
    write_images(tmp_path, *(f"AF01{code}{angle}.JPG" for code in ("AN", "HA") for angle in ANGLES))
    dataset = load_one(msgspec.structs.replace(target, path=str(tmp_path)), cache=False)
    assert len(dataset) == 2 * len(target.options["angles"])


def test_every_format_is_in_the_readme_and_in_help(capsys):
    table = README.partition("| format |")[2].partition("\n\n")[0]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out.partition("one of the formats")[2].partition(";")[0]
    for name in FORMATS:
        assert f"`{name}`" in table
        assert re.search(rf"\b{name}\b", shown)


def test_the_strategy_of_the_readme_is_one():
    _, text = toml_blocks()
    table = {**tomllib.loads(text), "strategies": ["half-conv4_3"], "model": "svgg10"}
    (run,) = [r for r in make_plan(study_from(table), "a", ("b",)) if r.id == "b-half-conv4_3-100"]
    measure_work([run], backends.get("reference", dtype="float32"))


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci/run").read_text().splitlines()


class Interpreter(code.InteractiveConsole):
    """Python's prompt, where a block ends with an empty line, and which here stops at an error."""

    def showtraceback(self):
        raise

    def showsyntaxerror(self, *args, **kwargs):
        raise


def paste(block: str, names: dict) -> dict:
    """The names that a block leaves, pasted at a prompt that knows ``names``."""
    prompt = Interpreter(dict(names))
    for line in [*block.splitlines(), ""]:
        prompt.push(line)
    return prompt.locals


def test_a_network_is_used_as_the_readme_does(tmp_path, monkeypatch):
    for package in ("cv2", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    Path("fercore-run/runs/BL").mkdir(parents=True)
    network = models.build("tiny-bn", seed=1)
    checkpoint.save_model(Path("fercore-run/runs/BL/best.safetensors"), network)
    picture = Image.new("L", (300, 300), 150)
    picture.paste(draw_face(160), (60, 80))
    picture.save("photo.jpg")
    section = README.split("## Using a network")[1].split("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.S | re.M)
    assert len(blocks) == 3
    names: dict = {}
    for block in blocks:
        used = {name: names[name] for name in ("model", "backend") if name in names}
        names |= paste(block, used)
    (face,) = names["predictions"]
    assert face.found
    assert names["not_read"] == []
    assert Path("seen/photo.png").is_file()
    assert names["logits"].shape == (2, 7)
    assert names["probabilities"].sum(axis=1) == pytest.approx(1)
    for name, array in names["imported"].state().items():
        np.testing.assert_array_equal(array, network.state()[name])
    assert Path("imported.safetensors").is_file()


def test_the_commands_of_the_readme_are_understood():
    section = README.split("## Using a network")[1].split("\n## ")[0]
    commands = re.findall(r"^fercore-train (.*?)(?: +#.*)?$", section, re.M)
    assert {parse(command.split()).command for command in commands} == {
        "evaluate",
        "predict",
        "export",
        "import",
    }
