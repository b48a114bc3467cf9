"""``fercore-train``: the parser's frame, and what happens when something fails.

What the subcommands take and do is in ``fercore.commands``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import fercore
from fercore.commands import COMMANDS
from fercore.errors import FercoreError, did_you_mean

TOP = """\
What does a network forget when it is adapted to a new dataset?

fercore-train trains a network on a source dataset of faces, adapts it to target datasets by several
strategies, and measures what it then still knows about the source.
"""
TOP_EXAMPLES = """\
examples:
  fercore-train protocol
        the whole study on drawn faces, in minutes
  fercore-train protocol --source fer2013=fer2013.zip --target jaffe=JAFFE ckplus=ck48.zip
        the same on real ones
  fercore-train predict fercore-run/runs/BL/best.safetensors face.jpg

datasets are given as NAME=PATH, where NAME is one of the formats fer2013, ferplus, jaffe, tfeid,
mug, ckplus, kdef, rafdb, affectnet, rafd and folder; or as NAME=FORMAT:PATH under a name of your
own. PATH is a folder, csv or zip file.
"""


READING = ("--crop", "--option")
"""Flags about one dataset, which commands that read several do not have."""


class Parser(argparse.ArgumentParser):
    """Reports a mistake as one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(
            r"(?:argument (\S+): )?invalid choice: '(.*)' \(choose from (.*)\)", message
        )
        if choice:
            names = re.findall(r"[\w-]+", choice[3])
            message = f"there is no {choice[1] or 'choice'} {choice[2]!r}; "
            message += did_you_mean(choice[2], names)
        raise FercoreError(f"{message} (see {self.prog} --help)")


def build_parser() -> Parser:
    """The parser of every subcommand; the parsed value's ``command`` is its name."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="fercore-train", description=TOP, epilog=TOP_EXAMPLES, formatter_class=layout
    )
    parser.add_argument("--version", action="version", version=f"fercore {fercore.__version__}")
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    added = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(
            added.add_parser(
                name,
                help=command.HELP,
                description=command.HELP[0].upper() + command.HELP[1:] + ".",
                epilog=command.EXAMPLES,
                formatter_class=layout,
                parents=[common],
                allow_abbrev=False,
            )
        )
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line; FercoreError for a wrong one."""
    argv = sys.argv[1:] if argv is None else argv
    if "" in argv:
        raise FercoreError("one of the arguments is empty; is a variable of the shell unset?")
    parser = build_parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        raise FercoreError(_unknown(unknown[0], options.command, parser))
    return options


def _unknown(argument: str, command: str, parser: Parser) -> str:
    commands = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    known = re.findall(r"--[\w-]+", commands.choices[command].format_usage())
    if argument.partition("=")[0] in READING and "--set" in known:
        hint = "a study's file has crop and options of each dataset; of the source, --set too: "
        hint += "source.crop=[0.1,0.1,0.9,0.9], source.options.KEY=VALUE"
    else:
        hint = did_you_mean(argument, known) if argument.startswith("-") else "remove it"
    return f"{command} does not know {argument!r}; {hint} (see fercore-train {command} --help)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, 2 for bad input, 130 when interrupted, 1 for a bug."""
    _check_streams()
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    options = argparse.Namespace()
    # Ended by a batch system, too, it leaves a tidy terminal and no unfinished file.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = parse(argv)
        COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except FercoreError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        mend = "; to continue, give the same command with --resume" if "resume" in options else ""
        print(f"\nfercore-train: interrupted{mend}", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as if SIGPIPE had ended it: whoever read the output has gone
    except OSError as error:  # the output's disk is full, a name is too long
        if debug:
            raise
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", 2)
    except MemoryError:
        if debug:
            raise
        return _fail("not enough memory; choose a smaller model, batch_size or dataset", 2)
    except Exception as error:
        if debug:
            raise
        text = f"{type(error).__name__}: {error}"
        return _fail(f"unexpected {text}; this is a fault of fercore: see --debug", 1)
    return 0


def _check_streams() -> None:
    """Make standard output and error such that writing text to them cannot fail for its letters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # ± where only ASCII is printed, and file names that are no valid Unicode.
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    with contextlib.suppress(BrokenPipeError):
        print(f"fercore-train: error: {line}", file=sys.stderr, flush=True)
    return status
