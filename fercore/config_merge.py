"""Settings of the command line over those of a file, while both are plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fercore.errors import FercoreError, did_you_mean


def merge(table: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file with those of the command line over them; see ``read_study``."""
    merged = {**table, **flags}
    for name in ("recipe", "finetune"):
        if name in table or name in flags:
            merged[name] = {**table.get(name, {}), **flags.get(name, {})}
    old, new = table.get("source"), flags.get("source")
    if isinstance(old, dict) and isinstance(new, dict) and "name" not in new:
        merged["source"] = _changed(old, new)
    if isinstance(changes := flags.get("targets"), dict):
        merged["targets"] = change_targets(table.get("targets", ()), changes)
    return merged


def change_targets(targets: Sequence[Any], changes: Mapping[str, Any]) -> list[Any]:
    """Targets with settings changed, as ``{"jaffe": {"options": ...}}`` has them by name.

    Raises FercoreError for a name that no target has, and for settings that are no table.
    """
    names = [str(target.get("name")) for target in targets if isinstance(target, dict)]
    for name, settings in changes.items():
        if name not in names:
            raise FercoreError(
                f"targets.{name}: there is no such target; {did_you_mean(name, names)}"
            )
        if not isinstance(settings, dict):
            raise FercoreError(
                f"targets.{name}: say which of its settings, such as targets.{name}.crop"
            )
    return [
        _changed(target, changes[target["name"]])
        if isinstance(target, dict) and target.get("name") in changes
        else target
        for target in targets
    ]


def _changed(dataset: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A dataset's table with some settings replaced; its options one by one."""
    old, new = dataset.get("options"), settings.get("options")
    changed = {**dataset, **settings}
    if isinstance(old, dict) and isinstance(new, dict):
        changed["options"] = {**old, **new}
    return changed
