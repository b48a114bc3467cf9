"""``fercore-train protocol``: a whole study."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from fercore.commands.arguments import terminal_width
from fercore.commands.study_arguments import add_training, read_study, tensorboard
from fercore.errors import FercoreError

HELP = "carry out a study and print the paper's table"
EXAMPLES = """\
examples:
  fercore-train protocol
  fercore-train protocol --source fer2013=fer2013.zip --target jaffe=JAFFE --model tiny --epochs 20
  fercore-train protocol --source fer2013=fer2013.zip --target plus=ferplus:FERPlus \\
        --set targets.plus.options.labels=probability
  fercore-train protocol study.toml --seeds 5 --out five-seeds
  fercore-train protocol --out five-seeds --resume
  fercore-train protocol --print-config > study.toml

without data, faces are drawn; everything that comes out then says so. Ctrl-C loses at most the
current epoch.

on a small target a run takes as many epochs as give finetune.min_steps updates (300), from random
weights recipe.min_steps (600). A quick trial: --model tiny-bn --epochs 2 --finetune-epochs 2
--set recipe.min_steps=0 --set finetune.min_steps=0
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG.toml", help="settings; flags override")
    data = parser.add_argument_group("data")
    data.add_argument("--source", metavar="NAME=PATH", help="the dataset whose memory is tested")
    data.add_argument(
        "--target",
        dest="targets",
        nargs="+",
        action="extend",
        metavar="NAME=PATH",
        help="datasets to adapt to; may be repeated",
    )
    data.add_argument(
        "--amounts", metavar="50,100", help="percent of a target's training images (50,100)"
    )
    study = parser.add_argument_group("study")
    study.add_argument(
        "--strategies", metavar="BL,FC,...", help="columns of the table (BL,FC,FC+CL,RE,FU,TO)"
    )
    study.add_argument(
        "--baseline", metavar="MODEL.safetensors", help="a finished network to be BL, not trained"
    )
    study.add_argument("--seeds", type=int, metavar="K", help="repetitions (1)")
    study.add_argument(
        "--finetune-epochs",
        type=int,
        metavar="N",
        help="epochs of runs that start from another (30, or more: see below)",
    )
    add_training(parser, "fercore-run")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=_jobs,
        help="runs to carry out side by side (by default as many as suit the device)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the runs, and the time and memory they take"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings as TOML and do nothing"
    )


def run(options: Namespace) -> None:
    from fercore import protocol, report, reporting
    from fercore.config_text import commented_toml
    from fercore.listeners import open_listener
    from fercore.run_directory import RunDirectory
    from fercore.words import folded

    if options.config and "=" in options.config and not Path(options.config).exists():
        raise FercoreError(
            f"{options.config}: no file of settings is there; give a dataset after --source or "
            "--target"
        )
    study = read_study(options, "fercore-run")
    if study.source is not None and not study.targets:
        raise FercoreError("there is no target; add --target NAME=PATH, or use fercore-train fit")
    if options.print_config:
        sys.stdout.write(commented_toml(study))
        return
    if options.dry_run:
        from fercore.estimate import dry_run

        sys.stdout.write(dry_run(study))
        return
    directory = RunDirectory(Path(study.out))
    events = tensorboard(options, directory)
    with open_listener(tensorboard=events, verbose=options.verbose) as listener:
        records = protocol.execute(
            study,
            directory,
            resume=options.resume,
            accept_changes=options.accept_changes,
            jobs=options.jobs,
            listener=listener,
        )
    table = report.write(directory, records)
    sys.stdout.write(report.to_text(table, terminal_width()))
    reporting.write_page(directory)
    print("", *folded(reporting.time_and_energy(directory), terminal_width()), sep="\n")
    print(f"{directory.path}: report.html, table.md, and every network under runs/")


def _jobs(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 9999")
    return int(text)
