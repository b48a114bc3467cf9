"""What no single setting of a study can show: names that exist, and settings that fit together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fercore.data import FORMATS, check_options
from fercore.errors import FercoreError, did_you_mean
from fercore.freeze import Strategy

if TYPE_CHECKING:
    from fercore.config import Study, StudyDataset

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")


def check(study: Study, where: str) -> None:
    """Refuse a study whose settings contradict one another or name what does not exist."""
    if study.targets and study.source is None:
        raise FercoreError(f"{where}: there are targets but no source; add --source NAME=PATH")
    datasets = [spec for spec in (study.source, *study.targets) if spec]
    _check_names([spec.name for spec in datasets], "dataset", where)
    _check_names([own.name for own in study.strategy], "strategy", where)
    _check_names([str(amount) for amount in study.amounts], "amount", where)
    known = study.known_strategies()
    if "random" in known:
        raise FercoreError(f"{where}: 'random' names random weights; rename the strategy")
    origins = [own.starts_from for own in study.strategy if own.starts_from != "random"]
    for name in (*study.strategies, *origins):
        if name not in known:
            raise FercoreError(
                f"{where}: there is no strategy {name!r}; {did_you_mean(name, known)}"
            )
    _check_names(study.strategies, "strategy", where)
    for own in study.strategy:
        _check_ancestry(own, known, where)
    for strategy in known.values():
        study.recipe_of(strategy, where)
    places = (study.out, study.splits, study.baseline or "")
    for place in (*places, *(spec.path for spec in datasets)):
        _check_text(place, where)
    _check_model(study.model, where)
    _check_device(study.device, study.precision, where)


def check_dataset(spec: StudyDataset, where: str) -> None:
    """Refuse an unknown format, a crop that is none, and options that the format does not have."""
    if spec.format not in FORMATS:
        hint = did_you_mean(spec.format, FORMATS)
        raise FercoreError(f"{where}: there is no format {spec.format!r}; {hint}")
    if spec.crop is None and not spec.options:
        return  # what follows imports NumPy and Pillow
    from fercore.data.images import Crop

    try:
        if spec.crop is not None:
            Crop(*spec.crop)
        check_options(spec.format, spec.options, f"{spec.name} [options]")
    except FercoreError as error:
        raise FercoreError(f"{where}: {error}") from None


def _check_names(names: Sequence[str], kind: str, where: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise FercoreError(
                f"{where}: {name!r} cannot name a {kind}, because folders are called after it; use "
                "letters, digits and + . _ -"
            )
        if names.count(name) > 1:
            raise FercoreError(f"{where}: the {kind} {name!r} is there twice; rename or drop one")


def _check_text(place: str, where: str) -> None:
    if "\0" in place or place != place.encode(errors="replace").decode():
        raise FercoreError(
            f"{where}: {place!r} is not valid Unicode, so no study can write it down; rename it"
        )


def _check_ancestry(strategy: Strategy, known: Mapping[str, Strategy], where: str) -> None:
    seen = [strategy.name]
    while strategy.starts_from != "random":
        strategy = known[strategy.starts_from]
        if strategy.name in seen:
            raise FercoreError(
                f"{where}: strategies start from one another in a circle: {', '.join(seen)}"
            )
        seen.append(strategy.name)


def _check_model(name: str, where: str) -> None:
    from fercore.models import NAMES

    if name not in NAMES:
        raise FercoreError(f"{where}: there is no model {name!r}; {did_you_mean(name, NAMES)}")


def _check_device(name: str, precision: str, where: str) -> None:
    from fercore.backends import check_name, check_precision

    try:
        check_name(name)
        if name != "auto":  # which one that is, and what it can, shows when the study begins
            check_precision(name, precision)
    except FercoreError as error:
        raise FercoreError(f"{where}: {error}") from None
