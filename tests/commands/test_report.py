"""``fercore-train report``: tables, pages, and a study that is not finished."""

import os
import subprocess
import sys
from pathlib import Path

from fercore import cli
from tests.commands.running import QUICK, ROOT, fails


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
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("run/report.html: made again whenever the study changes")
    assert last == "run/report.html: made for the last time"
    assert 'http-equiv="refresh"' not in Path("run/report.html").read_text()
