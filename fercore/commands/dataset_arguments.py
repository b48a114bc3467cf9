"""A dataset by itself, read and split as a study's file could say."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from fercore.commands.arguments import crop, key_and_value, seed

if TYPE_CHECKING:
    from fercore.data.dataset import Dataset
    from fercore.data.parts import Parts


def add_reading(parser: ArgumentParser) -> None:
    """Which dataset, and how it is read."""
    parser.add_argument(
        "dataset",
        metavar="NAME=PATH",
        help="NAME=PATH, where NAME is a format (fercore-train --help), or NAME=FORMAT:PATH",
    )
    parser.add_argument(
        "--crop",
        metavar="L,T,R,B",
        help="the part to use, as fractions of the image (the format's)",
    )
    parser.add_argument(
        "--option",
        dest="options",
        action="append",
        metavar="KEY=VALUE",
        help="of the format's loader, such as total=500 of mug",
    )


def add_splitting(parser: ArgumentParser) -> None:
    """How its parts are drawn."""
    parser.add_argument(
        "--splits",
        default="paper",
        metavar="RULE",
        help="paper (default), strict, or a folder of manifests",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the split (0)")


def load(options: Namespace, *, contempt: bool) -> Dataset:
    """The dataset, with images of contempt or without; FercoreError if it cannot be read."""
    from fercore.data import load, parse_spec

    settings = (key_and_value(s, "--option", "total=500") for s in options.options or ())
    part = None if options.crop is None else crop(options.crop)
    return load(parse_spec(options.dataset), part, dict(settings), contempt=contempt)


def split(dataset: Dataset, options: Namespace) -> Parts:
    """Its parts; FercoreError if it is too small to have some."""
    from fercore.data.splits import split

    return split(dataset, options.splits, options.seed)
