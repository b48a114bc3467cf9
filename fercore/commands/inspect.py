"""``fercore-train inspect``: what a dataset holds, and how it is split."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fercore.commands.dataset_arguments import add_reading, add_splitting, load, split
from fercore.errors import FercoreError

if TYPE_CHECKING:
    from fercore.data.dataset import Dataset

HELP = "what is in a dataset: counts, faults, duplicates, folds"
EXAMPLES = """\
examples:
  fercore-train inspect jaffe=JAFFE --sheet faces.png
  fercore-train inspect kdef=KDEF --crop 0.2,0.3,0.8,0.75 --sheet faces.png
  fercore-train inspect jaffe=JAFFE --folds 5 --write folds
  fercore-train protocol --source fer2013=fer2013.zip --target jaffe=JAFFE --splits folds/fold-1

every image is tested in one fold, and nobody is in two parts of one. A dataset without a manifest
in the folder given to --splits, such as the source here, is split as ever.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_reading(parser)
    parser.add_argument(
        "--contempt", action="store_true", help="read images of it, too: an eighth class"
    )
    add_splitting(parser)
    parser.add_argument(
        "--folds",
        type=_folds,
        metavar="K|subjects",
        help="draw K splits for cross-validation, or one a person, in place of --splits",
    )
    parser.add_argument(
        "--write", metavar="DIR", help="write the split, or the folds, as manifests"
    )
    parser.add_argument(
        "--sheet", type=_picture, metavar="FILE.png", help="write a sheet of example images"
    )


def run(options: Namespace) -> None:
    dataset = load(options, contempt=options.contempt)
    if options.folds:
        _draw_folds(dataset, options)
    else:
        _describe(dataset, options)


def _describe(dataset: Dataset, options: Namespace) -> None:
    import numpy as np

    from fercore.data import inspect, manifest, splits
    from fercore.data.parts import Parts

    try:
        parts = split(dataset, options)
    except FercoreError as error:
        if options.splits not in splits.RULES or options.write:
            raise
        nobody = np.empty(0, np.int64)
        parts = Parts(nobody, nobody, nobody, (f"It cannot be split: {error}",))
    sys.stdout.write(inspect.render_text(inspect.describe(dataset, parts)))
    if options.write:
        path = Path(options.write) / f"{dataset.name}.csv"
        if path.exists():
            raise FercoreError(f"{path}: is there already; delete it, or choose another folder")
        manifest.write(path, dataset, parts)
        print(f"\n{path}: this split; to use it, add --splits {options.write}")
    if options.sheet:
        inspect.contact_sheet(dataset, Path(options.sheet), seed=options.seed)
        print(f"\n{options.sheet}: examples of every class")


def _draw_folds(dataset: Dataset, options: Namespace) -> None:
    from fercore.data import folds

    if options.splits != "paper" or options.sheet:
        raise FercoreError("--folds goes with neither --splits nor --sheet; remove one of them")
    splits = folds.folds(dataset, options.folds, options.seed)
    paths = folds.write(Path(options.write), dataset, splits) if options.write else []
    sys.stdout.write(folds.describe(dataset, splits))
    if paths:
        first = paths[0]
        print(
            f"\n{first} and so on; to use one: fercore-train protocol ... --splits {first.parent}"
        )


def _folds(text: str) -> str:
    if text != "subjects" and not re.fullmatch(r"\d{1,6}", text):
        raise ArgumentTypeError(f"{text!r} is neither a number nor 'subjects'")
    return text


def _picture(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise ArgumentTypeError(f"{text!r} does not end in .png")
    return text
