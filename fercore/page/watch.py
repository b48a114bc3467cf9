"""Making the page again and again while a study runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from fercore.run_directory import RunDirectory

REFRESH = 5
"""Seconds after which a browser that shows the page of a running study loads it again."""

Stamp = tuple[tuple[str, int], ...]


def watch(directory: RunDirectory, write: Callable[[int], object], pause: float = 1.0) -> None:
    """Write the page whenever the run directory changes, until the study ends or Ctrl-C.

    Args:
        directory: of the study.
        write: makes the page, given the seconds after which browsers load it again; 0 for the last.
        pause: seconds between two looks.
    """
    seen: Stamp = ()
    try:
        while not _ended(directory):
            if (now := _stamp(directory)) != seen:
                write(REFRESH)
                seen = now
            time.sleep(pause)
    except KeyboardInterrupt:
        pass
    write(0)


def _ended(directory: RunDirectory) -> bool:
    return directory.results.exists() and not directory.in_use()


def _stamp(directory: RunDirectory) -> Stamp:
    """When each file that the page is made from was written."""
    times = []
    for path in (*directory.path.glob("*.json"), *directory.path.glob("runs/*/*.json*")):
        with suppress(FileNotFoundError):  # removed since it was listed
            times.append((str(path), path.stat().st_mtime_ns))
    return tuple(sorted(times))
