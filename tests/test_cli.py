"""The command line: every subcommand, every way to fail, and how fast --help is."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fercore import backends, cli, protocol
from fercore.errors import FercoreError
from tests.faces import shrink_tiny, write_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """A small network, a cache of our own, and an empty working folder."""
    shrink_tiny(monkeypatch)
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def cpu():
    try:
        return backends.get("cpu")
    except FercoreError as error:
        pytest.skip(str(error))


@pytest.fixture
def faces(tmp_path):
    write_folder(tmp_path / "source", 8, seed=1)
    write_folder(tmp_path / "target", 8, seed=2)
    return [
        *("--source", f"src=folder:{tmp_path / 'source'}"),
        *("--target", f"tgt=folder:{tmp_path / 'target'}"),
    ]


QUICK = [
    *("--model", "tiny", "--epochs", "1", "--finetune-epochs", "1"),
    *("--set", "finetune.min_steps=0", "--set", "recipe.batch_size=16"),
]


def fails(capsys, *arguments, status=2):
    """Run a command that must fail with one line; the line."""
    assert cli.main(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("fercore-train: error: ")
    assert error.count("\n") == 1
    return error


def python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, **options
    )


# -- help and mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["protocol", "fit", "evaluate", "predict", "inspect", "synth", "report", "devices"],
)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    assert f"usage: fercore-train {command}" in capsys.readouterr().out


def test_the_parser_and_the_commands_agree():
    from fercore.commands import _COMMANDS

    with pytest.raises(FercoreError) as error:
        cli.parse(["zzzz"])
    named = str(error.value).partition("choose from ")[2].partition(" (see")[0]
    assert named.split(", ") == list(_COMMANDS)


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
        (["protocol", "--set", "seed=3", "--set", "seed.x=3"], "seed has been given a value"),
        (["protocol", "--set", "seed.x=3"], "seed: expected int, got object"),
        (
            ["protocol", "--target", "jafe=/x"],
            "'jafe' is not a dataset format; did you mean 'jaffe'",
        ),
        (["protocol", "--target", "jaffe=/x"], "there are targets but no source"),
        (["protocol", "--source", "jaffe=/x"], "there is no target; add --target"),
        (["protocol", "absent.toml"], "absent.toml: cannot be read"),
        (["inspect", "jaffe=/absent"], "/absent: no such file or folder"),
        (["evaluate", "absent.safetensors", "jaffe=/x"], "absent.safetensors"),
        (["evaluate", "m", "jaffe=/x", "--part", "tset"], "'tset'; did you mean 'test'?"),
        (["predict", "m.safetensors"], "are required: FILE"),
        (["report", "absent"], "absent: holds no results.json"),
        (["synth", "faces", "--only", "rafdb"], "no synthetic faces for 'rafdb'"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, message, capsys):
    assert message in fails(capsys, *arguments)
    assert list(Path().iterdir()) == []  # nothing half-written


def test_debug_shows_the_traceback():
    with pytest.raises(FercoreError, match="no such file"):
        cli.main(["inspect", "jaffe=/absent", "--debug"])


def test_a_fault_of_ours_is_called_that(capsys, monkeypatch):
    from fercore import commands

    monkeypatch.setitem(commands._COMMANDS, "devices", lambda options: 1 / 0)
    error = fails(capsys, "devices", status=1)
    assert "unexpected ZeroDivisionError" in error
    with pytest.raises(ZeroDivisionError):
        cli.main(["devices", "--debug"])


def test_too_little_memory_is_bad_input(capsys, monkeypatch):
    from fercore import commands

    def exhaust(options):
        raise MemoryError

    monkeypatch.setitem(commands._COMMANDS, "devices", exhaust)
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


# -- protocol ---------------------------------------------------------------------------------


def test_a_study_from_flags_to_table(cpu, faces, capsys):
    arguments = ["protocol", *faces, *QUICK, "--strategies", "FC,TO", "--out", "run"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr()
    assert "FC 50" in shown.out
    assert "[5/5] tgt-TO-100  tested: " in shown.err
    run = Path("run")
    assert (run / "table.md").read_text().startswith("**Accuracy on both test sets")
    assert r"\begin{tabular}" in (run / "table.tex").read_text()
    assert len(json.loads((run / "results.json").read_text())) == 5
    with (run / "results.csv").open() as file:
        assert next(csv.DictReader(file))["run"] == "BL"
    assert cli.main(["report", "run"]) == 0
    assert "FC 50" in capsys.readouterr().out
    for layout, sign in (("markdown", "| "), ("latex", r"\toprule"), ("csv", ",BL,")):
        assert cli.main(["report", "run", "--format", layout]) == 0
        assert sign in capsys.readouterr().out


def test_resume_needs_no_flags_again(cpu, faces, capsys):
    arguments = ["protocol", *faces, *QUICK, "--strategies", "FC", "--out", "run"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    results = Path("run/results.json").read_bytes()
    assert "add --resume" in fails(capsys, *arguments)
    assert cli.main(["protocol", "--out", "run", "--resume"]) == 0
    assert "(trained before)" in capsys.readouterr().err
    assert Path("run/results.json").read_bytes() == results
    capsys.readouterr()
    changed = ["protocol", "--out", "run", "--resume", "--epochs", "2"]
    assert "recipe.epochs: 1 -> 2" in fails(capsys, *changed)
    assert cli.main([*changed, "--accept-changes"]) == 0
    assert "recipe.epochs" not in capsys.readouterr().err


def test_several_targets_after_one_flag_or_several(faces):
    once = cli.parse(["protocol", "--target", "jaffe=/a", "mug=/b"])
    twice = cli.parse(["protocol", "--target", "jaffe=/a", "--target", "mug=/b"])
    assert once.targets == twice.targets == ["jaffe=/a", "mug=/b"]


def test_printed_settings_give_the_same_study(faces, capsys):
    assert cli.main(["protocol", *faces, *QUICK, "--print-config"]) == 0
    text = capsys.readouterr().out
    Path("study.toml").write_text(text)
    assert cli.main(["protocol", "study.toml", "--print-config"]) == 0
    assert capsys.readouterr().out == text
    assert "epochs = 1  # passes over the training images" in text


def test_a_dry_run_writes_nothing(cpu, faces, capsys):
    assert cli.main(["protocol", *faces, *QUICK, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "11 runs; about" in shown
    assert list(Path().iterdir()) == []


def test_ctrl_c_says_how_to_go_on(cpu, faces, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(protocol, "execute_run", interrupted)
    assert cli.main(["protocol", *faces, *QUICK]) == 130
    assert (
        "interrupted; to continue, give the same command with --resume" in capsys.readouterr().err
    )


def test_a_real_ctrl_c_and_a_resume(cpu, faces):
    """Interrupted as a terminal does it, in the middle of training; then finished."""
    # A test run in the background ignores SIGINT, and so would its children.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}; from fercore.cli import main; import sys; sys.exit(main())"
    study = [*faces, "--model", "tiny", "--epochs", "500", "--strategies", "BL", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "protocol", *study],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "epoch 2/500" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Traceback" not in rest
    assert "to continue, give the same command with --resume" in rest
    state = json.loads(Path("run/runs/BL/state.json").read_text())
    assert state["status"] == "running"
    assert 2 <= state["epoch"] < 500


# -- the other commands -----------------------------------------------------------------------


def test_fit_evaluate_and_predict(cpu, tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    fit = ["fit", f"src=folder:{source}", "--model", "tiny", "--epochs", "1", "--out", "model"]
    assert cli.main(fit) == 0
    shown = capsys.readouterr().out
    assert "src, test: " in shown
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
    assert "whole images" in capsys.readouterr().out
    assert cli.main(["predict", "model/best.safetensors", face, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["file"] == face
    crop = ["predict", "model/best.safetensors", face, "--crop"]
    assert cli.main([*crop, "0.1,0.1,0.9,0.9"]) == 0
    capsys.readouterr()
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


def test_inspect_counts_and_draws_a_sheet(tmp_path, capsys):
    source = write_folder(tmp_path / "source", 8, seed=1)
    assert cli.main(["inspect", f"src=folder:{source}", "--sheet", "sheet.png"]) == 0
    assert "56" in capsys.readouterr().out
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")


def test_synth_draws_one_dataset(capsys):
    assert cli.main(["synth", "faces", "--only", "jaffe"]) == 0
    assert "jaffe=faces" in capsys.readouterr().out
    assert Path("faces/SYNTHETIC.txt").exists()


def test_devices_lists_every_backend(capsys):
    assert cli.main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == list(backends.NAMES)
