"""Networks and training states as safetensors files: plain numbers, nothing is unpickled.

A *model file* (``best.safetensors``) holds parameters and running statistics by name, in NHWC
layout (``[out, kh, kw, in]``; ``fc1``'s columns in ``h, w, c`` order), and says in its metadata
which network it is. A *state file* (``last.safetensors``) holds the same under ``model.``, the
optimizer's moments under ``optimizer.``, and everything else that training needs to continue in its
metadata, so that one atomic write replaces the whole state.

Metadata is one JSON object under the single key ``fercore``: the library writes several keys in an
arbitrary order, and equal states must be equal bytes. Its ``sha256`` is of everything else in the
file, which has no checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercore import models
from fercore.backends.interface import Backend
from fercore.data.dataset import CLASSES
from fercore.errors import FercoreError
from fercore.files import write_atomically
from fercore.nn import Model


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a safetensors file."""

    path: Path
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]
    digest: str  # SHA-256 of tensors and metadata

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The tensors under ``prefix``, without it."""
        return {
            name.removeprefix(prefix): array
            for name, array in self.tensors.items()
            if name.startswith(prefix)
        }


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically; equal contents give equal bytes.

    Args:
        path: the file to replace.
        tensors: C-contiguous arrays by name.
        metadata: plain values, kept as JSON.
    """
    from safetensors.numpy import save

    facts = {**metadata, "sha256": _digest(tensors, metadata)}
    write_atomically(path, save(dict(tensors), {"fercore": json.dumps(facts, sort_keys=True)}))


def read(path: Path) -> Checkpoint:
    """Read a file of fercore's; FercoreError when it is missing, damaged or another program's."""
    tensors, entries = read_tensors(path)
    metadata = entries.get("fercore")
    if metadata is None:
        raise FercoreError(f"{path}: was not written by fercore (its metadata has no such entry)")
    try:
        facts = dict(json.loads(metadata))
    except (ValueError, TypeError) as error:
        raise FercoreError(f"{path}: is damaged (its metadata: {error})") from error
    written = facts.pop("sha256", None)
    digest = _digest(tensors, facts)
    if written not in (digest, None):
        raise FercoreError(
            f"{path}: is damaged (its checksum does not fit); restore it, or delete it and train "
            "again"
        )
    return Checkpoint(path, tensors, facts, digest)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of any safetensors file; FercoreError says why it cannot be read."""
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise FercoreError(f"{path}: is no file; give a network's best.safetensors")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise FercoreError(
            f"{path}: is damaged or not a safetensors file ({error}); restore it, or make it again"
        ) from error
    except (AttributeError, TypeError) as error:  # NumPy has no bfloat16 and no float8
        raise FercoreError(
            f"{path}: holds numbers that NumPy has no type for ({error}); save it in float32"
        ) from error


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save_model(path: Path, model: Model, facts: Mapping[str, Any] = {}) -> None:
    """Write a model file; ``facts`` are added to its metadata."""
    write(path, model.state(), {**describe(model), **facts})


def describe(model: Model) -> dict[str, Any]:
    """The metadata by which ``load_model`` builds the same network again."""
    return {"model": model.name, "layout": "NHWC", "classes": list(CLASSES[: model.classes])}


def load_model(path: Path, backend: Backend) -> Model:
    """The network in a model file, on ``backend``.

    Raises FercoreError when the file is damaged, was not written by fercore, or does not hold
    exactly its network's tensors, all finite.
    """
    return build(read(path), backend)


def build(checkpoint: Checkpoint, backend: Backend) -> Model:
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


def load_weights(model: Model, checkpoint: Checkpoint, prefix: str = "") -> None:
    """Overwrite ``model`` by the checkpoint's tensors under ``prefix``; errors name the file."""
    try:
        model.load_state(checkpoint.part(prefix))
    except FercoreError as error:
        raise FercoreError(f"{checkpoint.path}: {error}") from error
