"""What the README shows works: its commands are the ones that are run, its strategy is one."""

import re
import tomllib
from pathlib import Path

from fercore import backends
from fercore.config import study_from
from fercore.plan import make_plan
from fercore.protocol import measure_work

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_strategy_of_the_readme_is_one():
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    table = {**tomllib.loads(text), "strategies": ["half-conv4_3"], "model": "svgg10"}
    (run,) = [r for r in make_plan(study_from(table), "a", ("b",)) if r.id == "b-half-conv4_3-100"]
    measure_work([run], backends.get("reference", dtype="float32"))


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci/run").read_text().splitlines()
