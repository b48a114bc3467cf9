"""``fercore-train export``: a network for other programs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fercore.commands.arguments import new_file

HELP = "write a network for ONNX runtimes or PyTorch"
EXAMPLES = """\
examples:
  fercore-train export fer/best.safetensors fer.onnx
  fercore-train export fer/best.safetensors fer-pytorch.safetensors

ONNX (pip install 'fercore[onnx]'): input pixels, uint8 [batch, 1, 48, 48], gray faces, which are
normalised inside; outputs logits and probabilities, float32 [batch, 7], or 8 with contempt.
The metadata name the classes.

PyTorch: a state dict of modules named like the layers here, but conv1_1.norm is norm1_1 and its
running_variance running_var. Convolutions are [out, in, kh, kw], and fc1 reads the feature map
flattened with channels first. The input is (pixel / 255 - 0.5) / 0.25.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.safetensors", help="a best.safetensors")
    parser.add_argument("out", metavar="OUT", help=".onnx, or .safetensors for PyTorch")


def run(options: Namespace) -> None:
    from fercore import backends, checkpoint, export
    from fercore.data.dataset import CLASSES

    network, out = Path(options.model), new_file(options.out)
    backend = backends.get("reference", dtype="float32")
    model = checkpoint.load_model(network, backend)
    export.save(out, model)
    how = "pixels in, logits and probabilities out" if out.suffix == ".onnx" else "a state dict"
    print(f"{out}: {how}; classes in the order {', '.join(CLASSES[: model.classes])}")
