"""``fercore-train devices``: what can compute here."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

HELP = "the backends, and whether they can run here"
EXAMPLES = ""


def add_arguments(parser: ArgumentParser) -> None:
    """It takes none."""


def run(options: Namespace) -> None:
    from fercore import backends

    for name in backends.NAMES:
        print(backends.describe(name))
