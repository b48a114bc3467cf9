"""The command line's frame: help, every way to fail, and how fast --help is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fercore import cli
from fercore.commands import COMMANDS, devices
from fercore.errors import FercoreError
from tests.commands.running import ROOT, fails, python


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


NAMES = [
    *("protocol", "fit", "evaluate", "predict", "export", "import"),
    *("inspect", "synth", "report", "profile", "devices"),
]


@pytest.mark.parametrize("command", NAMES)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    assert f"usage: fercore-train {command}" in capsys.readouterr().out


def test_a_subcommand_is_found_by_its_name():
    with pytest.raises(FercoreError) as error:
        cli.parse(["zzzz"])
    named = str(error.value).partition("choose from ")[2].partition(" (see")[0]
    assert named.split(", ") == list(COMMANDS) == NAMES
    for name, module in COMMANDS.items():
        assert module.__name__ == f"fercore.commands.{'import_' if name == 'import' else name}"


def test_help_imports_nothing_heavy():
    code = "import sys; from fercore.cli import build_parser; build_parser(); print(*sys.modules)"
    modules = set(python("-c", code).stdout.split())
    assert "fercore.cli" in modules
    heavy = {"numpy", "PIL", "rich", "safetensors", "msgspec", "fercore.models", "fercore.config"}
    assert not heavy & modules


def test_help_is_instant():
    code = "from fercore.cli import main; main(['--help'])"
    times = []
    for _ in range(3):
        started = time.perf_counter()
        assert python("-c", code).returncode == 0
        times.append(time.perf_counter() - started)
    bare = min(_timed("pass") for _ in range(3))
    assert min(times) - bare < 0.3


def _timed(code):
    started = time.perf_counter()
    python("-c", code)
    return time.perf_counter() - started


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "are required: command"),
        (["protocl"], "no command 'protocl'; did you mean 'protocol'?"),
        (["protocol", "--epoch", "3"], "does not know '--epoch'; did you mean '--epochs'?"),
        (["protocol", "--option", "subject=x"], "a study's file has crop and options"),
        (["fit", "--crop=0,0,1,1", "jaffe=J"], "source.crop=[0.1,0.1,0.9,0.9]"),
        (["protocol", "--seeds", "x"], "--seeds: invalid int value: 'x'"),
        (["protocol", "--amounts", "50;100"], "--amounts 50;100: write whole numbers"),
        (["protocol", "--amounts", "0,100"], "amounts[0]: expected int >= 1"),
        (["protocol", "--strategies", "BL,FCC"], "no strategy 'FCC'; did you mean 'FC'?"),
        (["protocol", "--model", "svgg11"], "no model 'svgg11'; did you mean 'svgg10'?"),
        (["protocol", "--device", "cpuu"], "no device 'cpuu'; did you mean 'cpu'?"),
        (["protocol", "--precision", "fp16"], "precision cannot be 'fp16'"),
        (["fit", "fer2013=/x", "--device", "cpu", "--precision", "tf32"], "fp32, not in tf32"),
        (["protocol", "--epochs", "0"], "[recipe]: epochs: expected int >= 1"),
        (["protocol", "--set", "recipe.lr=1"], "no setting 'lr'"),
        (["protocol", "--set", "recipe.epochs"], "write KEY=VALUE"),
        (["protocol", "--set", "recipe=3"], "[recipe]: expected a table"),
        (["protocol", "--set", "recipe=3", "--epochs", "2"], "recipe.epochs is given by --set and"),
        (["protocol", "--set", "seed=3", "--seed", "4"], "seed is given by --set and by a flag"),
        (
            ["protocol", "--target", "jaffe=/x", "--set", "targets.crop=3"],
            "targets.crop: there is no such target; choose from jaffe",
        ),
        (["protocol", "--source", "jaffe=/x", "--set", "source.crp=3"], "did you mean 'crop'"),
        (["protocol", "--set", "strategy=3"], "[strategy]: expected a list of tables"),
        (["protocol", "--set", "seed=3", "--set", "seed.x=3"], "seed has been given a value"),
        (["protocol", "--set", "seed.x=3"], "seed: expected int, got table"),
        (
            ["protocol", "--target", "jafe=/x"],
            "'jafe' is not a dataset format; did you mean 'jaffe'",
        ),
        (["protocol", "--target", "jaffe=/x"], "there are targets but no source"),
        (["protocol", "--source", "jaffe=/x"], "there is no target; add --target"),
        (["protocol", "absent.toml"], "absent.toml: cannot be read"),
        (["protocol", "--out", "x", "--resume"], "x/config.toml: is not there to continue from"),
        (["protocol", "jaffe=/x"], "jaffe=/x: no file of settings is there; give a dataset after"),
        (["inspect", "jaffe=/absent"], "/absent: no such file or folder"),
        (["evaluate", "absent.safetensors", "jaffe=/x"], "absent.safetensors"),
        (["evaluate", "m", "jaffe=/x", "--part", "tset"], "'tset'; did you mean 'test'?"),
        (["predict", "m.safetensors"], "are required: FILE"),
        (["predict", "absent.safetensors", "x.jpg"], "absent.safetensors: cannot be read"),
        (["export", "absent.safetensors", "x.onnx"], "absent.safetensors: cannot be read"),
        (["export", "absent.safetensors"], "are required: OUT"),
        (["import", "absent.pth.tar", "x.safetensors"], "end in .safetensors, .pt or .pth"),
        (["import", "absent.safetensors", "x.safetensors", "--std", "0"], "is not a number above"),
        (["import", "x.safetensors", "y.safetensors", "--classes", "a,b"], "classes a, b do not"),
        (["report", "absent"], "absent: is no run directory"),
        (["synth", "faces", "--only", "rafdb"], "no synthetic faces for 'rafdb'"),
        (["synth", "faces", "--only", "jafe"], "did you mean 'jaffe'?"),
        (["inspect", "afectnet=/x"], "did you mean 'affectnet'"),
        (["protocol", "--device", "gpu"], "no device 'gpu'; did you mean 'cuda'?"),
        (["evaluate", "m", "jaffe=/x", "--device", "gpu"], "did you mean 'cuda'?"),
        (["protocol", "--precision", "bf61"], "precision cannot be 'bf61'; did you mean 'bf16'?"),
        *(
            ([*command, "--device", "cpu", "--precision", precision], message)
            for command in (["evaluate", "m", "jaffe=/x"], ["predict", "m", "x.jpg"])
            for precision, message in (
                ("bf61", "precision cannot be 'bf61'; did you mean 'bf16'?"),
                ("bf16", "backend cpu computes in fp32, not in bf16; choose precision fp32"),
            )
        ),
        (["protocol", "--out", ""], "one of the arguments is empty"),
        (["protocol", "--seed", "-1"], "'-1' is not a whole number from 0 to 2147483647"),
        (["inspect", "jaffe=/x", "--seed", "9999999999"], "is not a whole number from 0"),
        (["protocol", "--strategies", "FC,FC"], "the strategy 'FC' is there twice"),
        (["protocol", "--amounts", "50,50"], "the amount '50' is there twice"),
        (["protocol", "--set", "learning_rate=1"], "belongs to a recipe; write it below [recipe]"),
        (["protocol", "--set", "amounts=50"], "amounts: expected list, got int"),
        (["protocol", "--out", "\udcff"], "'\\udcff' is not valid Unicode"),
        (["protocol", "--set", r'out="a\u0000"'], "'a\\x00' is not valid Unicode"),
        (["fit", "jaffe=/x", "--set", "seeds=3"], "fit has no setting seeds; remove it"),
        (["fit", "jaffe=/x", "--set", "baseline=x"], "fit has no setting baseline; remove it"),
        (["inspect", "jaffe=/x", "--sheet", "x.jpg"], "'x.jpg' does not end in .png"),
        (["inspect", "jaffe=/x", "--folds", "many"], "'many' is neither a number nor 'subjects'"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, message, capsys):
    assert message in fails(capsys, *arguments)
    assert list(Path().iterdir()) == []  # nothing half-written


def test_debug_shows_the_traceback():
    with pytest.raises(FercoreError, match="no such file"):
        cli.main(["inspect", "jaffe=/absent", "--debug"])


def test_a_fault_of_ours_is_called_that(capsys, monkeypatch):
    monkeypatch.setattr(devices, "run", lambda options: 1 / 0)
    error = fails(capsys, "devices", status=1)
    assert "unexpected ZeroDivisionError" in error
    with pytest.raises(ZeroDivisionError):
        cli.main(["devices", "--debug"])


def test_too_little_memory_is_bad_input(capsys, monkeypatch):
    def exhaust(options):
        raise MemoryError

    monkeypatch.setattr(devices, "run", exhaust)
    assert "not enough memory" in fails(capsys, "devices")


def test_a_reader_that_has_gone_is_no_error():
    code = "from fercore.cli import main; import sys; sys.exit(main(['devices']))"
    script = f'{sys.executable} -c "{code}" | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() in ("0", "141")
    assert "Traceback" not in done.stderr


def test_a_reader_of_errors_that_has_gone_is_no_crash():
    code = "from fercore.cli import main; import sys; sys.exit(main(['inspect', 'jaffe=/absent']))"
    script = f'{sys.executable} -c "{code}" 2>&1 | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "2"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_crash(redirection):
    code = "from fercore.cli import main; import sys; sys.exit(main(['devices']))"
    script = f'{sys.executable} -c "{code}" {redirection}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 0


def test_a_full_disk_under_the_output_is_one_line():
    code = "from fercore.cli import main; import sys; sys.exit(main(['devices']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "error: the output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
