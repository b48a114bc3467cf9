"""What a study measured, and what the answers of its networks prove: one source for all tellers.

The table, the terminal and the page say what stands here. An accuracy needs the records alone; its
interval, and whatever two networks are told apart by, need the answers to every test image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fercore import measures, versus
from fercore.answers import StudyAnswers
from fercore.findings import Column, Target, by_target
from fercore.measures import Memory
from fercore.results import Record
from fercore.run_directory import RunDirectory
from fercore.versus import Comparisons


@dataclass(frozen=True)
class Evidence:
    """A study's records with the paired statistics of its answers, each worked out once.

    Attributes:
        records: of all tested runs.
        answers: of the study.
        comparisons: over all classes; empty where the answers are missing, and it says why.
        shared: over the classes that source and target both have.
    """

    records: Sequence[Record]
    answers: StudyAnswers
    comparisons: Comparisons
    shared: Comparisons

    @cached_property
    def targets(self) -> list[Target]:
        """What the records say of each target."""
        return by_target(self.records)

    @cached_property
    def memory(self) -> dict[tuple[str, Column], Memory]:
        """By target and column, every figure with its interval; none without answers and BL."""
        return self._measure(self.comparisons)

    @cached_property
    def shared_memory(self) -> dict[tuple[str, Column], Memory]:
        """The same over the classes that both sets have."""
        return self._measure(self.shared)

    def knows_source(self, target: Target, column: Column) -> bool:
        """Whether networks of a column have learned from the source, now or before."""
        runs = (r.run for r in self.records if (r.strategy, r.amount) == column)
        return any(target.source in self.answers.learned_from(run) for run in runs)

    def _measure(self, comparisons: Comparisons) -> dict[tuple[str, Column], Memory]:
        found = {}
        for target in self.targets:
            source, own = (
                comparisons.tables.get((target.name, dataset))
                for dataset in (target.source, target.name)
            )
            if source is not None and own is not None and target.baseline is not None:
                for one in measures.measure_memory(self.answers, self.records, source, own):
                    found[target.name, one.column] = one
        return found


def gather(directory: RunDirectory, records: Sequence[Record]) -> Evidence:
    """The evidence of a study, finished or not, whose runs measured ``records``."""
    answers = StudyAnswers(directory)
    comparisons = shared = versus.compare(answers, records)
    if any(record.shared_classes < record.classes for record in records):
        shared = versus.compare(answers, records, shared=True)
    return Evidence(records, answers, comparisons, shared)
