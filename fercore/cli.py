"""``fercore-train``: what can be said on the command line, and what happens when something fails.

Only the parser lives here; the commands are in ``fercore.commands``, which is imported once the
arguments are known, so that ``--help`` answers at once.
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
from fercore.errors import FercoreError

DATASET_HELP = "NAME=PATH, where NAME is a format (fercore-train --help), or NAME=FORMAT:PATH"

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
PROTOCOL_EXAMPLES = """\
examples:
  fercore-train protocol
  fercore-train protocol --source fer2013=fer2013.zip --target jaffe=JAFFE --model tiny --epochs 20
  fercore-train protocol study.toml --seeds 5 --out five-seeds
  fercore-train protocol --out five-seeds --resume
  fercore-train protocol --print-config > study.toml

without data, faces are drawn; everything that comes out then says so. Ctrl-C loses at most the
current epoch.
"""
FIT_EXAMPLES = """\
examples:
  fercore-train fit fer2013=fer2013.zip --model tiny --out fer
  fercore-train evaluate fer/best.safetensors ckplus=ck48.zip
"""
EVALUATE_EXAMPLES = """\
example:
  fercore-train evaluate fercore-run/runs/BL/best.safetensors jaffe=JAFFE

the split is drawn as in training: give the --splits and --seed that the network was trained with,
or --part all for a dataset that it has never seen.
"""
INSPECT_EXAMPLES = """\
examples:
  fercore-train inspect jaffe=JAFFE --sheet faces.png
  fercore-train inspect kdef=KDEF --crop 0.2,0.3,0.8,0.75 --sheet faces.png
  fercore-train inspect jaffe=JAFFE --folds 5 --write folds
  fercore-train protocol --source fer2013=fer2013.zip --target jaffe=JAFFE --splits folds/fold-1

every image is tested in one fold, and nobody is in two parts of one. A dataset without a manifest
in the folder given to --splits, such as the source here, is split as ever.
"""
PREDICT_EXAMPLES = """\
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
EXPORT_EXAMPLES = """\
examples:
  fercore-train export fer/best.safetensors fer.onnx
  fercore-train export fer/best.safetensors fer-pytorch.safetensors

ONNX (pip install 'fercore[onnx]'): input pixels, uint8 [batch, 1, 48, 48], gray faces, which are
normalised inside; outputs logits and probabilities, float32 [batch, 7]. The metadata name the
classes.

PyTorch: a state dict of modules named like the layers here, but conv1_1.norm is norm1_1 and its
running_variance running_var. Convolutions are [out, in, kh, kw], and fc1 reads the feature map
flattened with channels first. The input is (pixel / 255 - 0.5) / 0.25.
"""
IMPORT_EXAMPLES = """\
examples:
  fercore-train import fer-pytorch.safetensors fer.safetensors
  fercore-train import mine.pt mine.safetensors --std 0.5 \\
      --classes angry,disgust,fear,happy,neutral,sad,surprise

the checkpoint is the state dict of a network of ours (names and layout: see export --help) in a
safetensors file, or as torch.save wrote it, which takes PyTorch to read. Which network it is shows
in its shapes. PyTorch's ImageFolder sorts classes by name, as in the example.
"""
REPORT_EXAMPLES = """\
examples:
  fercore-train report fercore-run
  fercore-train report fercore-run --watch
  fercore-train report fercore-run --format latex > table.tex

the page is report.html in the run directory: one file that loads nothing. It can be made while the
study runs, and shows what is known by then.
"""


PROFILE_EXAMPLES = """\
examples:
  fercore-train profile --plan --batch 1024 --device cuda --limits h200
  fercore-train profile --model tiny --batch 64 --trace step.json
  fercore-train profile --plan --strategy FC --batch 1024 --without-fusion relu_pool

images are made up, and --plan needs neither the device nor the step's memory. A floor is the time
of a call's operations, or of its bytes, at the rates of a large product and a large copy.
"""


class Parser(argparse.ArgumentParser):
    """Reports a mistake as one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        from fercore.errors import did_you_mean

        choice = re.search(
            r"(?:argument (\S+): )?invalid choice: '(.*)' \(choose from (.*)\)", message
        )
        if choice:
            names = re.findall(r"[\w-]+", choice[3])
            message = f"there is no {choice[1] or 'choice'} {choice[2]!r}; "
            message += did_you_mean(choice[2], names)
        raise FercoreError(f"{message} (see {self.prog} --help)")


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


def _jobs(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 9999")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,7}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 9999999")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, such as 2.5")
    return float(text)


def _folds(text: str) -> str:
    if text != "subjects" and not re.fullmatch(r"\d{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'subjects'")
    return text


def _picture(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return text


def _positive(text: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return float(text)


def build_parser() -> Parser:
    """The parser of every subcommand; the parsed value's ``command`` is its name."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="fercore-train", description=TOP, epilog=TOP_EXAMPLES, formatter_class=layout
    )
    parser.add_argument("--version", action="version", version=f"fercore {fercore.__version__}")
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    def command(name: str, text: str, epilog: str = "") -> Parser:
        made: Parser = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=epilog,
            formatter_class=layout,
            parents=[common],
            allow_abbrev=False,
        )
        return made

    _protocol(
        command("protocol", "carry out a study and print the paper's table", PROTOCOL_EXAMPLES)
    )
    _fit(command("fit", "train one network on one dataset", FIT_EXAMPLES))
    _evaluate(command("evaluate", "test a network on a dataset", EVALUATE_EXAMPLES))
    _predict(command("predict", "class probabilities for the faces in images", PREDICT_EXAMPLES))
    _export(command("export", "write a network for ONNX runtimes or PyTorch", EXPORT_EXAMPLES))
    _import(command("import", "read a network that PyTorch trained", IMPORT_EXAMPLES))
    _inspect(
        command(
            "inspect", "what is in a dataset: counts, faults, duplicates, folds", INSPECT_EXAMPLES
        )
    )
    _synth(command("synth", "draw synthetic faces in the formats of the real datasets"))
    _report(
        command("report", "make the page of a run directory, and print its table", REPORT_EXAMPLES)
    )
    _profile(command("profile", "list or measure one training step", PROFILE_EXAMPLES))
    command("devices", "the backends, and whether they can run here")
    return parser


