"""What an accuracy is held against: chance, the commonest class, twins; and memory in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fercore import measures
from fercore.answer_table import AnswerTable, Estimate
from fercore.answers import StudyAnswers
from fercore.findings import Column, column_name
from fercore.measures import Level
from fercore.page.study import StudyFiles
from fercore.page.words import percent
from fercore.report import Row
from fercore.statistics.levels import TwinEffect


def sentences(
    study: StudyFiles, answers: StudyAnswers, source: AnswerTable, target: AnswerTable
) -> list[str]:
    """What the accuracies of one target are held against, on both test sets."""
    texts = []
    for table in (source, target):
        texts.append(_level(measures.measure_level(answers, table)))
        texts += _twins(table.dataset, measures.twin_effects(answers, study.records, table))
    return texts


def memory_rows(
    study: StudyFiles,
    answers: StudyAnswers,
    source: AnswerTable,
    target: AnswerTable,
    columns: Sequence[str],
) -> list[Row]:
    """Rows for the table with these columns: memory kept, and the harmonic mean of both accuracies.

    No row where BL, to which memory is relative, was not tested.
    """
    if measures.BASELINE not in source.columns:
        return []
    found = {
        column_name(one.column): one
        for one in measures.measure_memory(answers, study.records, source, target)
    }
    known = [found.get(column) for column in columns]
    return [
        *_rows("memory kept, % of BL's", [None if one is None else one.retention for one in known]),
        *_rows(
            "harmonic mean of both", [None if one is None else one.harmonic_mean for one in known]
        ),
    ]


def _level(level: Level) -> str:
    return (
        f"On {level.dataset}'s {level.images:,} test images, guessing gets {percent(level.chance)}"
        f", and always naming the commonest class of its training part "
        f"{percent(level.majority)}."
    )


def _twins(dataset: str, effects: dict[Column, TwinEffect]) -> list[str]:
    """For each column, what exact twins in its training are worth to it."""
    texts = []
    for column, effect in effects.items():
        if effect.twins and not math.isnan(effect.accuracy_without):
            texts.append(
                f"{column_name(column)} had seen exact twins of {effect.twins:,} of {effect.n:,} "
                f"test images of {dataset}; without them it reaches "
                f"{percent(effect.accuracy_without)} rather than {percent(effect.accuracy)}."
            )
    return texts


def _rows(label: str, estimates: Sequence[Estimate | None]) -> list[Row]:
    values = ("" if one is None else f"{100 * one.value:.2f}" for one in estimates)
    return [
        Row(label, tuple(values)),
        Row("95 % interval", tuple(map(_interval, estimates)), detail=True),
    ]


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"{100 * low:.1f}..{100 * high:.1f}"
