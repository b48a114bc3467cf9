"""``fercore-train predict``: what a network sees in pictures."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fercore.commands.arguments import add_device, crop, make_backend

if TYPE_CHECKING:
    from fercore.faces import Detector
    from fercore.predict import Prediction

HELP = "class probabilities for the faces in images"
EXAMPLES = """\
examples:
  fercore-train predict fer/best.safetensors photo.jpg holiday/ --draw seen
  fercore-train predict fer/best.safetensors photos.zip --json > seen.json
  fercore-train predict fer/best.safetensors --crop 0,0,1,1 faces-of-48x48/

with OpenCV (pip install 'fercore[faces]') every upright, frontal face in a picture is found and cut
out in FER2013's framing (eyes at 37 % of the height, 37 % of the width apart): a square 1.04 times
as wide as the detector's box, around the same centre; a picture that is so framed already is used
whole. Without OpenCV, where it finds no face, or with --crop, the whole picture or the given part
is used, and the output says so. Pictures are turned upright by their EXIF data; of animations the
first frame is used; those of more than 8 bits a pixel are not read.

--json prints a list with an object a face: file, box (left, top, right, bottom in pixels), found
(whether the box was found by the detector), class, probabilities; and file, error for what could
not be read.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.safetensors", help="a best.safetensors")
    parser.add_argument("files", nargs="+", metavar="FILE", help="images; or folders, zip files")
    parser.add_argument(
        "--crop",
        metavar="L,T,R,B",
        help="the face's box as fractions of every image; no face is looked for",
    )
    parser.add_argument(
        "--draw", metavar="DIR", help="write the pictures with boxes and classes drawn on"
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> None:
    from fercore import checkpoint, drawing, faces, predict
    from fercore.data.images import WHOLE
    from fercore.words import counted

    backend = make_backend(options)
    model = checkpoint.load_model(Path(options.model), backend)
    part = WHOLE if options.crop is None else crop(options.crop)
    detector = faces.open_detector() if options.crop is None else None
    paths = [Path(file) for file in options.files]
    predictions, skipped = predict.predict_files(
        model, paths, backend=backend, crop=part, detector=detector
    )
    drawn = drawing.write(Path(options.draw), paths, predictions) if options.draw else ()
    if options.json:
        sys.stdout.write(predict.predictions_as_json(predictions, skipped))
        return
    sys.stdout.write(predict.predictions_as_text(predictions))
    print(f"\nProbabilities in %. {_shown(predictions, options.crop, detector)}")
    if drawn:
        print(f"{options.draw}: {counted(len(drawn), 'picture')} with them drawn on")
    for entry in skipped:
        print(f"not read: {entry.file}: {entry.reason}", file=sys.stderr)


def _shown(
    predictions: Sequence[Prediction], given_crop: str | None, detector: Detector | None
) -> str:
    """What the network was shown, for whoever reads its answers."""
    if given_crop is not None:
        return f"Of each picture the part {given_crop} was used."
    if detector is None:
        return (
            "No face was looked for, whole images were used: to find faces, pip install "
            "'fercore[faces]', or name their place with --crop."
        )
    if without := sum(not prediction.found for prediction in predictions):
        return f"Whole images were used where no face was found: {without} of {len(predictions)}."
    return "Boxes are WIDTHxHEIGHT+LEFT+TOP, in pixels of the upright picture."
