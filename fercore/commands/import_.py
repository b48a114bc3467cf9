"""``fercore-train import``: a network of another program."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from fercore.commands.arguments import listed, new_file

HELP = "read a network that PyTorch trained"
EXAMPLES = """\
examples:
  fercore-train import fer-pytorch.safetensors fer.safetensors
  fercore-train import mine.pt mine.safetensors --std 0.5 \\
      --classes angry,disgust,fear,happy,neutral,sad,surprise

the checkpoint is the state dict of a network of ours (names and layout: see export --help) in a
safetensors file, or as torch.save wrote it, which takes PyTorch to read. Which network it is shows
in its shapes. PyTorch's ImageFolder sorts classes by name, as in the example.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=".safetensors, .pt or .pth")
    parser.add_argument("out", metavar="OUT.safetensors", help="the network to write")
    parser.add_argument(
        "--classes", metavar="LIST", help="what its outputs stand for (angry,disgust,fear,...)"
    )
    parser.add_argument(
        "--std",
        type=_positive,
        default=0.25,
        metavar="S",
        help="it was trained on (pixel / 255 - 0.5) / S (0.25)",
    )


def run(options: Namespace) -> None:
    from fercore import backends, checkpoint, pytorch

    out = new_file(options.out)
    classes = None if options.classes is None else listed(options.classes, "--classes", str)
    backend = backends.get("reference", dtype="float32")
    model = pytorch.load_model(Path(options.checkpoint), backend, classes=classes, std=options.std)
    checkpoint.save_model(out, model)
    print(f"{out}: {model.name}, {model.num_parameters():,} parameters")


def _positive(text: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", text) or float(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return float(text)
