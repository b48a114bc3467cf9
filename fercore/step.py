"""A training step as a value: the list of backend calls, their buffers and lifetimes.

``record`` runs a program once against a backend that computes nothing: it notes every call, and
hands out placeholders instead of memory. From the calls follows when each buffer is first and
last used, so that buffers which never live at the same time share one place in a single arena:

    calls       0  1  2  3  4  5  6
    activation     ├────────┤            offset 0
    gradient             ├─────┤         offset 4096
    scratch                    ├─┤       offset 0 again

``Plan.replay`` then makes the same calls in the same order as running the program eagerly, one by
one or as one CUDA graph, and so computes the same bits, without allocating anything. What changes
from step to step (indices, random state, rates) is written by the caller into buffers made outside
of the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fercore.backends.interface import Backend, Buffer

ALIGNMENT = 64  # bytes: a cache line, and the widest vector registers


@dataclass(eq=False)
class Placeholder:
    """Memory that a recorded program asked for: an allocation, or a view into one."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Placeholder | None = None  # of a view
    offset: int = 0  # bytes into the owner; of an allocation, into the arena
    first: int = -1  # index of the first and the last call that uses it
    last: int = -1

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Call:
    """One backend method with its arguments; ``label`` names layer and direction."""

    label: str
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Recorder:
    """Stands in for a backend: allocates placeholders and notes calls."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._label = ""
        self.dtype = backend.dtype
        self.calls: list[Call] = []

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Placeholder:
        return Placeholder(tuple(shape), np.dtype(self.dtype if dtype is None else dtype))

    def view(self, buffer: Any, offset: int, shape: Sequence[int], dtype: Any) -> Any:
        if not isinstance(buffer, Placeholder):
            return self._backend.view(buffer, offset, shape, dtype)
        owner = buffer.owner or buffer
        start = offset + (buffer.offset if buffer.owner else 0)
        return Placeholder(tuple(shape), np.dtype(dtype), owner, start)

    @contextmanager
    def scope(self, label: str) -> Iterator[None]:
        outer, self._label = self._label, label
        try:
            yield
        finally:
            self._label = outer

    def conv2d_gradient_slices(self, *args: Any, **kwargs: Any) -> int:
        return self._backend.conv2d_gradient_slices(*args, **kwargs)  # a question, not a call

    def __getattr__(self, method: str) -> Any:
        if method in ("from_host", "to_host", "write"):
            raise RuntimeError(f"{method} cannot be part of a recorded step; do it outside")
        attribute = getattr(self._backend, method)  # unknown ones fail here, as they would eagerly
        if not callable(attribute):
            return attribute

        def note(*args: Any, **kwargs: Any) -> None:
            self.calls.append(Call(self._label, method, args, kwargs))

        return note


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """A program's calls on placeholders, which have their places in an arena.

    Attributes:
        calls: in order.
        outputs: what the program returned.
        allocations: the placeholders that need memory; views are not among them.
        arena_bytes: of memory that holds them all.
    """

    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]
    allocations: tuple[Placeholder, ...]
    arena_bytes: int

    def live_bytes(self) -> list[int]:
        """Bytes of the allocations that each call finds in use."""
        return [
            sum(one.nbytes for one in self.allocations if one.first <= index <= one.last)
            for index in range(len(self.calls))
        ]


@dataclass(eq=False)
class _Replays:
    """How often a plan was replayed, and its graph once it has one."""

    count: int = 0
    graph: Callable[[], None] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """A recorded program with its buffers in place.

    Attributes:
        backend: what it runs on.
        recording: the program before it had memory.
        arena: one buffer, in which all of the program's own lie.
        calls: in order.
        outputs: the buffers that the program returned; valid until the next ``replay``, also of
            a plan in the same arena.
    """

    backend: Backend
    recording: Recording
    arena: Buffer
    calls: tuple[Call, ...]
    outputs: tuple[Buffer, ...]
    _bound: tuple[tuple[str, Callable[..., None], Call], ...]
    _replays: _Replays

    @property
    def arena_bytes(self) -> int:
        return self.recording.arena_bytes

    @property
    def requested_bytes(self) -> int:
        """What the buffers would take without sharing."""
        return sum(allocation.nbytes for allocation in self.recording.allocations)

    def replay(self) -> None:
        """Make every call once, from the second time on as one graph where the backend has them.

        (The first time kernels are built, and scratch memory is allocated.)
        """
        replays = self._replays
        if replays.graph is None and replays.count == 1:
            replays.graph = self.backend.capture(self.call)
        (replays.graph or self.call)()
        replays.count += 1

    def call(self) -> None:
        """Make every call once, one by one."""
        for bound in self._bound:
            self._run(*bound)

    def runs(self) -> list[Callable[[], None]]:
        """Each call by itself, for those who time them."""
        return [partial(self._run, *bound) for bound in self._bound]

    def _run(self, label: str, method: Callable[..., None], call: Call) -> None:
        with self.backend.scope(label):
            method(*call.args, **call.kwargs)

    def __str__(self) -> str:
        lines = [f"{'call':<28}{'method':<26}buffers"]
        for call in self.calls:
            shapes = " ".join("x".join(map(str, b.shape)) for b in _buffers(call, _has_shape))
            lines.append(f"{call.label:<28}{call.method:<26}{shapes}")
        lines.append(
            f"{len(self.calls)} calls; arena {self.arena_bytes / 2**20:.1f} MiB for "
            f"{self.requested_bytes / 2**20:.1f} MiB of buffers"
        )
        return "\n".join(lines)


def record(
    backend: Backend,
    program: Callable[[Any], Sequence[Any]],
    *,
    arenas: Iterable[Buffer] = (),
) -> Plan:
    """Record ``program(backend) -> buffers to keep`` without running it.

    The program must allocate with the backend it is given; buffers made elsewhere (parameters,
    inputs) are used as they are. One of ``arenas``, of plans that run at other times, is used again
    if it is large enough.
    """
    recorder = _Recorder(backend)
    outputs = tuple(program(recorder))
    if not recorder.calls:
        raise ValueError("nothing was recorded: the program does not use the backend it is given")
    used = _lifetimes(recorder.calls, outputs)
    recording = Recording(tuple(recorder.calls), outputs, tuple(used), _place(used))
    fitting = (arena for arena in arenas if arena.nbytes >= recording.arena_bytes)
    arena = next(fitting, None)
    if arena is None:
        arena = backend.empty((recording.arena_bytes,), "uint8")
    return _bind(recording, backend, arena)


def _bind(recording: Recording, backend: Backend, arena: Buffer) -> Plan:
    """Give the placeholders memory."""
    resolve = partial(_resolve, backend, arena)
    calls = tuple(
        Call(
            call.label,
            call.method,
            resolve(call.args),
            {name: resolve(value) for name, value in call.kwargs.items()},
        )
        for call in recording.calls
    )
    return Plan(
        backend,
        recording,
        arena,
        calls,
        tuple(resolve(output) for output in recording.outputs),
        tuple((call.label, getattr(backend, call.method), call) for call in calls),
        _Replays(),
    )


def _resolve(backend: Backend, arena: Buffer, value: Any) -> Any:
    """``value`` with views of the arena for placeholders.

    Not a function inside another: one that calls itself would keep the arena after the plan.
    """
    if isinstance(value, Placeholder):
        base = value.owner.offset if value.owner else 0
        return backend.view(arena, base + value.offset, value.shape, value.dtype)
    if isinstance(value, list | tuple):
        return type(value)(_resolve(backend, arena, item) for item in value)
    return value


def _has_shape(value: Any) -> bool:
    return hasattr(value, "shape")


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, Placeholder)


def _buffers(call: Call, accepts: Callable[[Any], bool]) -> Iterator[Any]:
    for value in (*call.args, *call.kwargs.values()):
        for item in value if isinstance(value, list | tuple) else (value,):
            if accepts(item):
                yield item


def _lifetimes(calls: Sequence[Call], outputs: Sequence[Any]) -> list[Placeholder]:
    """Note the first and last use of every allocation; return the used ones."""
    used: dict[Placeholder, None] = {}
    for index, call in enumerate(calls):
        for placeholder in _buffers(call, _is_placeholder):
            owner = placeholder.owner or placeholder
            owner.first = index if owner.first < 0 else owner.first
            owner.last = index
            used[owner] = None
    for output in filter(_is_placeholder, outputs):
        owner = output.owner or output
        owner.last = len(calls)
        used[owner] = None
    return list(used)


def _place(allocations: Sequence[Placeholder]) -> int:
    """Give each allocation an offset, large ones first, as low as it fits; return the total."""
    placed: list[Placeholder] = []
    for allocation in sorted(allocations, key=lambda a: -a.nbytes):
        offset = 0
        for other in placed:  # ascending offsets
            overlap = other.first <= allocation.last and allocation.first <= other.last
            if overlap and other.offset < offset + allocation.nbytes:
                offset = max(offset, _aligned(other.offset + other.nbytes))
        allocation.offset = offset
        placed.append(allocation)
        placed.sort(key=lambda a: a.offset)
    return max((_aligned(a.offset + a.nbytes) for a in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
