"""The curves of a study for TensorBoard: an event file for every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fercore.errors import FercoreError
from fercore.progress import Line, Listener

if TYPE_CHECKING:
    from fercore.results import Record

FLUSH_S = 5
"""Seconds after which what was written can be read."""

QUEUE = 32_767
"""Numbers that may wait for tensorboardX's thread. Were it a few, a disk that is full, on which the
thread ends, would stop the training without a word."""


class TensorBoardListener(Listener):
    """Writes ``<folder>/<run>/events...``; ``tensorboard --logdir <folder>`` shows them.

    Raises FercoreError when tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise FercoreError(
                "--tensorboard needs tensorboardX; pip install 'fercore[tensorboard]'"
            ) from None
        self.folder = folder
        self.new_writer = SummaryWriter
        self.writers: dict[str, Any] = {}  # by the runs under way, from their first epoch on
        self.last_epoch: dict[str, int] = {}

    def epoch(self, run: str, line: Line) -> None:
        epoch = self.last_epoch[run] = line["epoch"]
        if run not in self.writers:
            self.writers[run] = self.new_writer(
                str(self.folder / run),
                purge_step=epoch,  # hides what a training that was interrupted wrote from here on
                filename_suffix=f".epoch-{epoch}",
                flush_secs=FLUSH_S,
                max_queue=QUEUE,
            )
        self._write(run, _scalars(line))

    def finished(self, run: str, records: Sequence[Record]) -> None:
        if run not in self.writers:
            return  # trained before: its file is there
        self._write(run, [(f"test/{records[0].source}", records[0].source_accuracy)])
        self._write(
            run,
            (
                (f"test/{record.target}", record.target_accuracy)
                for record in records
                if record.target_accuracy is not None
            ),
        )
        self.writers.pop(run).close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self.writers:
            self.writers.popitem()[1].close()

    def _write(self, run: str, scalars: Iterable[tuple[str, float]]) -> None:
        for tag, value in scalars:
            self.writers[run].add_scalar(tag, value, self.last_epoch[run])


def _scalars(line: Line) -> Iterator[tuple[str, float]]:
    """Tags and values of an epoch; what is compared shares the part before the slash."""
    yield "loss/train", line["train_loss"]
    yield "accuracy/train", line["train_accuracy"]
    for role, score in line["validation"].items():
        yield f"loss/validation {role}", score["loss"]
        yield f"accuracy/validation {role}", score["accuracy"]
    yield "learning_rate", line["learning_rate"]
    yield "images_per_s", line["images_per_s"]
