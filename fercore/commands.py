"""What the subcommands of ``fercore-train`` do, given the parsed arguments."""

from __future__ import annotations

import shutil
import sys
import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

from fercore.config import Study, from_shorthand, read_study
from fercore.data.dataset import CLASSES
from fercore.errors import FercoreError


def run(options: Namespace) -> None:
    """Carry out the chosen subcommand."""
    _COMMANDS[options.command](options)


def _protocol(options: Namespace) -> None:
    from fercore import protocol, report, reporting
    from fercore.config_text import commented_toml
    from fercore.listeners import open_listener
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
    with open_listener(tensorboard=_tensorboard(options, directory)) as listener:
        records = protocol.execute(
            study,
            directory,
            resume=options.resume,
            accept_changes=options.accept_changes,
            jobs=options.jobs,
            listener=listener,
        )
    report.write(directory, records)
    sys.stdout.write(report.to_text(report.make_table(records), _width()))
    reporting.write_page(directory)
    print(f"\n{directory.path}: report.html, table.md, and every network under runs/")


def _fit(options: Namespace) -> None:
    from fercore import protocol
    from fercore.listeners import open_listener
    from fercore.predict import score_as_text
    from fercore.results import source_score
    from fercore.run_directory import RunDirectory

    study = _study(options, "fercore-model", targets=[], strategies=["BL"], seeds=1, baseline=None)
    directory = RunDirectory(Path(study.out), single=True)
    with open_listener(tensorboard=_tensorboard(options, directory)) as listener:
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
    from fercore import backends, checkpoint, drawing, faces, predict
    from fercore.data.images import WHOLE

    backend = backends.get(options.device)
    model = checkpoint.load_model(Path(options.model), backend)
    crop = WHOLE if options.crop is None else _crop(options.crop)
    detector = faces.open_detector() if options.crop is None else None
    paths = [Path(file) for file in options.files]
    predictions, skipped = predict.predict_files(
        model, paths, backend=backend, crop=crop, detector=detector
    )
    drawn = drawing.write(Path(options.draw), paths, predictions) if options.draw else ()
    if options.json:
        sys.stdout.write(predict.predictions_as_json(predictions, skipped))
        return
    sys.stdout.write(predict.predictions_as_text(predictions))
    print(f"\nProbabilities in %. {_shown(predictions, options.crop, detector)}")
    if drawn:
        print(f"{options.draw}: {len(drawn)} picture{'s' * (len(drawn) != 1)} with them drawn on")
    for entry in skipped:
        print(f"not read: {entry.file}: {entry.reason}", file=sys.stderr)


def _shown(predictions: Any, crop: str | None, detector: Any) -> str:
    """What the network was shown, for whoever reads its answers."""
    if crop is not None:
        return f"Of each picture the part {crop} was used."
    if detector is None:
        return (
            "No face was looked for, whole images were used: to find faces, pip install "
            "'fercore[faces]', or name their place with --crop."
        )
    if without := sum(not prediction.found for prediction in predictions):
        return f"Whole images were used where no face was found: {without} of {len(predictions)}."
    return "Boxes are WIDTHxHEIGHT+LEFT+TOP, in pixels of the upright picture."


def _export(options: Namespace) -> None:
    from fercore import backends, checkpoint, export

    network, out = Path(options.model), _new(options.out)
    backend = backends.get("reference", dtype="float32")
    export.save(out, checkpoint.load_model(network, backend))
    how = "pixels in, logits and probabilities out" if out.suffix == ".onnx" else "a state dict"
    print(f"{out}: {how}; classes in the order {', '.join(CLASSES)}")


def _import(options: Namespace) -> None:
    from fercore import backends, checkpoint, pytorch

    out = _new(options.out)
    classes = CLASSES if options.classes is None else _list(options.classes, "--classes", str)
    backend = backends.get("reference", dtype="float32")
    model = pytorch.load_model(Path(options.checkpoint), backend, classes=classes, std=options.std)
    checkpoint.save_model(out, model)
    print(f"{out}: {model.name}, {model.num_parameters():,} parameters")


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


