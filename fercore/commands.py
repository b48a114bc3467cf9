"""What the subcommands of ``fercore-train`` do, given the parsed arguments."""

from __future__ import annotations

import shutil
import sys
import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

from fercore.config import Study, read_study
from fercore.errors import FercoreError


def run(options: Namespace) -> None:
    """Carry out the chosen subcommand."""
    _COMMANDS[options.command](options)


def _protocol(options: Namespace) -> None:
    from fercore import protocol, report
    from fercore.config_text import commented_toml
    from fercore.progress import open_listener
    from fercore.run_directory import RunDirectory

    study = _study(options, "fercore-run")
    if study.source is not None and not study.targets:
        raise FercoreError("there is no target; add --target NAME=PATH, or use fercore-train fit")
    if options.print_config:
        sys.stdout.write(commented_toml(study))
        return
    if options.dry_run:
        from fercore.estimate import dry_run

        sys.stdout.write(dry_run(study))
        return
    directory = RunDirectory(Path(study.out))
    with open_listener() as listener:
        records = protocol.execute(
            study,
            directory,
            resume=options.resume,
            accept_changes=options.accept_changes,
            listener=listener,
        )
    report.write(directory, records)
    sys.stdout.write(report.to_text(report.make_table(records), _width()))
    print(f"\n{directory.path}: table.md, results.csv, and every network under runs/")


def _fit(options: Namespace) -> None:
    from fercore import protocol
    from fercore.predict import score_as_text
    from fercore.progress import open_listener
    from fercore.results import source_score
    from fercore.run_directory import RunDirectory

    study = _study(options, "fercore-model", targets=[], strategies=["BL"], seeds=1)
    directory = RunDirectory(Path(study.out), single=True)
    with open_listener() as listener:
        (record,) = protocol.execute(
            study,
            directory,
            resume=options.resume,
            accept_changes=options.accept_changes,
            listener=listener,
        )
    sys.stdout.write(score_as_text(source_score(record), f"{record.source}, test"))
    print(f"\n{directory.path / 'best.safetensors'}: the network of epoch {record.best_epoch}")


def _evaluate(options: Namespace) -> None:
    import msgspec
    import numpy as np

    from fercore import backends, checkpoint, predict

    backend = backends.get(options.device)
    model = checkpoint.load_model(Path(options.model), backend)
    dataset = _load(options)
    if options.part == "all":
        rows = np.arange(len(dataset))
    else:
        rows = _split(dataset, options).rows()[options.part]
    score = predict.evaluate(model, dataset, rows, backend=backend)
    if options.json:
        sys.stdout.write(msgspec.json.encode(score).decode() + "\n")
    else:
        faces = "SYNTHETIC faces" if dataset.synthetic else "images"
        title = f"{dataset.name}, {faces}, part {options.part}"
        sys.stdout.write(predict.score_as_text(score, title))


def _predict(options: Namespace) -> None:
    from fercore import backends, checkpoint, predict
    from fercore.data.images import WHOLE

    backend = backends.get(options.device)
    model = checkpoint.load_model(Path(options.model), backend)
    crop = WHOLE if options.crop is None else _crop(options.crop)
    paths = [Path(file) for file in options.files]
    predictions, skipped = predict.predict_files(model, paths, backend=backend, crop=crop)
    if options.json:
        sys.stdout.write(predict.predictions_as_json(predictions, skipped))
        return
    sys.stdout.write(predict.predictions_as_text(predictions))
    if crop == WHOLE:
        print("\nProbabilities in %, for whole images; --crop names the part that shows the face.")
    for entry in skipped:
        print(f"not read: {entry.file}: {entry.reason}", file=sys.stderr)


def _inspect(options: Namespace) -> None:
    import numpy as np

    from fercore.data import inspect, manifest, splits
    from fercore.data.parts import Parts

    dataset = _load(options)
    if options.folds:
        _folds(dataset, options)
        return
    try:
        parts = _split(dataset, options)
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


def _folds(dataset: Any, options: Namespace) -> None:
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


def _synth(options: Namespace) -> None:
    from fercore.data import synthetic
    from fercore.progress import open_listener

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


