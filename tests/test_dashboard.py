"""The live display: bars, speed, time left, curves, and the lines of finished runs."""

import io
import re
import time

import pytest

from fercore import dashboard
from fercore.dashboard import HEIGHTS, LiveListener, curve
from tests.records import record
from tests.told import JOBS, Data, line, play


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stream():
    return Terminal()


@pytest.fixture
def listener(stream):
    """In its first run, of two epochs."""
    with LiveListener(stream) as opened:
        opened.planned(JOBS, Data())
        opened.started("BL")
        yield opened


def drawn(listener):
    """The display as it stands, as text."""
    console = listener.display.console
    with console.capture() as capture:
        for part in listener.display.get_renderables():
            console.print(part)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capture.get())


def test_finished_runs_stay_as_lines(stream):
    play(LiveListener(stream))
    text = stream.getvalue()
    assert "tested: fer2013 60.0 %, jaffe 40.0 %" in text
    assert "tested: fer2013 50.0 %, jaffe 75.0 %  (trained before)" in text
    assert "2 entries skipped" in text


def test_the_epoch_its_numbers_and_the_time_left(listener):
    listener.epoch("BL", line(1))
    run, study = (listener.display.tasks[i] for i in (1, 0))
    assert run.description == "BL"
    assert (run.completed, run.total) == (1, 2)
    assert run.fields["state"] == "epoch 1/2  50 images/s"
    assert study.fields["state"] == "0/2 runs  2 s left"
    rows = [text.split() for text in drawn(listener).splitlines()]
    assert ["BL", "loss", HEIGHTS[0], "1.250"] in rows
    assert ["BL", "target", "val.", "%", HEIGHTS[0], "12.5"] in rows


def test_curves_grow_with_the_run_and_end_with_it(listener):
    for epoch, accuracy in ((1, 0.25), (2, 0.5), (3, 0.75)):
        listener.epoch("BL", line(epoch, validation={"source": {"accuracy": accuracy}}))
    assert "BL source val. %  ▁▅█  75.0" in drawn(listener)
    assert "target" not in drawn(listener)
    listener.finished("BL", [record()])
    listener.started("jaffe-FC-50")
    assert "source val. %" not in drawn(listener)


def test_the_speed_within_an_epoch(listener, monkeypatch):
    clock = iter([100.0, 102.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 103.0))
    listener.step("BL", 1, 4)
    run = listener.display.tasks[1]
    assert run.fields["state"] == "epoch 1/2  step 1/4  "  # not known yet
    listener.step("BL", 3, 4)  # 2 steps of 25 images in 2 s
    assert run.fields["state"] == "epoch 1/2  step 3/4  25 images/s"
    assert run.completed == 0.75


def test_runs_side_by_side_have_a_bar_each_and_the_oldest_its_curves(listener):
    listener.started("jaffe-FC-50")
    listener.step("BL", 1, 2)
    for run in ("BL", "jaffe-FC-50"):
        listener.epoch(run, line(1))
    bars = {task.description: task for task in listener.display.tasks}
    assert set(bars) == {"study", "BL", "jaffe-FC-50"}
    assert bars["BL"].completed == 1
    assert "BL loss" in drawn(listener)
    assert "jaffe-FC-50 loss" not in drawn(listener)
    listener.finished("BL", [record()])
    bars = {task.description: task for task in listener.display.tasks}
    assert set(bars) == {"study", "jaffe-FC-50"}
    assert bars["study"].fields["state"].startswith("1/2 runs")
    assert "jaffe-FC-50 loss" in drawn(listener)


@pytest.mark.parametrize(
    ("values", "row"),
    [
        ([1.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], HEIGHTS),
        ([7, 0], "█▁"),
        ([-1.0, 0.0, 1.0], "▁▅█"),
    ],
)
def test_a_curve_spans_its_own_range(values, row):
    assert curve(values) == row


def test_a_long_curve_is_drawn_in_equal_pieces():
    assert curve([0, 0, 0, 7, 7, 7, 3.5, 3.5, 3.5], width=3) in ("▁█▅", "▁█▄")
    assert len(curve(range(1000))) == dashboard.CURVE
    assert curve(range(1000), width=8) == HEIGHTS


def test_a_terminal_of_ascii_gets_no_blocks():
    binary = io.BytesIO()

    class Ascii(io.TextIOWrapper):
        def isatty(self):
            return True

    with Ascii(binary, encoding="ascii", errors="backslashreplace", write_through=True) as stream:
        play(LiveListener(stream))
        text = binary.getvalue().decode("ascii")
    assert "tested: fer2013 60.0 %" in text
    assert "\\u" not in text


def test_brackets_in_names_are_not_markup(listener, stream):
    listener.say("[1/2] [bold]name[/bold]")
    listener.drawing("[bold]d[/bold]", 1, 2)
    assert "[bold]name[/bold]" in stream.getvalue()
    assert "drawing [bold]d[/bold]" in drawn(listener)


def test_the_display_is_closed_when_a_study_fails(stream):
    listener = LiveListener(stream)

    def fail():
        with listener:
            listener.planned(JOBS, Data())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not listener.display.live.is_started
