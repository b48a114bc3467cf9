"""What an accuracy is held against: chance, the commonest class, twins."""

from __future__ import annotations

import math

from fercore import measures
from fercore.evidence import Evidence
from fercore.findings import Column, Target, column_name
from fercore.measures import Level
from fercore.statistics.levels import TwinEffect
from fercore.words import counted, percent


def sentences(evidence: Evidence, target: Target) -> list[str]:
    """What the accuracies of one target are held against; nothing where answers are missing."""
    texts = []
    for dataset in (target.source, target.name):
        table = evidence.comparisons.tables.get((target.name, dataset))
        if table is not None:
            texts.append(_level(evidence.levels[target.name, dataset]))
            effects = measures.twin_effects(evidence.answers, evidence.records, table)
            texts += _twins(dataset, effects)
    return texts


def _level(level: Level) -> str:
    return (
        f"On {level.dataset}'s {counted(level.images, 'test image')}, guessing gets "
        f"{percent(level.chance)}, and always naming the commonest class of its training part "
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
