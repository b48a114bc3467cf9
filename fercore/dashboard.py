"""A study on a terminal: how far it is, the current run's curves, its speed and the time left."""

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
    from fercore.study_data import StudyData

HEIGHTS = "▁▂▃▄▅▆▇█"
CURVE = 40
"""Columns of the widest curve; later epochs share them."""


class LiveListener(PlainListener):
    """Redrawn in place while runs are trained; finished runs stay above it as lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.display = _Display(stream)
        self.bars: dict[str, TaskID] = {}
        self.epoch_began = 0.0  # when the first step of the current epoch was done

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
        self._bar("drawing", f"drawing {dataset}", done, total, f"{done}/{total}")
        super().drawing(dataset, done, total)

    def planned(self, jobs: Sequence[Job], data: StudyData) -> None:
        super().planned(jobs, data)
        if "drawing" in self.bars:
            self.display.remove_task(self.bars.pop("drawing"))

    def started(self, run: str) -> None:
        super().started(run)
        self.display.curves = {}
        self._show_study()
        self._bar("run", run, 0, 1, "")

    def step(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 1:
            self.epoch_began = now
        speed = ""
        if now > self.epoch_began:
            images = (done - 1) * self.job.images / total
            speed = f"{images / (now - self.epoch_began):,.0f} images/s"
        state = f"epoch {self.epochs_done + 1}/{self.job.epochs}  step {done}/{total}  {speed}"
        self._bar("run", self.job.run, self.epochs_done + done / total, self.job.epochs, state)

    def epoch(self, line: Line) -> None:
        self.note(line)
        state = f"epoch {line['epoch']}/{self.job.epochs}  {line['images_per_s']:,.0f} images/s"
        self._bar("run", self.job.run, line["epoch"], self.job.epochs, state)
        self.display.extend(
            {
                "loss": line["train_loss"],
                "train %": 100 * line["train_accuracy"],
                **{f"{role} %": 100 * s["accuracy"] for role, s in line["validation"].items()},
            }
        )
        self._show_study()

    def say(self, text: str) -> None:
        self.display.console.print(text, markup=False, soft_wrap=True)

    def _show_study(self) -> None:
        done = self.number - 1
        state = f"{done}/{len(self.jobs)} runs  {self.time_left()}"
        self._bar("study", "study", done, len(self.jobs), state)

    def _bar(self, name: str, title: str, done: float, total: int, state: str) -> None:
        if name not in self.bars:
            self.bars[name] = self.display.add_task(title, state=state)
        self.display.update(
            self.bars[name], description=title, completed=done, total=total, state=state
        )


class _Display(Progress):
    """Bars, and below them a curve for each series of the current run."""

    def __init__(self, stream: TextIO) -> None:
        # Replaced, never changed: another thread draws it.
        self.curves: Mapping[str, Sequence[float]] = {}
        text = TextColumn("{task.description}", markup=False)
        state = TextColumn("{task.fields[state]}", markup=False)
        console = Console(file=stream, highlight=False)
        super().__init__(text, BarColumn(bar_width=24), state, console=console, transient=True)

    def extend(self, values: Mapping[str, float]) -> None:
        """Add a value to each of these curves."""
        self.curves = {n: (*self.curves.get(n, ()), value) for n, value in values.items()}

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        table = Table.grid(padding=(0, 2))
        for name, values in self.curves.items():
            drawn = "" if self.console.options.ascii_only else curve(values)
            digits = 1 if name.endswith("%") else 3
            table.add_row(Text(name), drawn, f"{values[-1]:.{digits}f}")
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
