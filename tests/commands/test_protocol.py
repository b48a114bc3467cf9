"""``fercore-train protocol``: from flags and files to a table, interrupted and resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fercore import cli, protocol
from fercore.study_data import StudyData
from tests.commands.running import QUICK, ROOT, fails


def test_a_study_from_flags_to_table(cpu, faces, capsys):
    arguments = ["protocol", *faces, *QUICK, "--strategies", "FC,TO", "--out", "run"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr()
    assert "FC 50" in shown.out
    assert " of training in all" in shown.out
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


def test_contempt_by_flag_and_in_a_file(faces, capsys):
    assert cli.main(["protocol", *faces, "--contempt", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert "contempt = true  # " in printed
    Path("study.toml").write_text(printed)
    assert cli.main(["protocol", "study.toml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert cli.main(["protocol", *faces, "--print-config"]) == 0
    assert "contempt = false  # " in capsys.readouterr().out
    Path("study.toml").write_text('[source]\nname = "jaffe"\npath = "x"\ncontempt = true\n')
    assert "contempt belongs to the study" in fails(capsys, "protocol", "study.toml")


def test_a_flag_sets_the_crop_and_options_of_a_source_named_beside_it(faces, capsys):
    crop = ["--set", "source.crop=[0.0, 0.0, 0.5, 0.5]", "--set", "source.options.subject='(.)'"]
    assert cli.main(["protocol", *faces, *crop, "--print-config"]) == 0
    text = capsys.readouterr().out
    source = tomllib.loads(text)["source"]
    assert source["crop"] == [0.0, 0.0, 0.5, 0.5]
    assert source["options"] == {"subject": "(.)"}
    assert source["path"] == faces[1].partition(":")[2]


def test_labels_of_ferplus_by_flag_and_in_a_file(capsys):
    flags = ["--source", "ferplus=votes", "--target", "folder=faces"]
    said = ["--set", "source.options.labels=probability"]
    assert cli.main(["protocol", *flags, *said, "--print-config"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["source"]["options"] == {"labels": "probability"}
    Path("study.toml").write_text(text.replace('"probability"', '"multi-target"'))
    assert cli.main(["protocol", "study.toml", "--print-config"]) == 0
    options = tomllib.loads(capsys.readouterr().out)["source"]["options"]
    assert options == {"labels": "multi-target"}
    Path("study.toml").write_text(text.replace('"probability"', '"multitarget"'))
    assert cli.main(["protocol", "study.toml", "--print-config"]) != 0
    assert "labels cannot be 'multitarget'; did you mean 'multi-target'" in capsys.readouterr().err
    said = ["--set", "source.options.label=probability"]
    assert cli.main(["protocol", *flags, *said, "--print-config"]) != 0
    assert "no setting 'label'; did you mean 'labels'" in capsys.readouterr().err


PLUS = ["--source", "fer2013=f", "--target", "plus=ferplus:votes", "jaffe=j"]


def printed(capsys, *arguments):
    """The settings that ``protocol --print-config`` says."""
    assert cli.main(["protocol", *arguments, "--print-config"]) == 0
    return tomllib.loads(capsys.readouterr().out)


def test_flags_set_the_crop_and_options_of_targets_named_beside_them(capsys):
    said = ["--set", "targets.plus.options.labels=probability"]
    said += ["--set", "targets.plus.options.agreement=0.6", "--set", "targets.jaffe.crop=[0,0,1,1]"]
    plus, jaffe = printed(capsys, *PLUS, *said)["targets"]
    assert plus["options"] == {"labels": "probability", "agreement": 0.6}
    assert plus["path"].endswith("/votes")
    assert "crop" not in plus
    assert jaffe["crop"] == [0.0, 0.0, 1.0, 1.0]


def test_flags_set_single_options_of_the_files_datasets(capsys):
    Path("study.toml").write_text(
        """\
        source = { name = "mug", path = "m", options = { total = 500, middle = [0.2, 0.8] } }
        [[targets]]
        name = "ck.48"
        format = "ferplus"
        path = "votes"
        options = { labels = "multi-target", agreement = 0.6 }
        [[targets]]
        name = "jaffe"
        path = "j"
        """
    )
    said = ["--set", "source.options.total=50", "--set", 'targets."ck.48".options.agreement=0.7']
    found = printed(capsys, "study.toml", *said)
    assert found["source"]["options"] == {"total": 50, "middle": [0.2, 0.8]}
    plus, jaffe = found["targets"]
    assert plus["options"] == {"labels": "multi-target", "agreement": 0.7}
    assert "options" not in jaffe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "targets.plsu.options.labels=probability",
            "targets.plsu: there is no such target; did you mean 'plus'?",
        ),
        (
            "targets.plus.options.labls=probability",
            "there is no setting 'labls'; did you mean 'labels'?",
        ),
        (
            "targets.plus.options.labels=probabilty",
            "labels cannot be 'probabilty'; did you mean 'probability'?",
        ),
        (
            "targets.plus.option.labels=probability",
            "there is no setting 'option'; did you mean 'options'?",
        ),
        ("targets.plus.seeds=2", "seeds belongs to the study"),
        (
            "targets.plus=probability",
            "targets.plus: say which of its settings, such as targets.plus.crop",
        ),
        ("targets=5", "targets is given by --set and by a flag of its own"),
    ],
)
def test_a_wrong_setting_of_a_target_is_named(capsys, setting, message):
    said = fails(capsys, "protocol", *PLUS[:2], "--set", setting, *PLUS[2:], "--print-config")
    assert message in said


def test_drawn_targets_have_no_settings(capsys):
    said = fails(capsys, "protocol", "--set", "targets.jaffe.crop=[0,0,1,1]", "--print-config")
    assert "targets.jaffe: there is no such target; there are none here" in said


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


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_ctrl_c_and_a_resume(cpu, faces, number, jobs):
    """Interrupted, as a terminal or a batch system does it, in the middle of training."""
    # A test run in the background ignores SIGINT, and so would its children.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}; from fercore.cli import main; import sys; sys.exit(main())"
    study = [*faces, "--model", "tiny", "--epochs", "500", "--strategies", "BL", "--out", "run"]
    study += ["--jobs", jobs, "--verbose"]
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
