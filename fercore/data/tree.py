"""The files of a dataset, whether they lie in a folder or in a zip file that is read in place."""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO

from fercore.errors import FercoreError

READ_FAULTS = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What opening or reading a damaged, encrypted or vanished file may raise."""

MARKER = "SYNTHETIC.txt"
"""The file whose presence says that a dataset was drawn, not photographed."""


def natural_key(name: str) -> list[str | int]:
    """Sort key under which ``img_9`` comes before ``img_10``."""
    parts: list[str | int] = list(re.split(r"(\d+)", name))
    parts[1::2] = [int(digits) for digits in parts[1::2]]
    return parts


class Tree:
    """Names of files, in natural order, and their bytes; ``/`` separates folders everywhere.

    Hidden files, ``__MACOSX`` and ``Thumbs.db`` do not appear. ``open`` may be called from several
    threads at once; it raises one of READ_FAULTS when a file cannot be read.
    """

    path: Path
    names: tuple[str, ...]
    sizes: dict[str, int]  # bytes, of every name
    stamps: tuple[tuple[str, int, int], ...]
    """(name, size, mtime in ns) of every file on disk that the content depends on."""
    synthetic: bool

    def open(self, name: str) -> IO[bytes]:
        """A stream over the content of a file."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self.open(name) as file:
            return file.read()

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def _list(self, sizes: dict[str, int]) -> None:
        visible = sorted((name for name in sizes if _is_visible(name)), key=natural_key)
        self.names = tuple(visible)
        self.sizes = {name: sizes[name] for name in visible}
        self.synthetic = any(name.rsplit("/", 1)[-1] == MARKER for name in visible)


class FolderTree(Tree):
    """The files below a folder, or one file alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = path if path.is_dir() else path.parent
        files = _walk(path) if path.is_dir() else {path.name: path.stat()}
        self._list({name: info.st_size for name, info in files.items()})
        self.stamps = tuple(
            (name, files[name].st_size, files[name].st_mtime_ns) for name in self.names
        )
        # A csv file given on its own has its marker beside it.
        self.synthetic = self.synthetic or (self._root / MARKER).is_file()

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")


class ZipTree(Tree):
    """The files in a zip file, none of which is ever unpacked to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = zipfile.ZipFile(path)
        # Archives written on Windows may separate folders with a backslash; some start with "./".
        self._members = {
            posixpath.normpath(member.filename.replace("\\", "/")): member
            for member in self._zip.infolist()
            if not member.is_dir()
        }
        if any(member.flag_bits & 1 for member in self._members.values()):
            raise FercoreError(f"{path}: asks for a password; unpack it and give the folder")
        self._list({name: member.file_size for name, member in self._members.items()})
        info = path.stat()
        self.stamps = ((path.name, info.st_size, info.st_mtime_ns),)

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._members[name])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()


def open_tree(path: Path) -> Tree:
    """The tree at ``path``: a folder, a zip file, or any other file as a tree of one.

    Raises FercoreError when nothing is there, it cannot be read, holds no files, or is a tar file.
    """
    try:
        if not path.exists():
            raise FercoreError(f"{path}: no such file or folder; check the path")
        if path.is_dir():
            tree: Tree = FolderTree(path)
        elif not path.is_file():
            raise FercoreError(f"{path}: is neither a file nor a folder; give one that is")
        elif zipfile.is_zipfile(path):
            tree = ZipTree(path)
        elif path.suffix.lower() == ".zip":
            raise FercoreError(f"{path}: is not a complete zip file; download it again")
        elif tarfile.is_tarfile(path):
            raise FercoreError(f"{path}: is a tar file; unpack it and give the folder")
        else:
            tree = FolderTree(path)
    except READ_FAULTS as error:
        raise FercoreError(f"{path}: cannot be read ({error})") from error
    if not tree.names:
        raise FercoreError(f"{path}: holds no files; check the path")
    return tree


def _is_visible(name: str) -> bool:
    parts = name.split("/")
    return (
        "__MACOSX" not in parts
        and parts[-1].lower() not in ("thumbs.db", "desktop.ini")
        and not any(part.startswith(".") for part in parts)
    )


def _walk(root: Path) -> dict[str, os.stat_result]:
    """Every regular file below ``root``; links are followed, but no folder is entered twice."""
    found: dict[str, os.stat_result] = {}
    entered: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        info = os.stat(root / folder)
        if (info.st_dev, info.st_ino) in entered:
            continue
        entered.add((info.st_dev, info.st_ino))
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = folder + entry.name
                if entry.is_symlink() and not os.path.exists(entry.path):
                    # It leads nowhere or in a circle: listed, so that whoever reads it is told.
                    found[name] = entry.stat(follow_symlinks=False)
                elif entry.is_dir():
                    waiting.append(name + "/")
                elif entry.is_file():
                    found[name] = entry.stat()
    return found
