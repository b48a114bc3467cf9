"""Arguments that several subcommands have, and what their text stands for."""

from __future__ import annotations

import re
import shutil
import tomllib
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fercore.errors import FercoreError

if TYPE_CHECKING:
    from argparse import _ArgumentGroup

    from fercore.backends.interface import Backend
    from fercore.data.images import Crop


def seed(text: str) -> int:
    """A seed, as argparse reads it."""
    if not re.fullmatch(r"\d{1,10}", text) or int(text) >= 2**31:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


def add_device(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Where to compute, and in which precision; neither has a value unless it is given."""
    parser.add_argument("--device", help="auto (default), or one that 'devices' lists")
    parser.add_argument("--precision", help="fp32 (default); on a GPU also bf16, tf32 and bf16x3")


def make_backend(options: Namespace) -> Backend:
    """The backend that ``add_device``'s arguments name; FercoreError if there is none such."""
    from fercore import backends

    return backends.get(options.device or "auto", precision=options.precision or "fp32")


def key_and_value(text: str, flag: str, example: str) -> tuple[str, Any]:
    """The two sides of ``KEY=VALUE``, the value as TOML reads it."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise FercoreError(f"{flag} {text}: write KEY=VALUE, such as {example}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value  # a word, which TOML would want in quotes


def listed(text: str, flag: str, kind: type[int] | type[str]) -> list[Any]:
    """The entries of a list with commas between."""
    try:
        return [kind(entry.strip()) for entry in text.split(",") if entry.strip()]
    except ValueError:
        raise FercoreError(f"{flag} {text}: write whole numbers, with commas between") from None


def crop(text: str) -> Crop:
    """The part of an image that ``--crop`` names."""
    from fercore.data.images import Crop

    try:
        return Crop(*(float(number) for number in text.split(",")))
    except (TypeError, ValueError):
        raise FercoreError(
            f"--crop {text}: write left,top,right,bottom as fractions, such as 0.2,0.1,0.8,0.9"
        ) from None


def new_file(text: str) -> Path:
    """A file to write, which must not be there yet."""
    path = Path(text)
    if path.exists():
        raise FercoreError(f"{path}: is there already; delete it, or choose another name")
    return path


def terminal_width() -> int:
    """How many columns a table may have."""
    return shutil.get_terminal_size((160, 24)).columns