def _report(options: Namespace) -> None:
    from fercore import report
    from fercore.run_directory import RunDirectory

    table = report.read(RunDirectory(Path(options.folder)))
    renderers = {
        "text": lambda: report.to_text(table, _width()),
        "markdown": lambda: report.to_markdown(table),
        "latex": lambda: report.to_latex(table),
        "csv": lambda: report.to_csv(table),
    }
    sys.stdout.write(renderers[options.format]())


def _profile(options: Namespace) -> None:
    from fercore import profile_command

    flags: dict[str, Any] = {}
    for setting in options.settings or ():
        _set(flags, setting)
    if unknown := flags.keys() - {"recipe"}:
        raise FercoreError(
            f"profile has no setting {min(unknown)}; it takes --set recipe.KEY=VALUE"
        )
    profile_command.run(options, flags.get("recipe", {}))


def _devices(options: Namespace) -> None:
    from fercore import backends

    for name in backends.NAMES:
        print(backends.describe(name))


_COMMANDS = {
    "protocol": _protocol,
    "fit": _fit,
    "evaluate": _evaluate,
    "predict": _predict,
    "inspect": _inspect,
    "synth": _synth,
    "report": _report,
    "profile": _profile,
    "devices": _devices,
}


# -- from arguments to values -----------------------------------------------------------------


def _study(options: Namespace, default_out: str, **fixed: Any) -> Study:
    """The study of the flags, over the config file, or else over what is resumed."""
    flags = _flags(options)
    if given := fixed.keys() & flags.keys():
        raise FercoreError(
            f"{options.command} has no setting {', '.join(sorted(given))}; remove it"
        )
    flags |= fixed
    config = getattr(options, "config", None)
    if config is None:
        flags.setdefault("out", default_out)
        resumed = Path(flags["out"]) / "config.toml"
        config = resumed if options.resume and resumed.exists() else None
    return read_study(config and Path(config), flags)


def _flags(options: Namespace) -> dict[str, Any]:
    """Settings, as in a config file, for the flags that were given."""
    flags: dict[str, Any] = {}
    for setting in options.settings or ():
        _set(flags, setting)
    for name in ("source", "targets", "splits", "model", "seed", "seeds", "device", "precision"):
        if getattr(options, name, None) is not None:
            flags[name] = getattr(options, name)
    if options.out is not None:
        flags["out"] = options.out
    for name in ("strategies", "amounts"):
        if (text := getattr(options, name, None)) is not None:
            flags[name] = _list(text, f"--{name}", int if name == "amounts" else str)
    if options.epochs is not None:
        flags.setdefault("recipe", {})["epochs"] = options.epochs
    if getattr(options, "finetune_epochs", None) is not None:
        flags.setdefault("finetune", {})["epochs"] = options.finetune_epochs
    return flags


def _set(flags: dict[str, Any], setting: str) -> None:
    """Put ``recipe.learning_rate=0.01`` where a config file would have it."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise FercoreError(f"--set {setting}: write KEY=VALUE, such as recipe.batch_size=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a word, which TOML would want in quotes
    *tables, name = key.split(".")
    for table in tables:
        flags = flags.setdefault(table, {})
        if not isinstance(flags, dict):
            raise FercoreError(f"--set {setting}: {table} has been given a value already")
    flags[name] = value


def _list(text: str, flag: str, kind: type[int] | type[str]) -> list[Any]:
    try:
        return [kind(entry.strip()) for entry in text.split(",") if entry.strip()]
    except ValueError:
        raise FercoreError(f"{flag} {text}: write whole numbers, with commas between") from None


def _crop(text: str) -> Any:
    from fercore.data.images import Crop

    try:
        return Crop(*(float(number) for number in text.split(",")))
    except (TypeError, ValueError):
        raise FercoreError(
            f"--crop {text}: write left,top,right,bottom as fractions, such as 0.2,0.1,0.8,0.9"
        ) from None


def _load(options: Namespace) -> Any:
    """The dataset named by NAME=PATH."""
    from fercore.data import load, parse_spec

    return load(parse_spec(options.dataset))


def _split(dataset: Any, options: Namespace) -> Any:
    from fercore.data.splits import split

    return split(dataset, options.splits, options.seed)


def _width() -> int:
    return shutil.get_terminal_size((160, 24)).columns
