"""``fercore-train evaluate``: a network's accuracy on a dataset."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fercore.commands.arguments import add_device, make_backend
from fercore.commands.dataset_arguments import add_reading, add_splitting, load, split

HELP = "test a network on a dataset"
EXAMPLES = """\
examples:
  fercore-train evaluate study/runs/BL/best.safetensors jaffe=JAFFE --splits study/splits
  fercore-train evaluate study/runs/BL/best.safetensors new=folder:NEW --part all

a dataset of the study is split as it was there with the manifests in the study's folder, or else
with the study's --splits, --seed and options; otherwise images that the network was trained on may
be tested. Its --crop is to be given, too. --part all is for a dataset that it has never seen.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.safetensors", help="a best.safetensors")
    add_reading(parser)
    parser.add_argument(
        "--part", choices=("train", "validation", "test", "all"), default="test", help="(test)"
    )
    add_splitting(parser)
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> None:
    import msgspec
    import numpy as np

    from fercore import checkpoint, predict
    from fercore.data.dataset import BASIC

    backend = make_backend(options)
    model = checkpoint.load_model(Path(options.model), backend)
    dataset = load(options, contempt=model.classes > BASIC)
    if options.part == "all":
        rows = np.arange(len(dataset))
    else:
        rows = split(dataset, options).rows()[options.part]
    score = predict.evaluate(model, dataset, rows, backend=backend)
    if options.json:
        sys.stdout.write(msgspec.json.encode(score).decode() + "\n")
    else:
        faces = "SYNTHETIC faces" if dataset.synthetic else "images"
        title = f"{dataset.name}, {faces}, part {options.part}"
        sys.stdout.write(predict.score_as_text(score, title))
