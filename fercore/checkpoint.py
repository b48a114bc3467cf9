"""Networks and training states as safetensors files: plain numbers, nothing is unpickled.

A *model file* (``best.safetensors``) holds parameters and running statistics by name, in NHWC
layout (``[out, kh, kw, in]``; ``fc1``'s columns in ``h, w, c`` order), and says in its metadata
which network it is. A *state file* (``last.safetensors``) holds the same under ``model.``, the
optimizer's moments under ``optimizer.``, and everything else that training needs to continue in its
metadata, so that one atomic write replaces the whole state.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fercore import models, tensor_file
from fercore.backends.interface import Backend
from fercore.data.dataset import CLASSES
from fercore.errors import FercoreError
from fercore.nn import Model
from fercore.tensor_file import TensorFile


def save_model(path: Path, model: Model, facts: Mapping[str, Any] = {}) -> None:
    """Write a model file; ``facts`` are added to its metadata."""
    tensor_file.write(path, model.state(), {**describe(model), **facts})


def describe(model: Model) -> dict[str, Any]:
    """The metadata by which ``load_model`` builds the same network again."""
    return {"model": model.name, "layout": "NHWC", "classes": list(CLASSES[: model.classes])}


def load_model(path: Path, backend: Backend) -> Model:
    """The network in a model file, on ``backend``.

    Raises FercoreError when the file is damaged, was not written by fercore, or does not hold
    exactly its network's tensors, all finite.
    """
    return build(tensor_file.read(path), backend)


def build(checkpoint: TensorFile, backend: Backend) -> Model:
    """The network that a model file's content describes; raises like ``load_model``."""
    path, facts = checkpoint.path, checkpoint.metadata
    if "training" in facts:
        raise FercoreError(f"{path}: is the state of a training; give best.safetensors, beside it")
    try:
        model = models.build(facts["model"], classes=len(facts["classes"]), backend=backend)
    except (FercoreError, KeyError, TypeError) as error:
        raise FercoreError(f"{path}: does not name a network of this version ({error})") from error
    for key, value in describe(model).items():
        if facts.get(key) != value:
            raise FercoreError(
                f"{path}: its {key} are not those of this version ({facts.get(key)}, not {value})"
            )
    load_weights(model, checkpoint)
    return model


def load_weights(model: Model, checkpoint: TensorFile, prefix: str = "") -> None:
    """Overwrite ``model`` by the checkpoint's tensors under ``prefix``; errors name the file."""
    try:
        model.load_state(checkpoint.part(prefix))
    except FercoreError as error:
        raise FercoreError(f"{checkpoint.path}: {error}") from error
