"""How much memory a process can still have on this machine."""

from __future__ import annotations

import re
from pathlib import Path

PROC, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_host_memory() -> int | None:
    """Bytes that can be had without swapping, within the container's limit; None if unknown."""
    known = [free for free in (_of_machine(), _of_container()) if free is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    return _number(PROC, r"^MemAvailable:\s+(\d+) kB", 1024)


def _of_container() -> int | None:
    """What the control group still allows; pages of files it has read can be had back."""
    limit = _number(CGROUP / "memory.max", r"^(\d+)")  # "max" where there is none
    used = _number(CGROUP / "memory.current", r"^(\d+)")
    if limit is None or used is None:
        return None
    cached = _number(CGROUP / "memory.stat", r"^inactive_file (\d+)") or 0
    return max(limit - used + cached, 0)


def _number(path: Path, pattern: str, unit: int = 1) -> int | None:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * unit if found else None
