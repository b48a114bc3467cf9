"""Face datasets: one file a format, all read into the same Dataset.

A format is a module with

* ``EXPECTS``: what its files look like, for error messages,
* ``CROP``: the part of an image that matches FER2013's framing,
* ``recognise(tree) -> int``: how many files look like the format's, from names (and the header of
  a csv file) alone,
* ``load(tree, crop, classes, **options) -> Dataset``, with images of the first so many of CLASSES.

A new one is a file here and a line in FORMATS.
"""

from __future__ import annotations

import difflib
import importlib
import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, get_type_hints

from fercore.errors import FercoreError

if TYPE_CHECKING:  # the command line reads this module at start-up, before it needs NumPy
    from fercore.data.dataset import Dataset
    from fercore.data.images import Crop
    from fercore.data.tree import Tree

FORMATS = {
    "fer2013": "fercore.data.fer2013",
    "ferplus": "fercore.data.ferplus",
    "jaffe": "fercore.data.jaffe",
    "tfeid": "fercore.data.tfeid",
    "mug": "fercore.data.mug",
    "ckplus": "fercore.data.ckplus",
    "kdef": "fercore.data.kdef",
    "rafdb": "fercore.data.rafdb",
    "affectnet": "fercore.data.affectnet",
    "rafd": "fercore.data.rafd",
    "folder": "fercore.data.folder",
}


@dataclass(frozen=True)
class DatasetSpec:
    """Which dataset: the name it goes by, the format it has, the path it lies at."""

    name: str
    format: str
    path: Path


class _Format(Protocol):
    EXPECTS: str
    CROP: Crop

    def recognise(self, tree: Tree) -> int: ...

    def load(self, tree: Tree, crop: Crop, classes: int, **options: object) -> Dataset: ...


def parse_spec(text: str) -> DatasetSpec:
    """Read ``NAME=PATH``, where NAME is a format, or ``NAME=FORMAT:PATH``.

    What stands before a colon is a format only when it is the name of one, so ``jaffe=C:\\faces``
    is a path. Raises FercoreError for anything else.
    """
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise FercoreError(
            f"'{text}': write a dataset as NAME=PATH or NAME=FORMAT:PATH, such as jaffe=JAFFE or "
            "mine=folder:my-faces"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
        raise FercoreError(
            f"'{name}': a dataset's name becomes a file's name; use letters, digits and _.+- alone"
        )
    prefix, colon, rest = place.partition(":")
    if colon and prefix in FORMATS:
        if not rest:
            raise FercoreError(f"'{text}': a path must follow the colon")
        return DatasetSpec(name, prefix, _path(rest))
    if name in FORMATS:
        return DatasetSpec(name, name, _path(place))
    wrong = prefix if colon and re.fullmatch(r"\w{2,}", prefix) else name
    close = difflib.get_close_matches(wrong.lower(), FORMATS, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise FercoreError(
        f"'{wrong}' is not a dataset format; {hint}the formats are {', '.join(FORMATS)}; "
        "for another name write NAME=FORMAT:PATH, such as mine=folder:my-faces"
    )


def load(
    spec: DatasetSpec,
    crop: Crop | None = None,
    options: Mapping[str, object] = {},
    *,
    contempt: bool = False,
    cache: bool = True,
) -> Dataset:
    """Read a dataset from a folder, a zip file or a csv file.

    ``crop`` replaces the format's own (``fercore.data.images.WHOLE`` for none); ``options`` are the
    format's further parameters, such as ``total`` of mug, ``angles`` of kdef and ``subject`` of
    folder. Images of contempt are read if they are asked for, else left out. With ``cache`` the
    decoded images are kept on disk for the next time.

    Raises FercoreError when the path is missing or empty, has no image of the format or none that
    can be read, shows fewer than two classes, or the format does not know an option. Single files
    that cannot be read are listed in ``Dataset.skipped``.
    """
    from fercore.data.cache import cached
    from fercore.data.dataset import class_count
    from fercore.data.tree import open_tree

    format = _module(spec.format)
    crop = crop or format.CROP
    classes = class_count(contempt)
    options = check_options(spec.format, options, f"{spec.name} [options]")
    with open_tree(spec.path) as tree:

        def build() -> Dataset:
            if not format.recognise(tree):
                raise FercoreError(_nothing_found(spec, format, tree))
            return format.load(tree, crop, classes, **options)

        asked = tree, spec.format, crop, classes, options
        dataset = cached(*asked, build) if cache else build()
        # Neither is a matter of the files' content, so neither is cached.
        return replace(dataset, name=spec.name, synthetic=tree.synthetic)


def check_options(format: str, options: Mapping[str, object], where: str) -> dict[str, object]:
    """The options in the types that the format's loader declares; FercoreError for a wrong one."""
    import inspect

    import msgspec

    from fercore.validation import decode

    loader = _module(format).load
    kinds = get_type_hints(loader)
    _tree, _crop, _classes, *parameters = inspect.signature(loader).parameters.values()
    fields = [(known.name, kinds[known.name], known.default) for known in parameters]
    kind = msgspec.defstruct("Options", fields)
    return msgspec.structs.asdict(decode(options, kind, where))


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # Path.expanduser raises where a user is unknown


def _module(format: str) -> _Format:
    return cast(_Format, importlib.import_module(FORMATS[format]))


def _nothing_found(spec: DatasetSpec, format: _Format, tree: Tree) -> str:
    found = {other: _module(other).recognise(tree) for other in FORMATS if other != spec.format}
    # Class folders hold several formats, so the general one is only named when nothing else fits.
    likely = max(found, key=lambda other: (found[other] > 0, other != "folder", found[other]))
    zips = [name for name in tree.names if name.lower().endswith(".zip")]
    if found[likely]:
        mend = f"; did you mean the format '{likely}'?"
    elif zips and spec.path.is_dir():
        mend = f"; give the zip file itself: {spec.path / zips[0]}"
    elif zips:
        mend = f"; it holds the zip file {zips[0]}: unpack it and give that"
    else:
        mend = ""
    return f"{spec.path}: no {spec.format} images; expected {format.EXPECTS}{mend}"
