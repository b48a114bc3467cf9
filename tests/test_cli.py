"""The command line: every subcommand, every way to fail, and how fast --help is."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import load_file

from fercore import backends, checkpoint, cli, models, protocol
from fercore.errors import FercoreError
from fercore.faces import Box
from fercore.study_data import StudyData
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
    [
        *("protocol", "fit", "evaluate", "predict", "export", "import"),
        *("inspect", "synth", "report", "profile", "devices"),
    ],
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
        (["protocol", "--set", "recipe=3", "--epochs", "2"], "recipe.epochs is given by --set and"),
        (["protocol", "--set", "seed=3", "--seed", "4"], "seed is given by --set and by a flag"),
        (
            ["protocol", "--target", "jaffe=/x", "--set", "targets.crop=3"],
            "targets is given by --set and by a flag of its own; remove one of them",
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
        (["inspect", "afectnet=/x"], "did you mean 'affectnet'"),
        (["protocol", "--device", "gpu"], "no device 'gpu'; did you mean 'cuda'?"),
        (["evaluate", "m", "jaffe=/x", "--device", "gpu"], "did you mean 'cuda'?"),
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


def test_event_files_are_written_where_they_are_wanted(cpu, faces, capsys):
    arguments = ["protocol", *faces, *QUICK, "--strategies", "FC", "--out", "run"]
    assert cli.main([*arguments, "--tensorboard"]) == 0
    runs = {path.parent.name for path in Path("run/tensorboard").rglob("events*")}
    assert runs == {"BL", "tgt-FC-50", "tgt-FC-100"}
    assert cli.main([*arguments[:-1], "plain"]) == 0
    assert not Path("plain/tensorboard").exists()
    for file in ("results.json", "runs/BL/best.safetensors"):
        assert Path("run", file).read_bytes() == Path("plain", file).read_bytes()


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


def test_a_flag_sets_the_crop_and_options_of_a_source_named_beside_it(faces, capsys):
    crop = ["--set", "source.crop=[0.0, 0.0, 0.5, 0.5]", "--set", "source.options.subject='(.)'"]
    assert cli.main(["protocol", *faces, *crop, "--print-config"]) == 0
    text = capsys.readouterr().out
    source = tomllib.loads(text)["source"]
    assert source["crop"] == [0.0, 0.0, 0.5, 0.5]
    assert source["options"] == {"subject": "(.)"}
    assert source["path"] == faces[1].partition(":")[2]


def test_a_run_directorys_settings_give_the_same_run_anywhere(
    cpu, faces, tmp_path, monkeypatch, capsys
):
    """Relative paths, a fold, a strategy of one's own: config.toml alone, from another folder."""
    assert cli.main(["inspect", faces[3], "--folds", "4", "--write", "folds"]) == 0
    Path("study.toml").write_text(
        """
        source = "src=folder:../source"
        targets = ["tgt=folder:../target"]
        strategies = ["FC", "half"]
        amounts = [50]
        splits = "folds/fold-2"
        model = "tiny"
        seed = 3
        out = "first"
        [recipe]
        epochs = 1
        batch_size = 16
        [finetune]
        min_steps = 0
        [[strategy]]
        name = "FC"
        recipe = { learning_rate = 0.005 }
        [[strategy]]
        name = "half"
        starts_from = "BL"
        trainable = ["fc3.*"]
        channels = { "fc2.*" = [0, 1] }
        """
    )
    assert cli.main(["protocol", "study.toml"]) == 0
    first = Path("first").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["protocol", str(first / "config.toml"), "--out", "second"]) == 0
    files = [file.relative_to(first) for file in first.rglob("best.safetensors")]
    assert len(files) == 3
    for file in (*files, Path("results.json"), Path("splits/tgt.csv")):
        assert (Path("second") / file).read_bytes() == (first / file).read_bytes()
    again = tomllib.loads(Path("second/config.toml").read_text())
    assert again.pop("out") == "second"
    settings = tomllib.loads((first / "config.toml").read_text())
    assert settings.pop("out") == "first"
    assert again == settings


def test_a_dry_run_writes_nothing(cpu, faces, capsys, monkeypatch):
    monkeypatch.setattr(StudyData, "join", None)  # images are counted, not copied
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_ctrl_c_and_a_resume(cpu, faces, number):
    """Interrupted, as a terminal or a batch system does it, in the middle of training."""
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
            process.send_signal(number)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Traceback" not in rest
    assert "to continue, give the same command with --resume" in rest
    state = json.loads(Path("run/runs/BL/state.json").read_text())
    assert state["status"] == "running"
    assert 2 <= state["epoch"] < 500


def test_file_names_that_are_no_unicode(cpu, faces, tmp_path, capsys):
    """They come from archives of other systems: a bad image must not spoil the study's records."""
    sad = os.fsencode(tmp_path / "target" / "sad")
    os.rename(sad + b"/000.png", sad + b"/\xfc.png")
    Path(os.fsdecode(sad + b"/\xff.png")).touch()
    arguments = ["protocol", *faces, *QUICK, "--strategies", "BL", "--out", "run"]
    assert cli.main(arguments) == 0
    assert "1 entry skipped" in capsys.readouterr().err
    assert cli.main(["report", "run"]) == 0
    assert cli.main([*arguments, "--resume"]) == 0
    assert cli.main(["inspect", faces[3]]) == 0


