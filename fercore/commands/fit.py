"""``fercore-train fit``: one network, without a study."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fercore.commands.arguments import terminal_width
from fercore.commands.study_arguments import add_training, read_study, tensorboard

HELP = "train one network on one dataset"
EXAMPLES = """\
examples:
  fercore-train fit fer2013=fer2013.zip --model tiny --out fer
  fercore-train evaluate fer/best.safetensors ckplus=ck48.zip
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="NAME=PATH", help="the dataset to train on")
    add_training(parser, "fercore-model")


def run(options: Namespace) -> None:
    from fercore import protocol, reporting
    from fercore.listeners import open_listener
    from fercore.predict import score_as_text
    from fercore.results import source_score
    from fercore.run_directory import RunDirectory
    from fercore.words import folded

    only_bl = {"targets": [], "strategies": ["BL"], "seeds": 1, "baseline": None}
    study = read_study(options, "fercore-model", **only_bl)
    directory = RunDirectory(Path(study.out), single=True)
    events = tensorboard(options, directory)
    with open_listener(tensorboard=events, verbose=options.verbose) as listener:
        (record,) = protocol.execute(
            study,
            directory,
            resume=options.resume,
            accept_changes=options.accept_changes,
            listener=listener,
        )
    sys.stdout.write(score_as_text(source_score(record), f"{record.source}, test"))
    print("", *folded(reporting.time_and_energy(directory), terminal_width()), sep="\n")
    print(f"{directory.path / 'best.safetensors'}: the network of epoch {record.best_epoch}")
