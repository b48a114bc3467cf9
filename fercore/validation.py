"""Turning tables that people wrote into checked values, with errors that name the mend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from fercore.errors import FercoreError, did_you_mean

Value = TypeVar("Value", bound=msgspec.Struct)


def decode(table: Mapping[str, Any], kind: type[Value], where: str) -> Value:
    """``table`` as a ``kind``, its keys, types and ranges checked.

    Args:
        table: plain values, as read from TOML.
        kind: a msgspec Struct.
        where: how messages call the table: ``"study.toml [recipe]"``.

    Raises:
        FercoreError: an unknown key or choice (with the nearest one), a wrong type, or a value out
            of range.
    """
    if not isinstance(table, Mapping):
        raise FercoreError(f"{where}: expected a table")
    _check_keys(table, kind, where)
    _check_choices(table, kind, where)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at ")
        key = at.strip("`").removeprefix("$").removeprefix(".")
        raise FercoreError(f"{where}: {key + ': ' if key else ''}{_lower(message)}") from None


def _check_keys(table: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    fields = kind.__struct_fields__
    for key in table:
        if key not in fields:
            raise FercoreError(f"{where}: there is no setting {key!r}; {did_you_mean(key, fields)}")


def _check_choices(table: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    """Refuse a word that is none of a Literal's, alone or in a list."""
    for key, hint in get_type_hints(kind).items():
        several = get_origin(hint) is tuple
        hint = get_args(hint)[0] if several else hint
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        value = table.get(key)
        for word in value if several and isinstance(value, list) else [value]:
            if isinstance(word, str) and choices and word not in choices:
                verb = "hold" if several else "be"
                raise FercoreError(
                    f"{where}: {key} cannot {verb} {word!r}; {did_you_mean(word, choices)}"
                )


def _lower(message: str) -> str:
    """A message of msgspec's in the words of TOML's readers."""
    message = (message[:1].lower() + message[1:]).replace("`", "")
    return re.sub(r"\barray\b", "list", re.sub(r"\bobject\b", "table", message))
