"""What the frozen layers at the bottom of a network make of images, computed once and kept.

Below its first trainable layer a network is a fixed function of a view of an image. As long as
that function, the images and their views stay the same, so does its output, and a training of the
layers above can start from there:

    images ── augment ── frozen layers ──┃ features ┃── trainable layers ── loss
              └─ once an image and view ─┘          └─ every step ───────────┘
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from fercore.backends.interface import Augmentation, Backend, Buffer
from fercore.feed import Feed
from fercore.files import unfinished
from fercore.functions import augment
from fercore.nn import Model
from fercore.step import Plan, record

BATCH = 128
MEMORY = 2**30
"""Bytes of features that are kept in memory."""
DISK = 2**33
"""Bytes that are kept in files, once the memory is full."""

Counters = tuple[int, int, int, int]
"""Seed, run, epoch and step: what random numbers are drawn from."""


class FeatureStore:
    """Arrays by key, in memory and then in files of ``folder``, up to a number of bytes of each.

    A run takes them from a shelf of its own; what lies on a shelf stays until the shelf is closed,
    and then until others need the room. Shelves may be used by several threads at once. Files
    outlive the process, so that a study that is continued finds them; ``remove`` deletes them.
    Without a folder there are none.
    """

    def __init__(
        self, folder: Path | None = None, *, memory: int = MEMORY, disk: int = DISK
    ) -> None:
        self.folder = folder
        self.memory, self.disk = memory, disk
        self.kept: dict[str, np.ndarray] = {}  # the least recently used first
        self._shelves: list[Shelf] = []
        self._promised: dict[str, tuple[int, bool]] = {}  # key -> bytes of what is being computed
        self._lock = threading.Lock()  # of all of the above
        self._turns: dict[str, threading.Lock] = {}  # held by the thread that computes a key

    def shelf(self) -> Shelf:
        """An empty shelf; to be closed, but for stores that go with it."""
        shelf = Shelf(self)
        with self._lock:
            self._shelves.append(shelf)
        return shelf

    def remove(self) -> None:
        """Forget everything, and delete the files."""
        self.kept.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def put(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        shelf: Shelf,
        compute: Callable[[np.ndarray], None],
    ) -> np.ndarray | None:
        """The array under ``key``, laid on a shelf; computed if it is new, None without room."""
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:  # whoever else wants it waits, and finds it
            with self._lock:
                array = self.kept.get(key)
            if array is None:
                array = self._new(key, shape, dtype, compute)
            if array is not None:
                with self._lock:
                    self.kept.pop(key, None)
                    self.kept[key] = shelf.arrays[key] = array
            return array

    def close(self, shelf: Shelf) -> None:
        """What lies on the shelf alone may go."""
        with self._lock:
            self._shelves.remove(shelf)

    def _new(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        compute: Callable[[np.ndarray], None],
    ) -> np.ndarray | None:
        size = math.prod(shape) * dtype.itemsize
        try:
            if self._promise(key, size, on_disk=False):
                array = np.empty(shape, dtype)
                compute(array)
                return array
            if self.folder is not None and self._promise(key, size, on_disk=True):
                return _in_file(self.folder / f"{key}.npy", shape, dtype, compute)
        finally:
            with self._lock:
                self._promised.pop(key, None)
        return None

    def _promise(self, key: str, size: int, *, on_disk: bool) -> bool:
        """Reserve ``size`` bytes; let go of arrays on no shelf, if that makes them fit."""
        with self._lock:
            in_use = {name for shelf in self._shelves for name in shelf.arrays}
            same = [name for name, a in self.kept.items() if isinstance(a, np.memmap) == on_disk]
            idle = [name for name in same if name not in in_use]
            promised = sum(size for size, disk in self._promised.values() if disk == on_disk)
            limit = self.disk if on_disk else self.memory
            excess = size + promised + sum(self.kept[name].nbytes for name in same) - limit
            if excess > sum(self.kept[name].nbytes for name in idle):
                return False
            for name in idle:
                if excess <= 0:
                    break
                excess -= self.kept.pop(name).nbytes
                if on_disk and self.folder is not None:
                    (self.folder / f"{name}.npy").unlink(missing_ok=True)
            self._promised[key] = size, on_disk
            return True


class Shelf:
    """What one run has taken from a store."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.arrays: dict[str, np.ndarray] = {}

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def get(
        self,
        key: str,
        shape: Sequence[int],
        dtype: Any,
        compute: Callable[[np.ndarray], None],
    ) -> np.ndarray | None:
        """The array under ``key``, which ``compute`` fills if it is new; None without room."""
        if key in self.arrays:
            return self.arrays[key]
        return self.store.put(key, tuple(shape), np.dtype(dtype), self, compute)

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close(self)


