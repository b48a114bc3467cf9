"""What the README shows works: its commands are the ones that are run, its strategy is one."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from fercore import backends, cli
from fercore.config import study_from
from fercore.data import FORMATS
from fercore.plan import make_plan
from fercore.protocol import measure_work
from fercore.study_data import load_one
from tests.data.trees import write_images

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
