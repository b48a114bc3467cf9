"""The subcommands of ``fercore-train``, a module each.

``--help`` imports them all, so a module imports what its command needs when it is run.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Protocol

from fercore.commands import (
    devices,
    evaluate,
    export,
    fit,
    import_,
    inspect,
    predict,
    profile,
    protocol,
    report,
    synth,
)


class Command(Protocol):
    """What the module of a subcommand holds."""

    HELP: str
    """What it does, in one line that goes on after the command's name."""
    EXAMPLES: str
    """What ``--help`` ends with."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Tell the parser of this subcommand what it takes."""

    def run(self, options: Namespace) -> None:
        """Carry it out; FercoreError for bad input."""


COMMANDS: dict[str, Command] = {
    "protocol": protocol,
    "fit": fit,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "import": import_,
    "inspect": inspect,
    "synth": synth,
    "report": report,
    "profile": profile,
    "devices": devices,
}
"""By name, in the order of ``--help``."""
