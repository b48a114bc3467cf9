"""What is shown while a study runs: on a terminal, and in a file."""

import io

import pytest

from fercore.forecast import Job, Work
from fercore.progress import LiveListener, PlainListener, describe_epoch, open_listener
from fercore.run_directory import DatasetFacts
from tests.records import record

NO_TESTS = {"work": Work(0, 1), "views": 0, "followed": 0, "tested": 0}
JOBS = [
    Job(run="BL", kind="all", images=100, epochs=2, steps=4, **NO_TESTS),
    Job(run="jaffe-FC-50", kind="fc", images=10, epochs=1, steps=1, **NO_TESTS),
]


class Data:
    """As much of a StudyData as is shown."""

    def facts(self):
        return {
            "jaffe": DatasetFacts(
                format="jaffe",
                synthetic=False,
                images={"train": 131, "validation": 15, "test": 67},
                shares={},
                digest="",
                notes=("A note.",),
                skipped=(("a.png", "truncated"), ("b.png", "empty")),
            )
        }


def line(epoch, **changes):
    values = {
        "epoch": epoch,
        "train_loss": 1.25,
        "train_accuracy": 0.5,
        "validation": {"source": {"accuracy": 0.25}, "target": {"accuracy": 0.125}},
        "images_per_s": 50.0,
        "kept_features": 0,
    }
    return {**values, **changes}


def play(listener):
    """A study of two runs, the second of which was finished before."""
    with listener:
        listener.drawing("faces", 5, 10)
        listener.drawing("faces", 10, 10)
        listener.planned(JOBS, Data())
        listener.started("BL")
        for epoch in (1, 2):
            listener.step("BL", 1, 2)
            listener.step("BL", 2, 2)
            listener.epoch("BL", line(epoch))
        listener.finished("BL", [record()])
        listener.started("jaffe-FC-50")
        listener.finished("jaffe-FC-50", [record("FC", 50, 0.5, 0.75)])


def test_a_file_gets_one_plain_line_an_epoch():
    stream = io.StringIO()
    play(PlainListener(stream))
    lines = stream.getvalue().splitlines()
    assert lines == [
        "faces: 10 synthetic faces drawn",
        "jaffe: 131 / 15 / 67 images to train on, to validate and to test",
        "  A note.",
        "  2 entries skipped, the first a.png: truncated",
        "[1/2] BL  epoch 1/2  loss 1.250  train 50.0 %  source 25.0 %  target 12.5 %  50 images/s"
        "  2 s left",
        "[1/2] BL  epoch 2/2  loss 1.250  train 50.0 %  source 25.0 %  target 12.5 %  50 images/s"
        "  0 s left",
        "[1/2] BL  tested: fer2013 60.0 %, jaffe 40.0 %",
        "[2/2] jaffe-FC-50  tested: fer2013 50.0 %, jaffe 75.0 %  (trained before)",
    ]


def test_kept_features_are_told():
    text = describe_epoch(line(1, kept_features=2_500_000), JOBS[0])
    assert text.endswith("50 images/s  2.5 MB of features kept")


def test_lines_appear_at_once():
    class Stream(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    stream = Stream()
    play(PlainListener(stream))
    assert stream.flushed == len(stream.getvalue().splitlines())


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_live_display_and_keeps_finished_runs():
    stream = Terminal()
    listener = open_listener(stream)
    assert isinstance(listener, LiveListener)
    play(listener)
    text = stream.getvalue()
    assert "tested: fer2013 60.0 %, jaffe 40.0 %" in text
    assert "tested: fer2013 50.0 %, jaffe 75.0 %  (trained before)" in text
    assert "2 entries skipped" in text


def test_the_live_display_shows_the_epoch_and_the_time_left():
    stream = Terminal()
    listener = open_listener(stream)
    with listener:
        listener.planned(JOBS, Data())
        listener.started("BL")
        listener.step("BL", 1, 2)
        listener.epoch("BL", line(1))
        run, study = (listener.display.tasks[i] for i in (1, 0))
        assert run.description == "BL"
        assert (run.completed, run.total) == (1, 2)
        assert "epoch 1/2  loss 1.250" in run.fields["state"]
        assert study.fields["state"] == "0/2 runs  2 s left"


def test_runs_side_by_side_are_told_apart_and_share_the_machine():
    stream = io.StringIO()
    with PlainListener(stream) as listener:
        listener.planned(JOBS, Data())
        listener.started("BL")
        listener.started("jaffe-FC-50")
        listener.epoch("BL", line(1))  # 50 images/s beside another run: 100 for the machine
        listener.finished("jaffe-FC-50", [record("FC", 50, 0.5, 0.75)])
    *_, epoch, finished = stream.getvalue().splitlines()
    assert epoch.startswith("[1/2] BL  epoch 1/2")
    assert epoch.endswith("50 images/s  1 s left")  # 100 images of BL and 10 of the other
    assert finished.startswith("[2/2] jaffe-FC-50  tested")


def test_the_live_display_has_a_bar_for_every_run_under_way():
    listener = open_listener(Terminal())
    with listener:
        listener.planned(JOBS, Data())
        listener.started("BL")
        listener.started("jaffe-FC-50")
        listener.step("BL", 1, 2)
        bars = {task.description: task for task in listener.display.tasks}
        assert set(bars) == {"study", "BL", "jaffe-FC-50"}
        assert bars["BL"].completed == 0.5
        listener.finished("jaffe-FC-50", [record("FC", 50, 0.5, 0.75)])
        bars = {task.description: task for task in listener.display.tasks}
        assert set(bars) == {"study", "BL"}
        assert bars["study"].fields["state"].startswith("1/2 runs") or bars["study"].completed == 0


def test_brackets_in_names_are_not_markup():
    stream = Terminal()
    listener = open_listener(stream)
    with listener:
        listener.say("[1/2] [bold]name[/bold]")
    assert "[bold]name[/bold]" in stream.getvalue()


def test_the_display_is_closed_when_a_study_fails():
    listener = open_listener(Terminal())

    def fail():
        with listener:
            listener.planned(JOBS, Data())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not listener.display.live.is_started


def test_anything_else_gets_plain_lines():
    assert type(open_listener(io.StringIO())) is PlainListener
