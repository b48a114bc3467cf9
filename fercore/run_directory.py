"""The folder that a study leaves behind: what lies where, and who may write there.

::

    config.toml        the study, resolved
    environment.json   what it ran with
    datasets.json      counts, notes and skipped files of every dataset
    data/              the drawn faces of a synthetic study
    tensorboard/       event files, a folder a run, where they are wanted
    features/          while a study runs: outputs of frozen layers that memory has no room for
    splits/            <dataset>.csv: file, subject, label, split, sha256; <percent>/<dataset>.csv
                       the same where only a share of the training images is used
    runs/<id>/         run.json, metrics.jsonl, best.safetensors, last.safetensors, state.json,
                       answers.safetensors (logits of every tested image), results.json,
                       analysis.json (how far each layer is from BL's)
    results.csv, results.json, table.md, table.tex, table.csv, report.html
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fercore.errors import FercoreError
from fercore.files import is_unfinished, remove_unfinished


class DatasetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What ``datasets.json`` keeps of a dataset: counts, notes and everything that was not read."""

    format: str
    synthetic: bool
    images: dict[str, int]  # part -> images
    shares: dict[str, int]  # percent -> training images
    digest: str
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]  # file, reason


@dataclass(frozen=True)
class RunDirectory:
    """The folder at ``path``; with ``single``, of one run whose files lie in it directly."""

    path: Path
    single: bool = False

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def datasets(self) -> Path:
        return self.path / "datasets.json"

    @property
    def faces(self) -> Path:
        return self.path / "data"

    @property
    def features(self) -> Path:
        return self.path / "features"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def splits(self) -> Path:
        return self.path / "splits"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.path if self.single else self.path / "runs" / run_id

    @classmethod
    def around(cls, network: Path) -> RunDirectory | None:
        """The run directory in which the file of a network lies; None where it lies in none."""
        folder = network.absolute().parent
        if not (folder / "run.json").exists():
            return None
        for directory in (cls(folder, single=True), cls(folder.parent.parent)):
            if directory.config.exists():
                return directory
        return None

    def check_study(self) -> None:
        """Raise FercoreError unless the folder is of a study, begun or finished."""
        if not self.config.exists():
            raise FercoreError(f"{self.path}: is no run directory; give the --out of a protocol")
        if (self.path / "run.json").exists():
            raise FercoreError(
                f"{self.path}: holds one network, which has no table; test it with fercore-train "
                f"evaluate {self.path / 'best.safetensors'} NAME=PATH"
            )

    def check_unused(self) -> None:
        """Raise FercoreError if the folder holds anything but drawn faces and unfinished files."""
        if self.config.exists():
            raise FercoreError(
                f"{self.path}: exists already; add --resume to continue it, or choose another --out"
            )
        if self.path.is_dir():
            used = any(e != self.faces and not is_unfinished(e) for e in self.path.iterdir())
        else:
            used = self.path.exists()
        if used:
            raise FercoreError(
                f"{self.path}: exists already, with no config.toml from which it could be "
                "continued; choose another --out"
            )

    def in_use(self) -> bool:
        """Whether a process is writing here now."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here; FercoreError if one is doing so."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise FercoreError(
                f"{self.path}: cannot be used ({error.strerror}); choose another --out"
            ) from None
        try:
            _lock(descriptor, self.path)
            remove_unfinished(self.path)
            yield
        finally:
            os.close(descriptor)  # and with it the lock
            with suppress(OSError):
                self.path.rmdir()  # which an error before the first file left empty


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FercoreError(
            f"{path}: another fercore-train is writing here; wait for it, or choose another --out"
        ) from None
