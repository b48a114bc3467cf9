"""A study as text: TOML to keep, TOML to read and edit, and what differs between two studies."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import tomli_w

from fercore.config import Recipe, Study, StudyDataset, Table
from fercore.freeze import Strategy


def to_toml(study: Study) -> str:
    """The study as TOML; ``read_study`` of it gives an equal value."""
    return tomli_w.dumps(_plain(study))


def commented_toml(study: Study) -> str:
    """The study as TOML with a comment beside every setting."""
    kind: type[msgspec.Struct] = Study
    lines = ["# A fercore study: fercore-train protocol THIS_FILE", ""]
    if study.synthetic:
        lines += [
            "# Without source and targets, faces are drawn, which these settings suit. For others:",
            "# fercore-train protocol --source fer2013=FILE --target jaffe=FOLDER --print-config",
            "",
        ]
    # Not splitlines(), which also divides texts at letters such as U+0085.
    for line in to_toml(study).removesuffix("\n").split("\n"):
        if line.startswith("["):
            table, _, inner = line.strip("[]").partition(".")
            kind = _TABLES[table]
            line += _comment(kind, inner) if inner else _comment(Study, table)
        elif match := re.match(r"(\w+) = ", line):
            # A long array continues on the next lines; its comment still fits behind the bracket.
            line += _comment(kind, match[1])
        lines.append(line)
    return "\n".join(lines) + "\n"


def as_arguments(choice: StudyDataset, study: Study) -> list[str]:
    """A dataset of a study as ``inspect`` takes it, so that it reads the same images."""
    place = choice.path if choice.name == choice.format else f"{choice.format}:{choice.path}"
    arguments = [f"{choice.name}={place}"]
    if choice.crop is not None:
        arguments += ["--crop", ",".join(map(str, choice.crop))]
    for key, value in choice.options.items():
        arguments += ["--option", f"{key}={_as_typed(value)}"]
    if study.contempt:
        arguments.append("--contempt")
    if study.seed:
        arguments += ["--seed", str(study.seed)]
    return arguments


def _as_typed(value: Any) -> str:
    """An option's value as a command line has it: TOML, but words as they are."""
    if isinstance(value, str):
        try:
            tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            return value
    return json.dumps(value)  # of what options can be, TOML too


def changes(old: Study, new: Study) -> list[str]:
    """What differs between two studies, one phrase each; where they are written does not count."""
    before, after = dict(_flat(_plain(old))), dict(_flat(_plain(new)))
    phrases = (
        _difference(before, after, key)
        for key in [*before, *after]
        if before.get(key) != after.get(key) and key != "out"
    )
    return list(dict.fromkeys(phrases))


_TABLES: dict[str, type[msgspec.Struct]] = {
    "source": StudyDataset,
    "targets": StudyDataset,
    "recipe": Recipe,
    "finetune": Recipe,
    "strategy": Strategy,
}


def _plain(study: Study) -> dict[str, Any]:
    """Dicts and lists without None and empty tables, which TOML cannot say or need not."""

    def strip(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: strip(v) for k, v in value.items() if v is not None and v != {}}
        return [strip(v) for v in value] if isinstance(value, (list, tuple)) else value

    plain: dict[str, Any] = strip(msgspec.to_builtins(study))
    for name in ("targets", "strategy"):
        if not plain[name]:
            del plain[name]
    return plain


def _comment(kind: type[msgspec.Struct], setting: str) -> str:
    """The words about ``setting`` in the Attributes section of the docstring of ``kind``."""
    text = inspect.getdoc(kind) or ""
    match = re.search(rf"^( +){setting}: (.+(?:\n\1 +.+)*)$", text, re.MULTILINE)
    return f"  # {' '.join(match[2].split())}" if match else ""


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; datasets and strategies are keyed by name."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(entry, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for entry in value:
            yield from _flat(entry, f"{prefix} {entry['name']}")
    else:
        yield prefix, value


def _difference(before: Table, after: Table, key: str) -> str:
    entry = key.partition(".")[0]
    if " " in entry:  # a dataset or strategy, such as "targets jaffe"
        for flat, verb in ((before, "added"), (after, "removed")):
            if not any(other.startswith(f"{entry}.") for other in flat):
                return f"{entry}: {verb}"
    return f"{key}: {_said(before.get(key))} -> {_said(after.get(key))}"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "unset" if value is None else str(value)
