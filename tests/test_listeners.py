"""Which listeners a study gets."""

import io
import sys

import pytest

from fercore.dashboard import LiveListener
from fercore.errors import FercoreError
from fercore.listeners import Several, open_listener
from fercore.progress import Listener, PlainListener
from tests.test_dashboard import Terminal
from tests.told import play


def test_a_terminal_gets_the_live_display(monkeypatch):
    monkeypatch.delenv("TERM", raising=False)
    assert type(open_listener(Terminal())) is LiveListener
    monkeypatch.setenv("TERM", "dumb")
    assert type(open_listener(Terminal())) is PlainListener


def test_anything_else_gets_plain_lines():
    found = open_listener(io.StringIO())
    assert type(found) is PlainListener
    assert not found.verbose
    assert open_listener(io.StringIO(), verbose=True).verbose


class Recorder(Listener):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def __getattribute__(self, name):
        if name.startswith("_") or name == "told":
            return super().__getattribute__(name)
        return lambda *facts: self.told.append((name, facts))

    def __enter__(self):
        self.told.append("enter")
        return self

    def __exit__(self, *error):
        self.told.append("exit")


def test_several_are_told_everything():
    alone, first, second = Recorder(), Recorder(), Recorder()
    play(alone)
    play(Several(first, second))
    hooks = {name for name in vars(Listener) if not name.startswith("_")}
    assert {entry[0] for entry in alone.told if isinstance(entry, tuple)} == hooks
    assert [str(e) for e in first.told] == [str(e) for e in second.told]
    assert len(first.told) == len(alone.told)
    assert [e if isinstance(e, str) else e[0] for e in first.told] == [
        e if isinstance(e, str) else e[0] for e in alone.told
    ]


def test_a_failure_closes_all():
    first, second = Recorder(), Recorder()
    with pytest.raises(KeyboardInterrupt), Several(first, second):
        raise KeyboardInterrupt
    assert first.told == second.told == ["enter", "exit"]


def test_tensorboard_without_its_writer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(FercoreError, match=r"needs tensorboardX; pip install 'fercore\[tensorb"):
        open_listener(io.StringIO(), tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()
