"""``fercore-train profile``: what a training step is, and what it takes."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from fercore.commands.arguments import add_device
from fercore.commands.study_arguments import nested
from fercore.errors import FercoreError

HELP = "list or measure one training step"
EXAMPLES = """\
examples:
  fercore-train profile --plan --batch 1024 --device cuda --limits h200
  fercore-train profile --model tiny --batch 64 --trace step.json
  fercore-train profile --plan --strategy FC --batch 1024 --without-fusion relu_pool

images are made up, and --plan needs neither the device nor the step's memory. A floor is the time
of a call's operations, or of its bytes, at the rates of a large product and a large copy.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG.toml", help="a study's settings")
    parser.add_argument("--plan", action="store_true", help="list the step; nothing is run")
    step = parser.add_argument_group("which step")
    step.add_argument("--model", help="svgg10 (default), svgg5, tiny; each also with -bn")
    step.add_argument("--strategy", default="BL", metavar="NAME", help="what may move (BL)")
    step.add_argument("--batch", type=_count, metavar="N", help="images (the recipe's: 64)")
    step.add_argument(
        "--images", type=_count, default=28709, metavar="N", help="in the training set (28709)"
    )
    step.add_argument(
        "--set",
        dest="settings",
        action="append",
        metavar="KEY=VALUE",
        help="any other setting of the recipe, such as recipe.optimizer=adam",
    )
    step.add_argument(
        "--without-fusion",
        metavar="NAME,...",
        help="undo fusions: relu, relu_pool, dropout, epilogue_gradient, update, side_stream",
    )
    where = parser.add_argument_group("where")
    add_device(where)
    where.add_argument(
        "--limits", metavar="NAME", help="rates for floors: machine, or h200, h100, a100, t4"
    )
    where.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="S", help="to measure, at least (10)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument(
        "--trace", metavar="FILE.json", help="write a step for ui.perfetto.dev to show"
    )


def run(options: Namespace) -> None:
    from fercore import profile_command

    settings = nested(options.settings)
    if unknown := settings.keys() - {"recipe"}:
        raise FercoreError(
            f"profile has no setting {min(unknown)}; it takes --set recipe.KEY=VALUE"
        )
    profile_command.run(options, settings.get("recipe", {}))


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,7}", text) or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 9999999")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", text):
        raise ArgumentTypeError(f"{text!r} is not a time in seconds, such as 2.5")
    return float(text)
