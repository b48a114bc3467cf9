"""Event files: every number of every epoch, read back record by record."""

import struct

import pytest

from fercore.tensorboard import TensorBoardListener
from tests.told import line, play

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def events(folder):
    """The events of a folder's files, in the order in which they were begun.

    A record is its length (uint64), a checksum, that many bytes, a checksum (TFRecord).
    """
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(folder):
    """Tag -> (step, value) pairs of a folder."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            number = round(value.simple_value, 6)
            found.setdefault(value.tag, []).append((event.step, number))
    return found


def test_a_study_leaves_a_file_for_each_run_that_was_trained(tmp_path):
    play(TensorBoardListener(tmp_path / "tensorboard"))
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["BL"]
    assert scalars(tmp_path / "tensorboard" / "BL") == {
        "loss/train": [(1, 1.25), (2, 1.25)],
        "accuracy/train": [(1, 0.5), (2, 0.5)],
        "loss/validation_source": [(1, 1.5), (2, 1.5)],
        "accuracy/validation_source": [(1, 0.25), (2, 0.25)],
        "loss/validation_target": [(1, 1.75), (2, 1.75)],
        "accuracy/validation_target": [(1, 0.125), (2, 0.125)],
        "learning_rate": [(1, 0.5), (2, 0.5)],
        "images_per_s": [(1, 50.0), (2, 50.0)],
        "test/fer2013": [(2, 0.6)],
        "test/jaffe": [(2, 0.4)],
    }


def test_what_is_resumed_hides_what_came_after(tmp_path):
    for epochs in ((1, 2, 3), (3, 4)):
        with TensorBoardListener(tmp_path) as listener:
            for epoch in epochs:
                listener.epoch("BL", line(epoch))
    starts = [event for event in events(tmp_path / "BL") if event.HasField("session_log")]
    assert [event.step for event in starts] == [1, 3]


def test_a_writer_that_fails_does_not_stop_the_training(tmp_path, monkeypatch):
    """As when the disk is full: its thread ends, and nobody takes the numbers any more."""
    from tensorboardX.event_file_writer import EventsWriter

    def full(*arguments):
        raise OSError("no space left")

    with TensorBoardListener(tmp_path) as listener:
        listener.started("BL")
        listener.epoch("BL", line(1))
        monkeypatch.setattr(EventsWriter, "write_event", full)
        monkeypatch.setattr("threading.excepthook", lambda arguments: None)
        for epoch in range(2, 100):
            listener.epoch("BL", line(epoch))
