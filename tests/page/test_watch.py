"""Watching a study: the page is made again when something changes, and the watch ends."""

import os

import pytest

from fercore.page import watch as watching
from fercore.page.watch import REFRESH, watch
from tests.page.folder import STUDY, StudyFolder


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "run")


def sleeps(monkeypatch, *actions):
    """Each pause does the next of these."""
    waiting = iter(actions)
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: next(waiting)())


def interrupt():
    raise KeyboardInterrupt


def nothing():
    pass


def test_again_when_something_changes_and_a_last_time_at_the_end(folder, monkeypatch):
    made = []
    sleeps(
        monkeypatch,
        nothing,
        lambda: folder.write_run(STUDY[0]),
        nothing,
        lambda: folder.finish([]),
    )
    watch(folder.directory, made.append)
    assert made == [REFRESH, REFRESH, 0]


def test_ctrl_c_ends_it_with_a_page_that_stays(folder, monkeypatch):
    made = []
    sleeps(monkeypatch, interrupt)
    watch(folder.directory, made.append)
    assert made == [REFRESH, 0]


def test_a_file_written_anew_is_noticed_whatever_its_size(folder, monkeypatch):
    folder.write_run(STUDY[0])
    metrics = folder.path / "runs" / "BL" / "metrics.jsonl"
    made = []
    sleeps(monkeypatch, lambda: os.utime(metrics, ns=(1, 1)), interrupt)
    watch(folder.directory, made.append)
    assert made == [REFRESH, REFRESH, 0]


def test_old_results_do_not_end_it_while_somebody_writes(folder, monkeypatch):
    folder.finish([])
    made = []
    with folder.directory.locked():
        assert folder.directory.in_use()
        sleeps(monkeypatch, nothing, interrupt)
        watch(folder.directory, made.append)
    assert made == [REFRESH, 0]
    assert not folder.directory.in_use()
    watch(folder.directory, made.append)
    assert made == [REFRESH, 0, 0]