def _in_file(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], compute: Callable[[np.ndarray], None]
) -> np.ndarray | None:
    """A read-only array in the file ``path``, which is there whole or not at all.

    None where no such file can be written: a full disk is as no room.
    """
    if not path.exists():
        scratch = unfinished(path)
        try:
            array = _new_file(scratch, shape, dtype)
            if array is None:
                return None
            compute(array)
            array.flush()
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    return np.lib.format.open_memmap(path, mode="r")


def _new_file(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with open(path, "r+b") as file:  # a page without room on the disk would be a crash
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError:
        return None
    return array


class FrozenLayers:
    """The layers of ``model`` below the first that may move, and one set of images before them.

    ``images`` is uint8 ``[N, 48, 48]``. Masks, and weights that they hold still, must not change.
    """

    def __init__(
        self,
        model: Model,
        images: np.ndarray,
        backend: Backend,
        shelf: Shelf,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        self.model, self.images, self.backend, self.shelf = model, images, backend, shelf
        self.augmentation = augmentation
        self.depth = model.frozen_layers()
        self.size = max(min(BATCH, len(images)), 1)
        self.feed = Feed(backend, len(images))
        self.rng = backend.from_host(np.zeros(4, dtype=np.uint32))
        self.stored_images = backend.from_host(images)
        self.labels = backend.from_host(np.zeros(len(images), dtype=np.int32))
        self._held: dict[Counters, Buffer] = {}

    @functools.cached_property
    def plan(self) -> Plan:
        """The features of the next batch of images."""

        def program(recorder: Backend) -> Sequence[Buffer]:
            indices = self.feed.next(recorder, self.size)
            inputs = self.stored_images, self.labels, indices, self.rng
            x, _ = augment(recorder, *inputs, self.augmentation)
            return [self.model(x, layers=slice(self.depth)).data]

        return record(self.backend, program)

    @property
    def output(self) -> Buffer:
        """Where the plan writes them."""
        return self.plan.outputs[0]

    @property
    def feature_bytes(self) -> int:
        """Of one image."""
        return int(self.output.nbytes) // self.size

    def kept(self, counters: Counters = (0, 0, 0, 0)) -> np.ndarray | None:
        """The features ``[N, ...]`` of the view that ``counters`` draw; None if they are not kept.

        They are not where nothing is frozen, or where they would take too much room.
        """
        if not self.depth:
            return None
        key = self._key.copy()
        key.update(repr(counters).encode())
        shape = (len(self.images), *self.output.shape[1:])

        def compute(features: np.ndarray) -> None:
            self.backend.write(self.rng, np.array(counters, dtype=np.uint32))
            self.feed.start(np.arange(len(features)))
            for start in range(0, len(features), self.size):
                self.feed.run(self.plan)
                rows = features[start : start + self.size]
                rows[...] = self.backend.to_host(self.output)[: len(rows)]

        return self.shelf.get(key.hexdigest(), shape, self.output.dtype, compute)

    def held(self, counters: Counters = (0, 0, 0, 0)) -> Buffer | None:
        """What is ``kept``, in the backend's memory; None where that has no room for it, too."""
        if counters not in self._held:
            kept = self.kept(counters)
            held = None if kept is None else self.backend.hold(kept)
            if held is None:
                return None
            self._held[counters] = held
        return self._held[counters]

    @functools.cached_property
    def _key(self) -> Any:
        """A digest of everything but the counters that decides the features."""
        digest: Any = hashlib.sha256()
        facts = self.backend.name, str(self.output.dtype), self.backend.build_info()
        for fact in (*facts, astuple(self.augmentation), self.images.shape, self.depth):
            digest.update(json.dumps(fact, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.images))
        for name, array in self.model.state(slice(self.depth)).items():
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest


def batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """``order`` in pieces of ``size``, the last of which may be smaller."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
