"""A study on a terminal: how far it is, the runs under way, their speed, curves and time left."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from fercore.forecast import Job
from fercore.progress import Line, PlainListener

if TYPE_CHECKING:
    from fercore.results import Record
    from fercore.study_data import StudyData

STUDY, DRAWING = "", " "
"""Names of the bars that are no run's."""

HEIGHTS = "▁▂▃▄▅▆▇█"
CURVE = 40
"""Columns of the widest curve; later epochs share them."""


class LiveListener(PlainListener):
    """Redrawn in place while runs are trained; finished runs stay above it as lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.display = _Display(stream)
        self.bars: dict[str, TaskID] = {}
        self.epoch_began: dict[str, float] = {}  # run -> when its epoch's first step was done

    def __enter__(self) -> LiveListener:
        self.display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.display.stop()

    def drawing(self, dataset: str, done: int, total: int) -> None:
        self._bar(DRAWING, f"drawing {dataset}", done, total, f"{done}/{total}")
        super().drawing(dataset, done, total)

    def planned(self, jobs: Sequence[Job], data: StudyData) -> None:
        super().planned(jobs, data)
        if DRAWING in self.bars:
            self.display.remove_task(self.bars.pop(DRAWING))

    def started(self, run: str) -> None:
        super().started(run)
        self._show_study()
        self._bar(run, run, 0, 1, "")
        self.display.begin(run)

    def step(self, run: str, done: int, total: int) -> None:
        now, job, epochs = time.monotonic(), self.jobs[run], self.epochs_done[run]
        began = self.epoch_began.get(run, now)
        if done == 1:
            began = self.epoch_began[run] = now
        speed = ""
        if now > began:
            images = (done - 1) * job.images / total
            speed = f"{images / (now - began):,.0f} images/s"
        state = f"epoch {epochs + 1}/{job.epochs}  step {done}/{total}  {speed}"
        self._bar(run, run, epochs + done / total, job.epochs, state)

    def epoch(self, run: str, line: Line) -> None:
        self.note(run, line)
        epochs = self.jobs[run].epochs
        state = f"epoch {line['epoch']}/{epochs}  {line['images_per_s']:,.0f} images/s"
        self._bar(run, run, line["epoch"], epochs, state)
        self.display.extend(
            run,
            {
                "loss": line["train_loss"],
                "train %": 100 * line["train_accuracy"],
                **{f"{role} val. %": 100 * s["accuracy"] for role, s in line["validation"].items()},
            },
        )
        self._show_study()

    def finished(self, run: str, records: Sequence[Record]) -> None:
        super().finished(run, records)
        self.display.remove_task(self.bars.pop(run))
        self.display.forget(run)
        self._show_study()

    def say(self, text: str) -> None:
        self.display.console.print(text, markup=False, soft_wrap=True)

    def _show_study(self) -> None:
        done = len(self.begun) - len(self.epochs_done)
        state = f"{done}/{len(self.jobs)} runs  {self.time_left()}"
        self._bar(STUDY, "study", done, len(self.jobs), state)

    def _bar(self, name: str, title: str, done: float, total: int, state: str) -> None:
        if name not in self.bars:
            self.bars[name] = self.display.add_task(title, state=state)
        self.display.update(
            self.bars[name], description=title, completed=done, total=total, state=state
        )


Curves = Mapping[str, Sequence[float]]


class _Display(Progress):
    """Bars, and below them the curves of the run that has been under way for the longest."""

    def __init__(self, stream: TextIO) -> None:
        # Replaced, never changed: another thread draws them.
        self.curves: Mapping[str, Curves] = {}
        text = TextColumn("{task.description}", markup=False)
        state = TextColumn("{task.fields[state]}", markup=False)
        console = Console(file=stream, highlight=False)
        super().__init__(text, BarColumn(bar_width=24), state, console=console, transient=True)

    def begin(self, run: str) -> None:
        """A run begins, and has no curves yet."""
        self.curves = {**self.curves, run: {}}

    def extend(self, run: str, values: Mapping[str, float]) -> None:
        """Add a value to each of a run's curves."""
        before = self.curves[run]
        longer = {name: (*before.get(name, ()), value) for name, value in values.items()}
        self.curves = {**self.curves, run: longer}

    def forget(self, run: str) -> None:
        """Forget a run's curves."""
        self.curves = {name: curves for name, curves in self.curves.items() if name != run}

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        table = Table.grid(padding=(0, 2))
        run, curves = next(iter(self.curves.items()), ("", {}))
        for name, values in curves.items():
            drawn = "" if self.console.options.ascii_only else curve(values)
            digits = 1 if name.endswith("%") else 3
            table.add_row(Text(f"{run} {name}"), drawn, f"{values[-1]:.{digits}f}")
        yield table


def curve(values: Sequence[float], width: int = CURVE) -> str:
    """Values as a row of blocks, the lowest and the highest as in HEIGHTS.

    More values than ``width`` are drawn as the means of so many equal pieces.
    """
    pieces = min(width, len(values))
    bounds = [len(values) * piece // pieces for piece in range(pieces + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(HEIGHTS[round((mean - low) / span * (len(HEIGHTS) - 1))] for mean in means)
