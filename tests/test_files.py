"""Atomic writes: the old file or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from fercore.errors import FercoreError
from fercore.files import read_json, write_atomically


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    return path


def alone(path: Path) -> bool:
    return list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("data", [b"\x00\xff\r\n", "Grün\n", b"", ""])
def test_writes_bytes_and_text(tmp_path, data):
    path = tmp_path / "a file"
    for _ in range(2):
        write_atomically(path, data)
        assert path.read_bytes() == (data if isinstance(data, bytes) else data.encode())
        assert alone(path)


def test_makes_the_folders_it_needs(tmp_path):
    path = tmp_path / "runs" / "jaffe-FC-50" / "state.json"
    write_atomically(path, "{}")
    assert path.read_text() == "{}"


def test_replaces_and_never_modifies(old):
    """A reader that holds the old file open goes on reading the old one."""
    with old.open("rb") as reader:
        write_atomically(old, b"new")
        assert reader.read() == b"old"
    assert old.read_bytes() == b"new"


def failing(function: str, error: BaseException) -> Any:
    def fail(*_args: Any, **_options: Any) -> None:
        raise error

    return lambda monkeypatch: monkeypatch.setattr(os, function, fail)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(old, monkeypatch, function):
    failing(function, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))(monkeypatch)
    with pytest.raises(FercoreError) as error:
        write_atomically(old, b"new")
    monkeypatch.undo()
    message = str(error.value)
    assert message.startswith(f"{old}: cannot be written (No space left on device); free some")
    assert "\n" not in message
    assert old.read_bytes() == b"old"
    assert alone(old)


def test_a_write_that_the_system_cuts_short(old):
    """A real failure in the middle of the data: the process may write no more than 4 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(FercoreError, match="File too large"):
            write_atomically(old, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert old.read_bytes() == b"old"
    assert alone(old)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), SystemExit(1)])
def test_an_interruption_leaves_the_old_file_and_is_passed_on(old, monkeypatch, error):
    failing("fsync", error)(monkeypatch)
    with pytest.raises(type(error)):
        write_atomically(old, b"new")
    monkeypatch.undo()
    assert old.read_bytes() == b"old"
    assert alone(old)


def test_the_data_is_on_the_disk_before_the_name(old, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=original: (steps.append(n), f(*a))[1])
    write_atomically(old, b"new")
    assert steps == ["fsync", "replace"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_the_mode_is_that_of_an_ordinary_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = tmp_path / "results.csv"
        write_atomically(path, "a")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_made(old):
    with pytest.raises(FercoreError, match=r"state.json/inner: cannot be written \("):
        write_atomically(old / "inner", b"new")
    assert old.read_bytes() == b"old"


def test_a_path_that_is_a_folder(tmp_path):
    (tmp_path / "best").mkdir()
    with pytest.raises(FercoreError, match="best: cannot be written"):
        write_atomically(tmp_path / "best", b"new")
    assert alone(tmp_path / "best")


def test_read_json(tmp_path):
    path = tmp_path / "state.json"
    with pytest.raises(FercoreError, match=r"state.json: cannot be read \(No such file"):
        read_json(path, dict)
    path.write_text('{"epoch": 3}')
    assert read_json(path, dict[str, int]) == {"epoch": 3}
    for damaged in (b'{"epoch": ', b"", b"\xff\xfe\x00", b"[3]", b'{"epoch": "3"}'):
        path.write_bytes(damaged)
        with pytest.raises(FercoreError, match=r"state.json: is damaged .*delete it") as error:
            read_json(path, dict[str, int])
        assert "\n" not in str(error.value)