def _protocol(parser: Parser) -> None:
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
        "--finetune-epochs", type=int, metavar="N", help="epochs of runs that start from another"
    )
    _add_training(parser, "fercore-run")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=_jobs,
        help="runs to carry out side by side (by default as many as suit the device)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the runs and their time only")
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings as TOML and do nothing"
    )


def _fit(parser: Parser) -> None:
    parser.add_argument("source", metavar="NAME=PATH", help="the dataset to train on")
    _add_training(parser, "fercore-model")


def _add_training(parser: Parser, out: str) -> None:
    training = parser.add_argument_group("training")
    training.add_argument("--model", help="svgg10 (default), svgg5, tiny; each also with -bn")
    training.add_argument("--epochs", type=int, metavar="N", help="epochs from random weights")
    training.add_argument(
        "--set",
        dest="settings",
        action="append",
        metavar="KEY=VALUE",
        help="any other setting, such as recipe.learning_rate=0.01",
    )
    training.add_argument(
        "--splits", metavar="RULE", help="paper (default), strict, or a folder of manifests"
    )
    training.add_argument("--seed", type=_seed, metavar="N", help="of everything random (0)")
    training.add_argument("--device", help="auto (default), or one that 'devices' lists")
    training.add_argument("--precision", help="fp32 (default); on a GPU also tf32, bf16x3, bf16")
    folder = parser.add_argument_group("run directory")
    folder.add_argument("--out", metavar="DIR", help=f"where to write ({out})")
    folder.add_argument(
        "--tensorboard", action="store_true", help="write event files into DIR/tensorboard too"
    )
    folder.add_argument("--resume", action="store_true", help="continue what is in --out")
    folder.add_argument(
        "--accept-changes",
        action="store_true",
        help="continue although settings, images or the machine have changed",
    )


def _add_dataset(parser: Parser) -> None:
    """A dataset by itself, read as a study's file could say."""
    parser.add_argument("dataset", metavar="NAME=PATH", help=DATASET_HELP)
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


def _evaluate(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL.safetensors", help="a best.safetensors")
    _add_dataset(parser)
    parser.add_argument(
        "--part", choices=("train", "validation", "test", "all"), default="test", help="(test)"
    )
    parser.add_argument("--splits", default="paper", metavar="RULE", help="(paper)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the split (0)")
    parser.add_argument("--device", default="auto", help="(auto)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _predict(parser: Parser) -> None:
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
    parser.add_argument("--device", default="auto", help="(auto)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _export(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL.safetensors", help="a best.safetensors")
    parser.add_argument("out", metavar="OUT", help=".onnx, or .safetensors for PyTorch")


def _import(parser: Parser) -> None:
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


def _inspect(parser: Parser) -> None:
    _add_dataset(parser)
    parser.add_argument("--splits", default="paper", metavar="RULE", help="(paper)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the split (0)")
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


def _synth(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="where to write")
    parser.add_argument("--only", metavar="FORMAT", help="one dataset, as DIR itself")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="(0)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many images (1)")


def _report(parser: Parser) -> None:
    parser.add_argument("folder", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "latex", "csv"),
        help="print the table alone, and make no page",
    )
    parser.add_argument(
        "--watch", action="store_true", help="make the page again whenever the study changes"
    )
    parser.add_argument(
        "--faces",
        action="store_true",
        help="show test images; most licences let nobody pass on these",
    )


def _profile(parser: Parser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG.toml", help="a study's settings")
    parser.add_argument("--plan", action="store_true", help="list the step; nothing is run")
    step = parser.add_argument_group("which step")
    step.add_argument("--model", help="svgg10 (default), svgg5, tiny; each also with -bn")
    step.add_argument("--strategy", default="BL", metavar="NAME", help="what may move (BL)")
    step.add_argument("--batch", type=_count, metavar="N", help="images (the recipe's: 64)")
    step.add_argument(
        "--images", type=_count, default=28709, metavar="N", help="in the training set (28709)"
    )
    step.add_argument(
        "--set",
        dest="settings",
        action="append",
        metavar="KEY=VALUE",
        help="any other setting of the recipe, such as recipe.optimizer=adam",
    )
    step.add_argument(
        "--without-fusion", metavar="NAME,...", help="make epilogues calls: relu, relu_pool"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--device", help="auto (default), or one that 'devices' lists")
    where.add_argument("--precision", help="fp32 (default); on a GPU also tf32 and bf16x3")
    where.add_argument(
        "--limits", metavar="NAME", help="rates for floors: machine, or h200, h100, a100, t4"
    )
    where.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="S", help="to measure, at least (10)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument(
        "--trace", metavar="FILE.json", help="write a step for ui.perfetto.dev to show"
    )


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
    from fercore.errors import did_you_mean

    commands = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    known = re.findall(r"--[\w-]+", commands.choices[command].format_usage())
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
        from fercore import commands

        commands.run(options)
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
