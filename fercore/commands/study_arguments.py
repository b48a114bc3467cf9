"""What trains: the arguments of ``protocol`` and ``fit``, and the study that they describe."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fercore.commands.arguments import add_device, key_and_value, listed, seed
from fercore.errors import FercoreError

if TYPE_CHECKING:
    from fercore.config import Study
    from fercore.run_directory import RunDirectory


def add_training(parser: ArgumentParser, out: str) -> None:
    """How networks are trained, and where they are written: to ``out`` by default."""
    training = parser.add_argument_group("training")
    training.add_argument("--model", help="svgg10 (default), svgg5, tiny; each also with -bn")
    training.add_argument(
        "--contempt",
        action="store_true",
        default=None,
        help="make it an eighth class; few datasets have images of it",
    )
    training.add_argument("--epochs", type=int, metavar="N", help="epochs from random weights")
    training.add_argument(
        "--set",
        dest="settings",
        action="append",
        metavar="KEY=VALUE",
        help="any other setting, such as recipe.learning_rate=0.01 or source.options.total=500",
    )
    training.add_argument(
        "--splits", metavar="RULE", help="paper (default), strict, or a folder of manifests"
    )
    training.add_argument("--seed", type=seed, metavar="N", help="of everything random (0)")
    add_device(training)
    training.add_argument(
        "-v", "--verbose", action="store_true", help="a line an epoch where output is no terminal"
    )
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


def read_study(options: Namespace, default_out: str, **fixed: Any) -> Study:
    """The study of the flags, over the config file, or else over what is resumed.

    ``fixed`` are settings that this subcommand decides, and that no flag may give.
    """
    from fercore.config import read_study

    flags = _settings(options)
    if given := fixed.keys() & flags.keys():
        raise FercoreError(
            f"{options.command} has no setting {', '.join(sorted(given))}; remove it"
        )
    flags |= fixed
    config = getattr(options, "config", None)
    if config is None:
        flags.setdefault("out", default_out)
        resumed = Path(flags["out"]) / "config.toml"
        if options.resume and options.out and "source" not in flags and not resumed.exists():
            raise FercoreError(
                f"{resumed}: is not there to continue from; check --out, or leave out --resume"
            )
        config = resumed if options.resume and resumed.exists() else None
    return read_study(config and Path(config), flags)


def tensorboard(options: Namespace, directory: RunDirectory) -> Path | None:
    """Where event files go, if they are wanted."""
    return directory.tensorboard if options.tensorboard else None


def nested(settings: list[str] | None) -> dict[str, Any]:
    """Each ``recipe.learning_rate=0.01`` where a config file would have it."""
    found: dict[str, Any] = {}
    for setting in settings or ():
        key, value = key_and_value(setting, "--set", "recipe.batch_size=32")
        # A dataset's name may hold dots: in quotes, as in TOML.
        *tables, name = (part.strip('"') for part in re.findall(r'"[^"]*"|[^.]+|^\.+$', key))
        place = found
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise FercoreError(f"--set {setting}: {table} has been given a value already")
        place[name] = value
    return found


def _settings(options: Namespace) -> dict[str, Any]:
    """Settings, as in a config file, for the flags that were given."""
    from fercore.config import from_shorthand
    from fercore.config_merge import change_targets

    found = nested(options.settings)
    given = {name: value for name, value in vars(options).items() if value is not None}
    if "source" in given and isinstance(found.get("source"), dict):
        # What --set says is about the dataset that --source names.
        found["source"] = {**from_shorthand(given.pop("source")), **found["source"]}
    if "targets" in given and isinstance(found.get("targets"), dict):
        given["targets"] = change_targets(
            [from_shorthand(target) for target in given["targets"]], found.pop("targets")
        )
    for name, kind in (("strategies", str), ("amounts", int)):
        if name in given:
            given[name] = listed(given[name], f"--{name}", kind)
    for name, key in _KEYS.items():
        if name in given:
            _add(found, key, given[name])
    return found


_KEYS = {
    **{name: name for name in ("source", "targets", "contempt", "splits", "model", "baseline")},
    **{name: name for name in ("seed", "seeds")},
    **{name: name for name in ("device", "precision", "out", "strategies", "amounts")},
    "epochs": "recipe.epochs",
    "finetune_epochs": "finetune.epochs",
}
"""Flags by their names in argparse, and the settings that they are."""


def _add(settings: dict[str, Any], key: str, value: object) -> None:
    """Put a flag's value where a config file would have it; --set must not have said it too."""
    *tables, name = key.split(".")
    for table in tables:
        settings = settings.setdefault(table, {})
    if not isinstance(settings, dict) or name in settings:
        raise FercoreError(f"{key} is given by --set and by a flag of its own; remove one of them")
    settings[name] = value
