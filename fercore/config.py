"""A study as one validated value: read from TOML and flags.

``read_study`` merges three layers, later ones winning: defaults, a config file, flags. The result
is frozen and can be written back (``config_text``) without loss.
"""

from __future__ import annotations

import math
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fercore.config_checks import check, check_dataset
from fercore.config_merge import merge
from fercore.data import parse_spec
from fercore.data.dataset import class_count
from fercore.data.splits import RULES
from fercore.errors import FercoreError
from fercore.freeze import STRATEGIES, Strategy
from fercore.validation import decode

Table = Mapping[str, Any]

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1)]
Percent = Annotated[int, Meta(ge=1, le=100)]
LARGEST = sys.float_info.max  # keeps infinity out
Size = Annotated[float, Meta(ge=0.0, le=LARGEST)]
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a network is trained: optimizer, schedule, loss and augmentation.

    The paper publishes none of them: the defaults are our own. ``config_text`` shows the lines
    below as comments.

    Attributes:
        epochs: passes over the training images
        min_steps: runs on a target alone train for more epochs, until this many updates
        batch_size: images in one update
        optimizer: sgd, adam or adamw
        learning_rate: after the warm-up
        momentum: of sgd
        nesterov: Nesterov's momentum, for sgd
        weight_decay: L2 penalty on the weights; decoupled in adamw
        schedule: constant, step, cosine (down to 0) or plateau (of the validation accuracy)
        warmup_epochs: the rate rises linearly from 0 this long
        step_every: epochs between two drops of step
        step_factor: step and plateau multiply the rate by it
        plateau_patience: epochs without gain that plateau waits
        clip_norm: largest norm of all gradients together; 0: not clipped
        label_smoothing: share of the target spread over all classes
        class_weights: none, or balanced (rare classes count for more)
        dropout: share of the hidden fully connected layers' outputs that is dropped
        early_stopping: stop after this many epochs without a better validation accuracy; 0: never
        sampling: for fused sets: union, or balanced (the smaller one is repeated)
        flip: probability of a mirror image
        shift: largest shift, pixels of 48
        rotation: largest rotation, degrees
        scale: largest zoom in or out, as a share
        cutout: side of a square set to gray, pixels of 48; 0: none
        views: different views of an image, which then come again, so that frozen layers need to
            see each but once; 0: a new one every epoch
    """

    epochs: Positive = 60
    min_steps: Count = 600
    batch_size: Positive = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Annotated[float, Meta(gt=0.0, le=LARGEST)] = 0.02
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: Size = 5e-4
    schedule: Literal["constant", "step", "cosine", "plateau"] = "cosine"
    warmup_epochs: Count = 1
    step_every: Positive = 20
    step_factor: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    plateau_patience: Positive = 5
    clip_norm: Size = 0.0
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    dropout: Share = 0.5
    early_stopping: Count = 0
    sampling: Literal["union", "balanced"] = "union"
    flip: Probability = 0.5
    shift: Annotated[float, Meta(ge=0.0, le=24.0)] = 3.0
    rotation: Annotated[float, Meta(ge=0.0, le=180.0)] = 10.0
    scale: Share = 0.1
    cutout: Annotated[int, Meta(ge=0, le=48)] = 0
    views: Count = 0

    def distinct_views(self) -> int:
        """How many views of an image there are: one if nothing varies; 0: no end of them."""
        varies = self.flip or self.shift or self.rotation or self.scale or self.cutout
        return self.views if varies else 1

    def steps_per_epoch(self, images: int) -> int:
        """Updates in one pass over ``images`` training images; the last batch may be smaller."""
        return math.ceil(images / self.batch_size)

    def for_images(self, images: int) -> Recipe:
        """The same recipe with ``epochs`` raised until ``images`` give ``min_steps`` updates."""
        needed = math.ceil(self.min_steps / self.steps_per_epoch(images))
        return msgspec.structs.replace(self, epochs=max(self.epochs, needed))


FINETUNE: Table = {
    "epochs": 30,
    "min_steps": 300,
    "learning_rate": 0.002,
    "warmup_epochs": 0,
    "views": 8,
}
"""What fine-tuning (a run that starts from another one) changes in the study's recipe."""

SYNTHETIC: Table = {
    "epochs": 10,
    "min_steps": 800,
    "batch_size": 16,
    "learning_rate": 0.01,
    "dropout": 0.1,
    "shift": 2.0,
    "rotation": 5.0,
    "scale": 0.05,
}
"""What studies on drawn faces change: those are easy, and the job must end in minutes."""

SYNTHETIC_FINETUNE: Table = {"epochs": 8, "min_steps": 150, "views": 4}


class StudyDataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a dataset of a study lies and how it is read.

    Attributes:
        name: how tables and run ids call it
        format: what its files look like
        path: folder, csv or zip file
        crop: left, top, right, bottom as fractions of the image; without it, the format's own
        options: further settings of the format's loader
    """

    name: Text
    format: str
    path: Text
    crop: tuple[float, float, float, float] | None = None
    options: Mapping[str, Any] = {}


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides a study's results, and where they are written.

    Attributes:
        source: the dataset whose memory is tested; without it, faces are drawn
        targets: the datasets to adapt to; each may have a crop and options, too
        strategies: the columns of the table
        amounts: percent of a target's training images
        contempt: whether it is an eighth class; few sets have images of it
        splits: paper, strict, or a folder of manifests <dataset>.csv
        model: svgg10, svgg5 or tiny, each also with -bn
        baseline: a finished network (.safetensors) to be BL; without it, BL is trained
        device: auto, or one that "fercore-train devices" lists
        precision: of products: fp32; on a GPU also tf32, bf16x3, and bf16 for activations, too
        seed: of splits, first weights, order, dropout and augmentation
        seeds: repetitions, with seed, seed + 1 and so on
        out: the run directory
        recipe: training from random weights
        finetune: training from another run's weights
        strategy: strategies of your own, and recipes for the built-in ones
    """

    source: StudyDataset | None = None
    targets: tuple[StudyDataset, ...] = ()
    strategies: Annotated[tuple[str, ...], Meta(min_length=1)] = tuple(STRATEGIES)
    amounts: Annotated[tuple[Percent, ...], Meta(min_length=1)] = (50, 100)
    contempt: bool = False
    splits: Text = "paper"
    model: str = "svgg10"
    baseline: Text | None = None
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16x3", "bf16"] = "fp32"
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    seeds: Annotated[int, Meta(ge=1, le=1000)] = 1
    out: Text = "fercore-run"
    recipe: Recipe = Recipe()
    finetune: Recipe = msgspec.structs.replace(Recipe(), **FINETUNE)
    strategy: tuple[Strategy, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether the study draws its own faces, because it was given no data."""
        return self.source is None

    @property
    def classes(self) -> int:
        """How many of ``CLASSES`` its datasets and networks know."""
        return class_count(self.contempt)

    def strategy_named(self, name: str) -> Strategy:
        """The user's or the built-in strategy of that name."""
        return self.known_strategies()[name]

    def known_strategies(self) -> dict[str, Strategy]:
        """Every strategy by name: the built-in ones, and the user's over them."""
        return {**STRATEGIES, **{strategy.name: strategy for strategy in self.strategy}}

    def recipe_of(self, strategy: Strategy, where: str = "study") -> Recipe:
        """The strategy's own settings over those of its kind (from scratch, or fine-tuning)."""
        base = self.recipe if strategy.starts_from == "random" else self.finetune
        return with_settings(base, strategy.recipe, f"{where} [[strategy]] {strategy.name} recipe")


def with_settings(recipe: Recipe, settings: Table, where: str) -> Recipe:
    """``recipe`` with some settings replaced; FercoreError for a wrong one."""
    return decode({**msgspec.structs.asdict(recipe), **settings}, Recipe, where)


# -- reading ----------------------------------------------------------------------------------


def read_study(config: Path | None = None, flags: Table | None = None) -> Study:
    """The study of a config file (if any) with ``flags`` over it.

    Args:
        config: a TOML file; relative data paths in it start at its folder.
        flags: settings as in the file, for those given on the command line. Tables (``recipe``,
            ``finetune``, ``source`` without a name, and ``targets`` as a table by name) change
            single settings of the file's.

    Raises:
        FercoreError: the file cannot be read, or a setting is unknown, of a wrong type, out of
            range, or contradicts another.
    """
    where = str(config) if config else "command line"
    table = _read_toml(config) if config else {}
    _check_shapes(table, where)
    _check_shapes(flags or {}, "command line", targets=(list, dict))
    if config:
        table = _absolute(table, config.parent.resolve(), where)
    return study_from(merge(table, flags or {}), where)


def study_from(table: Table, where: str = "study") -> Study:
    """A checked Study from plain values; what is missing takes its default."""
    table = _absolute(table, Path.cwd(), where)
    synthetic = not table.get("source") and not table.get("targets")
    if "source" in table:
        table["source"] = _dataset(table["source"], f"{where} [source]")
    table["targets"] = [
        _dataset(target, f"{where} [[targets]]") for target in table.get("targets", ())
    ]
    table["strategy"] = own = [
        _strategy(entry, f"{where} [[strategy]]") for entry in table.get("strategy", ())
    ]
    table.setdefault("strategies", list(dict.fromkeys([*STRATEGIES, *(s.name for s in own)])))
    table.setdefault("model", "tiny-bn" if synthetic else "svgg10")
    table["recipe"], table["finetune"] = _recipes(table, synthetic, where)
    for name in table.keys() & set(Recipe.__struct_fields__):
        raise FercoreError(f"{where}: {name} belongs to a recipe; write it below [recipe]")
    study = decode(table, Study, where)
    check(study, where)
    return study


def _recipes(table: Table, synthetic: bool, where: str) -> tuple[Recipe, Recipe]:
    """The recipe, and the one of fine-tuning, which inherits what it does not set itself."""
    first, then = (SYNTHETIC, {**FINETUNE, **SYNTHETIC_FINETUNE}) if synthetic else ({}, FINETUNE)
    own = {name: table.get(name, {}) for name in ("recipe", "finetune")}
    for name, settings in own.items():
        _check_place(settings, Recipe, f"{where} [{name}]")
    recipe = with_settings(Recipe(), {**first, **own["recipe"]}, f"{where} [recipe]")
    finetune = with_settings(recipe, {**then, **own["finetune"]}, f"{where} [finetune]")
    return recipe, finetune


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        mend = "; put text with a backslash in single quotes" if "\\" in str(error) else ""
        raise FercoreError(f"{path}: is not valid TOML ({error}){mend}") from None


def _check_shapes(table: Table, where: str, targets: type | tuple[type, ...] = list) -> None:
    """Refuse what has the wrong shape altogether, before its parts are looked at."""
    for name, shape, word in (
        ("recipe", dict, "a table"),
        ("finetune", dict, "a table"),
        ("targets", targets, "a list, or tables that are each headed [[targets]]"),
        ("strategy", list, "a list of tables, each headed [[strategy]]"),
    ):
        if name in table and not isinstance(table[name], shape):
            raise FercoreError(f"{where} [{name}]: expected {word}")
    names = table.get("strategies")
    if isinstance(names, list) and any(isinstance(name, dict) for name in names):
        raise FercoreError(
            f"{where} [[strategies]]: that is the list of names; head a strategy's own table "
            "[[strategy]]"
        )


def _absolute(table: Table, folder: Path, where: str) -> dict[str, Any]:
    """The settings with paths as seen from anywhere; relative ones start at ``folder``."""
    table = dict(table)
    if "source" in table:
        table["source"] = _placed(table["source"], folder, f"{where} [source]")
    if "targets" in table:
        table["targets"] = [
            _placed(target, folder, f"{where} [[targets]]") for target in table["targets"]
        ]
    if isinstance(table.get("splits"), str) and table["splits"] not in ("", *RULES):
        table["splits"] = _path(table["splits"], folder)
    if isinstance(table.get("baseline"), str):
        table["baseline"] = _path(table["baseline"], folder)
    if isinstance(table.get("out"), str):
        table["out"] = os.path.expanduser(table["out"])
    return table


def _placed(entry: Any, folder: Path, where: str) -> Any:
    """A dataset's table, its path absolute; the shorthand NAME=PATH becomes one."""
    if isinstance(entry, str):
        try:
            entry = from_shorthand(entry)
        except FercoreError as error:
            raise FercoreError(f"{where}: {error}") from None
    if isinstance(entry, dict) and isinstance(entry.get("path"), str) and entry["path"]:
        return {**entry, "path": _path(entry["path"], folder)}
    return entry


def from_shorthand(text: str) -> dict[str, Any]:
    """The table that ``NAME=PATH`` or ``NAME=FORMAT:PATH`` stands for."""
    spec = parse_spec(text)
    return {"name": spec.name, "format": spec.format, "path": str(spec.path)}


def _path(text: str, folder: Path) -> str:
    return str(folder / os.path.expanduser(text))  # Path.expanduser raises for an unknown user


def _dataset(entry: Any, where: str) -> StudyDataset:
    if not isinstance(entry, dict):
        raise FercoreError(f'{where}: expected "NAME=PATH" or a table with name and path')
    _check_place(entry, StudyDataset, where)
    if "format" not in entry and "name" in entry:
        entry = {**entry, "format": entry["name"]}
    spec = decode(entry, StudyDataset, where)
    check_dataset(spec, where)
    return spec


def _strategy(entry: Any, where: str) -> Strategy:
    """A strategy of the user's own, or a built-in one with a recipe for it."""
    name = entry.get("name") if isinstance(entry, dict) else None
    built_in = STRATEGIES.get(name) if isinstance(name, str) else None
    if built_in:
        entry = {**msgspec.to_builtins(built_in), **entry}
    if isinstance(entry, dict):
        _check_place(entry, Strategy, where)
    strategy = decode(entry, Strategy, where)
    if built_in and msgspec.structs.replace(strategy, recipe={}) != built_in:
        raise FercoreError(
            f"{where}: {name} is built in, and only its recipe can be changed; give a strategy of "
            "your own another name"
        )
    return strategy


def _check_place(table: Table, kind: type[msgspec.Struct], where: str) -> None:
    """Refuse settings of the study in another table, below whose header they were written."""
    for key in table:
        if key in kind.__struct_fields__:
            continue
        if key in Study.__struct_fields__:
            raise FercoreError(
                f"{where}: {key} belongs to the study; write it above the file's first [table]"
            )
        if kind is Recipe and key in STRATEGIES:
            raise FercoreError(
                f"{where}: a recipe for one strategy stands in its table: write [[strategy]], "
                f'name = "{key}" and recipe = {{ ... }}'
            )
