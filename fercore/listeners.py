"""Who listens to a study: the display that suits the terminal, and TensorBoard where wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from fercore.forecast import Job
from fercore.progress import Line, Listener, PlainListener

if TYPE_CHECKING:
    from fercore.results import Record
    from fercore.study_data import StudyData


class Several(Listener):
    """Tells everything to each of several listeners, in order."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners
        self.entered = ExitStack()

    def __enter__(self) -> Several:
        for listener in self.listeners:
            self.entered.enter_context(listener)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.entered.__exit__(kind, error, trace)

    def drawing(self, dataset: str, done: int, total: int) -> None:
        for listener in self.listeners:
            listener.drawing(dataset, done, total)

    def planned(self, jobs: Sequence[Job], data: StudyData) -> None:
        for listener in self.listeners:
            listener.planned(jobs, data)

    def started(self, run: str) -> None:
        for listener in self.listeners:
            listener.started(run)

    def step(self, run: str, done: int, total: int) -> None:
        for listener in self.listeners:
            listener.step(run, done, total)

    def epoch(self, run: str, line: Line) -> None:
        for listener in self.listeners:
            listener.epoch(run, line)

    def finished(self, run: str, records: Sequence[Record]) -> None:
        for listener in self.listeners:
            listener.finished(run, records)


def open_listener(
    stream: TextIO | None = None, tensorboard: Path | None = None, verbose: bool = False
) -> Listener:
    """The live display on a terminal, plain lines on anything else (``stderr`` by default).

    ``tensorboard`` is a folder for event files; ``verbose`` wants a plain line for every epoch.
    Raises FercoreError when the writer of event files is missing.
    """
    display = _display(stream or sys.stderr, verbose)
    if tensorboard is None:
        return display
    from fercore.tensorboard import TensorBoardListener

    return Several(display, TensorBoardListener(tensorboard))


def _display(stream: TextIO, verbose: bool) -> Listener:
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return PlainListener(stream, verbose)
    from fercore.dashboard import LiveListener

    return LiveListener(stream)
