"""What a study tells while it runs, and how that reads as plain lines.

Whoever carries out a study tells a Listener what happens; this one says nothing, and the others
derive from it. (The same facts are always in ``metrics.jsonl``.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from fercore.forecast import Forecast, Job, duration
from fercore.words import percent

if TYPE_CHECKING:
    from fercore.results import Record
    from fercore.study_data import StudyData

Line = Mapping[str, Any]
"""What training says about an epoch: a line of ``metrics.jsonl``."""


class Listener(AbstractContextManager["Listener"]):
    """Told what happens in a study, in which several runs may be under way; says nothing."""

    def drawing(self, dataset: str, done: int, total: int) -> None:
        """A synthetic dataset has ``done`` of its ``total`` images."""

    def planned(self, jobs: Sequence[Job], data: StudyData) -> None:
        """The images are loaded, and these are the runs."""

    def started(self, run: str) -> None:
        """A run begins, or continues, or is found to be finished."""

    def step(self, run: str, done: int, total: int) -> None:
        """So many steps of the run's epoch are done."""

    def epoch(self, run: str, line: Line) -> None:
        """An epoch of the run is done."""

    def finished(self, run: str, records: Sequence[Record]) -> None:
        """A run is trained and tested."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The study ends, in whatever way."""


LINES = 5
"""So many lines a run, evenly over its epochs, after the one of its first epoch."""


class PlainListener(Listener):
    """A few lines a run, or with ``verbose`` one an epoch, each written out at once."""

    def __init__(self, stream: TextIO, verbose: bool = False) -> None:
        self.stream, self.verbose = stream, verbose
        self.forecast = Forecast()
        self.jobs: dict[str, Job] = {}
        self.begun: list[str] = []  # runs, in this order
        self.epochs_done: dict[str, int] = {}  # by the runs under way; 0 until one ends here

    def drawing(self, dataset: str, done: int, total: int) -> None:
        if done == total:
            self.say(f"{dataset}: {total} synthetic faces drawn")

    def planned(self, jobs: Sequence[Job], data: StudyData) -> None:
        self.jobs = {job.run: job for job in jobs}
        for text in describe_data(data):
            self.say(text)

    def started(self, run: str) -> None:
        self.begun.append(run)
        self.epochs_done[run] = 0

    def epoch(self, run: str, line: Line) -> None:
        first = not self.epochs_done[run]
        self.note(run, line)
        if self.verbose or first or _ends_a_part(line["epoch"], self.jobs[run].epochs):
            text = describe_epoch(line, self.jobs[run])
            self.say(f"{self.heading(run)}  {text}  {self.time_left()}")

    def finished(self, run: str, records: Sequence[Record]) -> None:
        before = "" if self.epochs_done.pop(run) else "  (trained before)"
        self.say(f"{self.heading(run)}  {describe_tests(records)}{before}")

    def say(self, text: str) -> None:
        """Write a line."""
        print(text, file=self.stream, flush=True)

    def note(self, run: str, line: Line) -> None:
        """Remember how far the run is, and how fast the machine goes with all that is under way."""
        self.epochs_done[run] = line["epoch"]
        speed = line["images_per_s"] * len(self.epochs_done)
        self.forecast.observe(self.jobs[run], line["epoch"], speed)

    def heading(self, run: str) -> str:
        return f"[{self.begun.index(run) + 1}/{len(self.jobs)}] {run}"

    def time_left(self) -> str:
        """Of the runs under way and the later ones, at the speeds seen so far."""
        done = {run: self.epochs_done.get(run, 0) for run in self.jobs}
        left = [run for run in self.jobs if run in self.epochs_done or run not in self.begun]
        total = self.forecast.total({self.jobs[run]: done[run] for run in left})
        return "" if total is None else f"{duration(total)} left"


def _ends_a_part(epoch: int, epochs: int) -> bool:
    """Whether one of LINES equal parts of the epochs ends with this one."""
    return LINES * epoch // epochs > LINES * (epoch - 1) // epochs


# -- in words ---------------------------------------------------------------------------------


def describe_data(data: StudyData) -> list[str]:
    """What was loaded: a line a dataset, then its notes and what was skipped."""
    lines = []
    for name, facts in data.facts().items():
        train, validation, test = facts.images.values()
        kind = "SYNTHETIC faces" if facts.synthetic else "images"
        lines.append(
            f"{name}: {train} / {validation} / {test} {kind} to train on, to validate and to test"
        )
        lines += [f"  {note}" for note in facts.notes]
        if facts.skipped:
            (file, reason), count = facts.skipped[0], len(facts.skipped)
            entries = "entry" if count == 1 else "entries"
            lines.append(f"  {count} {entries} skipped, the first {file}: {reason}")
    return lines


def describe_epoch(line: Line, job: Job) -> str:
    """Epoch, loss and accuracies."""
    followed = (f"{role} {percent(s['accuracy'])}" for role, s in line["validation"].items())
    texts = [
        f"epoch {line['epoch']}/{job.epochs}",
        f"loss {line['train_loss']:.3f}",
        f"train {percent(line['train_accuracy'])}",
        f"validation: {', '.join(followed)}",
        f"{line['images_per_s']:.0f} images/s",
    ]
    if line["kept_features"]:
        texts.append(f"{line['kept_features'] / 1e6:.1f} MB of features kept")
    return "  ".join(texts)


def describe_tests(records: Sequence[Record]) -> str:
    """Test accuracies of a run, the source's first."""
    first = records[0]
    texts = [f"{first.source} {percent(first.source_accuracy)}"]
    texts += [
        f"{record.target} {percent(record.target_accuracy)}"
        for record in records
        if record.target_accuracy is not None
    ]
    return f"tested: {', '.join(texts)}"
