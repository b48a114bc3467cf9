"""Writing files so that a crash, Ctrl-C or a full disk never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from fercore.errors import FercoreError

Value = TypeVar("Value")


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data``; readers see the old file or the new one, never a part.

    Raises FercoreError when the disk is full or the folder cannot be written; the old file stays.
    """
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces ``path`` when all is written; else as write_atomically."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = unfinished(path)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            raise FercoreError(
                f"{path}: cannot be written ({error.strerror}); free some space or choose "
                "another folder"
            ) from error
        raise


def unfinished(path: Path) -> Path:
    """A new name beside ``path``, for what will be moved there once it is complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def is_unfinished(path: Path) -> bool:
    """Whether a path has a name that ``unfinished`` gave."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) is not None


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left incomplete below a folder that no other one writes to."""
    for path in filter(is_unfinished, list(folder.rglob(".*"))):
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_json(path: Path, kind: type[Value]) -> Value:
    """The value in a JSON file, which must be a ``kind``: a plain type or a msgspec Struct.

    Raises FercoreError when the file is missing or holds anything else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, msgspec.DecodeError) as error:
        raise FercoreError(f"{path}: is damaged ({error}); delete it and run again") from error


def read_json_lines(path: Path, kind: type[Value]) -> list[Value]:
    """The values in a file of one JSON value a line; raises like ``read_json``."""
    try:
        return msgspec.json.Decoder(kind).decode_lines(path.read_bytes())
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, msgspec.DecodeError) as error:
        raise FercoreError(f"{path}: is damaged ({error}); delete it and run again") from error