def test_a_terminal_of_ascii_alone(cpu, faces, capsys):
    assert cli.main(["protocol", *faces, *QUICK, "--strategies", "BL", "--out", "run"]) == 0
    code = "from fercore.cli import main; import sys; sys.exit(main(['report', 'run']))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert r"\xb1" in done.stdout


def test_one_network_and_an_unfinished_study_have_no_table(cpu, faces, capsys):
    assert cli.main(["fit", faces[1], "--model", "tiny", "--epochs", "1", "--out", "model"]) == 0
    capsys.readouterr()
    assert "model: holds one network, which has no table" in fails(capsys, "report", "model")
    arguments = ["protocol", *faces, *QUICK, "--strategies", "BL", "--out", "run"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    Path("run/results.json").unlink()
    unfinished = fails(capsys, "report", "run", "--format", "csv")
    assert "run: holds no results.json; finish the study" in unfinished
    Path("run/results.json").write_text("[3")
    assert "run/results.json: is damaged" in fails(capsys, "report", "run")


def test_the_page_of_a_study(cpu, faces, capsys):
    arguments = ["protocol", *faces, *QUICK, "--strategies", "BL,FC", "--out", "run"]
    assert cli.main(arguments) == 0
    assert "run: report.html, table.md" in capsys.readouterr().out
    page = Path("run/report.html")
    finished = page.read_text()
    assert "tgt-FC-50" in finished
    assert "Not finished" not in finished
    page.unlink()
    assert cli.main(["report", "run"]) == 0
    shown = capsys.readouterr().out
    assert "FC 50" in shown
    assert "run/report.html: all results, as a page" in shown
    assert page.read_text() == finished

    assert "<img" not in finished
    assert cli.main(["report", "run", "--faces"]) == 0
    assert 'src="data:image/png;base64,' in page.read_text()

    page.unlink()
    assert cli.main(["report", "run", "--format", "csv"]) == 0
    assert not page.exists()
    wrong = fails(capsys, "report", "run", "--format", "csv", "--watch")
    assert "--format prints the table alone" in wrong


def test_the_page_of_a_study_that_is_not_finished(cpu, faces, capsys):
    arguments = ["protocol", *faces, *QUICK, "--strategies", "BL,FC", "--out", "run"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    Path("run/results.json").unlink()
    Path("run/runs/tgt-FC-100/results.json").unlink()
    assert cli.main(["report", "run"]) == 0
    assert "FC 50" not in capsys.readouterr().out  # a table is for finished studies
    assert "2 of 3 runs are trained and tested" in Path("run/report.html").read_text()


def test_a_watch_ends_with_the_study(cpu, faces, capsys):
    assert cli.main(["protocol", *faces, *QUICK, "--strategies", "BL", "--out", "run"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "run", "--watch"]) == 0
    assert "run/report.html: made again whenever the study changes" in capsys.readouterr().out
    assert 'http-equiv="refresh"' not in Path("run/report.html").read_text()


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
    assert "hole images were used" in capsys.readouterr().out
    assert cli.main(["predict", "model/best.safetensors", face, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["file"] == face
    crop = ["predict", "model/best.safetensors", face, "--crop"]
    assert cli.main([*crop, "0.1,0.1,0.9,0.9"]) == 0
    assert "the part 0.1,0.1,0.9,0.9 was used" in capsys.readouterr().out
    assert "left,top,right,bottom" in fails(capsys, *crop, "0.1,x")
    assert "left < right" in fails(capsys, *crop, "0.9,0.1,0.1,0.9")


@pytest.fixture
def tiny():
    """The file of an untrained network."""
    backend = backends.get("reference", dtype="float32")
    checkpoint.save_model(Path("tiny.safetensors"), models.build("tiny", backend=backend))
    return "tiny.safetensors"


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
    assert "was not written by fercore" in fails(capsys, "export", "there.safetensors", "x.onnx")


def test_export_to_onnx(tiny, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed")
    assert cli.main(["export", tiny, "tiny.onnx"]) == 0
    assert "tiny.onnx: pixels in, logits and probabilities out" in capsys.readouterr().out
    assert Path("tiny.onnx").stat().st_size > 1000
    assert "end it in .onnx" in fails(capsys, "export", tiny, "tiny.tflite")


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


def test_synth_draws_into_no_folder_of_other_things(capsys):
    Path("faces/thesis").mkdir(parents=True)
    assert "faces: holds other files (thesis)" in fails(capsys, "synth", "faces")


def test_synth_draws_one_dataset(capsys):
    assert cli.main(["synth", "faces", "--only", "jaffe"]) == 0
    assert "jaffe=faces" in capsys.readouterr().out
    assert Path("faces/SYNTHETIC.txt").exists()


def test_devices_lists_every_backend(capsys):
    assert cli.main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == list(backends.NAMES)
