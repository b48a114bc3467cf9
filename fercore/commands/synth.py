"""``fercore-train synth``: drawn faces, as the real datasets are laid out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fercore.commands.arguments import seed

HELP = "draw synthetic faces in the formats of the real datasets"
EXAMPLES = """\
examples:
  fercore-train synth faces
        the source and targets of a study without data; it prints the command that studies them
  fercore-train synth JAFFE --only jaffe
  fercore-train inspect jaffe=JAFFE --sheet faces.png
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="where to write")
    parser.add_argument("--only", metavar="FORMAT", help="one dataset, as DIR itself")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="(0)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many images (1)")


def run(options: Namespace) -> None:
    from fercore.data import synthetic
    from fercore.listeners import open_listener

    folder, name = Path(options.folder), options.only
    with open_listener() as listener:
        if name is None:
            paths = synthetic.write_study(folder, options.seed, options.scale, listener.drawing)
        else:
            count = synthetic.scaled(name, options.scale)
            count = synthetic.write_dataset(name, folder, options.seed, count, listener.drawing)
    if name is not None:
        print(f"{count} synthetic faces in {folder}, as {name}={folder}")
        return
    source, *targets = (f"{name}={path}" for name, path in paths.items())
    print(f"synthetic faces in {folder}; to study them:")
    print(f"fercore-train protocol --model tiny-bn --source {source} --target {' '.join(targets)}")