def _report(options: Namespace) -> None:
    from fercore import reporting
    from fercore.page.watch import watch
    from fercore.run_directory import RunDirectory

    directory = RunDirectory(Path(options.folder))
    if options.format is not None:
        if options.watch or options.faces:
            raise FercoreError("--format prints the table alone; leave out --watch and --faces")
        sys.stdout.write(reporting.table(directory, options.format, _width()))
    elif options.watch:
        path = reporting.write_page(directory, faces=options.faces)
        print(f"{path}: made again whenever the study changes; Ctrl-C ends this", flush=True)
        watch(directory, lambda refresh: reporting.write_page(directory, refresh, options.faces))
    else:
        path = reporting.write_page(directory, faces=options.faces)
        if directory.results.exists():
            sys.stdout.write(reporting.table(directory, "text", _width()) + "\n")
        print(f"{path}: all results, as a page")


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
    "export": _export,
    "import": _import,
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


def _tensorboard(options: Namespace, directory: Any) -> Path | None:
    """Where event files go, if they are wanted."""
    return directory.tensorboard if options.tensorboard else None


def _flags(options: Namespace) -> dict[str, Any]:
    """Settings, as in a config file, for the flags that were given."""
    flags: dict[str, Any] = {}
    for setting in options.settings or ():
        _set(flags, setting)
    given = {name: value for name, value in vars(options).items() if value is not None}
    if "source" in given and isinstance(flags.get("source"), dict):
        # What --set says is about the dataset that --source names.
        flags["source"] = {**from_shorthand(given.pop("source")), **flags["source"]}
    for name in ("strategies", "amounts"):
        if name in given:
            kind = int if name == "amounts" else str
            given[name] = _list(given[name], f"--{name}", kind)
    for name, key in _SETTINGS.items():
        if name in given:
            _add(flags, key, given[name])
    return flags


_SETTINGS = {
    **{name: name for name in ("source", "targets", "splits", "model", "baseline")},
    **{name: name for name in ("seed", "seeds")},
    **{name: name for name in ("device", "precision", "out", "strategies", "amounts")},
    "epochs": "recipe.epochs",
    "finetune_epochs": "finetune.epochs",
}
"""Flags by their names in argparse, and the settings that they are."""


def _add(flags: dict[str, Any], key: str, value: object) -> None:
    """Put a flag's value where a config file would have it; --set must not have said it too."""
    *tables, name = key.split(".")
    for table in tables:
        flags = flags.setdefault(table, {})
    if not isinstance(flags, dict) or name in flags:
        raise FercoreError(f"{key} is given by --set and by a flag of its own; remove one of them")
    flags[name] = value


def _set(flags: dict[str, Any], setting: str) -> None:
    """Put ``recipe.learning_rate=0.01`` where a config file would have it."""
    key, value = _key_and_value(setting, "--set", "recipe.batch_size=32")
    *tables, name = key.split(".")
    for table in tables:
        flags = flags.setdefault(table, {})
        if not isinstance(flags, dict):
            raise FercoreError(f"--set {setting}: {table} has been given a value already")
    flags[name] = value


def _key_and_value(text: str, flag: str, example: str) -> tuple[str, Any]:
    """The two sides of ``KEY=VALUE``, the value as TOML reads it."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise FercoreError(f"{flag} {text}: write KEY=VALUE, such as {example}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value  # a word, which TOML would want in quotes


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


def _new(text: str) -> Path:
    """A file to write, which must not be there yet."""
    path = Path(text)
    if path.exists():
        raise FercoreError(f"{path}: is there already; delete it, or choose another name")
    return path


def _load(options: Namespace) -> Any:
    """The dataset named by NAME=PATH."""
    from fercore.data import load, parse_spec

    settings = (_key_and_value(s, "--option", "total=500") for s in options.options or ())
    crop = None if options.crop is None else _crop(options.crop)
    return load(parse_spec(options.dataset), crop, dict(settings))


def _split(dataset: Any, options: Namespace) -> Any:
    from fercore.data.splits import split

    return split(dataset, options.splits, options.seed)


def _width() -> int:
    return shutil.get_terminal_size((160, 24)).columns
