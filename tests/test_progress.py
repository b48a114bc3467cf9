"""What a study tells while it runs, as plain lines."""

import dataclasses
import io

from fercore.progress import PlainListener, describe_epoch
from tests.records import record
from tests.told import JOBS, Data, line, play


def test_a_file_gets_plain_lines():
    stream = io.StringIO()
    play(PlainListener(stream))
    lines = stream.getvalue().splitlines()
    assert lines == [
        "faces: 10 synthetic faces drawn",
        "jaffe: 131 / 15 / 67 images to train on, to validate and to test",
        "  A note.",
        "  2 entries skipped, the first a.png: truncated",
        "[1/2] BL  epoch 1/2  loss 1.250  train 50.0 %  validation: source 25.0 %, target 12.5 %"
        "  50 images/s  2 s left",
        "[1/2] BL  epoch 2/2  loss 1.250  train 50.0 %  validation: source 25.0 %, target 12.5 %"
        "  50 images/s  0 s left",
        "[1/2] BL  tested: fer2013 60.0 %, jaffe 40.0 %",
        "[2/2] jaffe-FC-50  tested: fer2013 50.0 %, jaffe 75.0 %  (trained before)",
    ]


def lines_of(epochs, start=1, **options):
    """The epochs of a run that get a line."""
    stream = io.StringIO()
    job = dataclasses.replace(JOBS[0], epochs=epochs)
    with PlainListener(stream, **options) as listener:
        listener.planned([job], Data())
        listener.started("BL")
        for epoch in range(start, epochs + 1):
            listener.epoch("BL", line(epoch))
    told = [text for text in stream.getvalue().splitlines() if "epoch" in text]
    return [int(text.split("epoch ")[1].partition("/")[0]) for text in told]


def test_a_long_run_gets_a_few_lines_and_every_epoch_on_demand():
    assert lines_of(100) == [1, 20, 40, 60, 80, 100]
    assert lines_of(12) == [1, 3, 5, 8, 10, 12]
    assert lines_of(3) == [1, 2, 3]
    assert lines_of(100, start=47) == [47, 60, 80, 100]  # resumed
    assert lines_of(100, verbose=True) == list(range(1, 101))


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
