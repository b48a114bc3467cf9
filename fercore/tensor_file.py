"""Arrays by name with a few facts about them, as a safetensors file; nothing is unpickled.

The facts are one JSON object under the single metadata key ``fercore``: the library writes several
keys in an arbitrary order, and equal contents must be equal bytes. Its ``sha256`` is of everything
else in the file, which has no checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercore.errors import FercoreError
from fercore.files import write_atomically


@dataclass(frozen=True)
class TensorFile:
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


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """Write a safetensors file atomically; equal contents give equal bytes.

    Args:
        path: the file to replace.
        tensors: C-contiguous arrays by name.
        metadata: plain values, kept as JSON.

    Returns:
        The digest that ``read`` will give.
    """
    from safetensors.numpy import save

    digest = _digest(tensors, metadata)
    facts = {**metadata, "sha256": digest}
    write_atomically(path, save(dict(tensors), {"fercore": json.dumps(facts, sort_keys=True)}))
    return digest


def read(path: Path, remake: str = "train again") -> TensorFile:
    """Read a file of fercore's; FercoreError when it is missing, damaged or another program's.

    ``remake`` is what brings the file back once it was deleted, for the error's sentence.
    """
    tensors, entries = read_tensors(path, remake)
    metadata = entries.get("fercore")
    if metadata is None:
        raise FercoreError(
            f"{path}: was not written by fercore (its metadata has no such entry); what PyTorch "
            "trained is read by fercore-train import"
        )
    try:
        facts = dict(json.loads(metadata))
    except (ValueError, TypeError) as error:
        raise FercoreError(f"{path}: is damaged (its metadata: {error})") from error
    written = facts.pop("sha256", None)
    digest = _digest(tensors, facts)
    if written not in (digest, None):
        raise FercoreError(
            f"{path}: is damaged (its checksum does not fit); restore it, or delete it and {remake}"
        )
    return TensorFile(path, tensors, facts, digest)


def read_tensors(
    path: Path, remake: str = "make it again"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
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
            f"{path}: is damaged or not a safetensors file ({error}); restore it, or delete it "
            f"and {remake}"
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
