"""Writing files so that a crash, Ctrl-C or a full disk never leaves half of one."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from fercore.errors import FercoreError


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data``; readers see the old file or the new one, never a part.

    Raises FercoreError when the disk is full or the folder cannot be written; the old file stays.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with open(temporary, "xb") as file:
            file.write(content)
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
                "another folder, then run again with --resume"
            ) from error
        raise


def read_json(path: Path) -> Any:
    """The value in a JSON file; FercoreError names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise FercoreError(
            f"{path}: is not valid JSON ({error}); delete it and run again"
        ) from error
