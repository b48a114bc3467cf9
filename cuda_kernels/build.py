"""From a kernel's source to machine code, compiled once and kept on disk.

A file in the cache is named by a key over everything that went into it: the source, every header
it includes, the options, the target and the compiler. So an entry is never stale, may be deleted at
any time, and is shared by all processes of a user.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cuda_kernels.compilers import EMULATOR, INCLUDE, BuildError, find

__all__ = ["BuildError", "announce", "build", "cache", "headers", "key"]

_QUOTED_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


announce: Callable[[str], None] = _to_stderr
"""Receives a line for each thing that is compiled, with the seconds it took, and each warning."""


def cache() -> Path:
    """Where machine code is kept: below ``FERCORE_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("FERCORE_CACHE"):
        return Path(chosen) / "kernels"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "fercore" / "kernels"


def build(source: Path, target: str, macros: tuple[str, ...] = ()) -> Path:
    """The cubin of ``source`` for a GPU (``target`` is ``sm_90``, say) or its library for ``host``.

    ``macros`` (``NAME=VALUE``) are defined in it. Compiles it if no process has yet. Raises
    BuildError: it does not compile, there is no compiler, or the cache cannot be written.
    """
    if not source.is_file():
        raise BuildError(f"{source}: no such file")
    suffix = ".so" if target == "host" else ".cubin"
    path = cache() / f"{source.stem}-{target}-{key(source, target, macros)[:20]}{suffix}"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not path.exists():  # another process may have built it meanwhile
                _compile(source, target, path, macros)
    except OSError as error:
        raise BuildError(
            f"{path.parent}: cannot be written ({error.strerror}); set FERCORE_CACHE to a folder "
            "that can"
        ) from error
    return path


def key(source: Path, target: str, macros: tuple[str, ...] = ()) -> str:
    """A digest of everything that decides what ``source`` becomes for ``target``."""
    compiler = find(target)
    parts = {
        "compiler": compiler.identity,
        "options": compiler.options(target, macros),
        # Messages and line tables name files, so the same text elsewhere is another thing.
        "files": {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (source.absolute(), *headers(source, target))
        },
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def headers(source: Path, target: str) -> list[Path]:
    """Every header that ``source`` includes, and theirs, sorted.

    Includes are taken whether or not an ``#if`` around them holds: one too many does no harm.
    """
    folders = [INCLUDE, EMULATOR] if target == "host" else [INCLUDE]
    found: set[Path] = set()
    waiting = [source.absolute()]
    while waiting:
        file = waiting.pop()
        for name in _QUOTED_INCLUDE.findall(file.read_text()):
            candidates = (folder / name for folder in (file.parent, *folders))
            header = next((path.resolve() for path in candidates if path.is_file()), None)
            if header is not None and header not in found:
                found.add(header)
                waiting.append(header)
    return sorted(found)


def _compile(source: Path, target: str, path: Path, macros: tuple[str, ...]) -> None:
    started = time.perf_counter()
    scratch = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        output = scratch / path.name
        warnings = find(target).compile(source.absolute(), target, output, macros)
        os.replace(output, path)  # others see the whole file or none
    finally:
        shutil.rmtree(scratch)
    seconds = time.perf_counter() - started
    with_macros = f" with {' '.join(macros)}" if macros else ""
    announce(f"cuda_kernels: compiled {source.name}{with_macros} for {target} in {seconds:.1f} s")
    if warnings:
        announce(warnings)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside; a process that dies lets go."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
