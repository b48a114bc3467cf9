"""A training step as a value: the list of backend calls, their buffers and lifetimes.

``record`` runs a program once against a backend that computes nothing: it notes every call, and
hands out placeholders instead of memory. From the calls follows when each buffer is first and
last used, so that buffers which never live at the same time share one place in a single arena:

    calls       0  1  2  3  4  5  6
    activation     ├────────┤            offset 0
    gradient             ├─────┤         offset 4096
    scratch                    ├─┤       offset 0 again

A device may run some calls beside others, in a second stream (see ``fercore.streams``); a buffer
then takes the place of another one only where all calls that use that one are sure to have ended.

``Plan.replay`` makes the same calls as running the program eagerly, one by one or as one CUDA
graph, each after those that it follows from, and so computes the same bits, without allocating
anything. What changes from step to step (indices, random state, rates) is written by the caller
into buffers made outside of the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fercore import streams
from fercore.backends.accesses import accesses
from fercore.backends.interface import Backend, Buffer
from fercore.streams import Order

ALIGNMENT = 64  # bytes: a cache line, and the widest vector registers


@dataclass(eq=False)
class Placeholder:
    """Memory that a recorded program asked for: an allocation, or a view into one."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Placeholder | None = None  # of a view
    offset: int = 0  # bytes into the owner; of an allocation, into the arena
    uses: list[int] = field(default_factory=list)  # calls that use it, and the end if it is kept

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def first(self) -> int:
        """The first call that uses it."""
        return self.uses[0]

    @property
    def last(self) -> int:
        """The last call that uses it; the number of calls if it is kept."""
        return self.uses[-1]


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
        self._viewed: dict[int, tuple[Buffer, Buffer]] = {}  # id -> view, made outside; its base
        self.dtype = backend.dtype
        self.calls: list[Call] = []

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Placeholder:
        return Placeholder(tuple(shape), np.dtype(self.dtype if dtype is None else dtype))

    def view(self, buffer: Any, offset: int, shape: Sequence[int], dtype: Any) -> Any:
        if not isinstance(buffer, Placeholder):
            view = self._backend.view(buffer, offset, shape, dtype)
            self._viewed[id(view)] = view, self._base(buffer)
            return view
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

    def _base(self, buffer: Buffer) -> Any:
        """The memory that a buffer is, or is a view into."""
        if isinstance(buffer, Placeholder):
            return buffer.owner or buffer
        return self._viewed[id(buffer)][1] if id(buffer) in self._viewed else buffer

    def order(self, *, two_streams: bool) -> Order:
        """What comes before what: all in order, or beside other calls where there is room."""
        if not two_streams:
            return streams.order([0] * len(self.calls), [()] * len(self.calls))
        needed = streams.dependencies(
            [
                (id(self._base(buffer)), written)
                for buffer, written in accesses(call.method, call.args, call.kwargs)
            ]
            for call in self.calls
        )
        chosen = streams.choose(self.calls, needed, self._leaves_room)
        streams.bound_lead(self.calls, chosen, needed)
        return streams.order(chosen, needed)

    def _leaves_room(self, call: Call) -> bool:
        return self._backend.leaves_room(call.method, call.args, call.kwargs)

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
        order: which calls are beside others, and what waits for what.
    """

    calls: tuple[Call, ...]
    outputs: tuple[Any, ...]
    allocations: tuple[Placeholder, ...]
    arena_bytes: int
    order: Order

    def live_bytes(self) -> list[int]:
        """Bytes of the allocations that each call finds in use, if they are made one by one."""
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
        """Make every call once, one by one, each in its stream."""
        order = self.recording.order
        points: dict[int, Any] = {}
        for index, bound in enumerate(self._bound):
            with self.backend.stream(order.streams[index]):
                self._wait(points, index)
                self._run(*bound)
                if index in order.awaited:
                    points[index] = self.backend.point()
        self._wait(points, order.end)

    def _wait(self, points: dict[int, Any], index: int) -> None:
        """For what the call of that number, or the end, waits for."""
        waits = self.recording.order.waits[index]
        if waits is not None:
            self.backend.wait(points[waits])

    def runs(self) -> list[Callable[[], None]]:
        """Each call by itself, for those who time them."""
        return [partial(self._run, *bound) for bound in self._bound]

    def _run(self, label: str, method: Callable[..., None], call: Call) -> None:
        with self.backend.scope(label):
            method(*call.args, **call.kwargs)

    def __str__(self) -> str:
        order = self.recording.order
        lines = [f"{'':>4} {'call':<28}{'method':<26}{'stream':<16}buffers"]
        for index, call in enumerate(self.calls):
            shapes = " ".join("x".join(map(str, b.shape)) for b in _buffers(call, _has_shape))
            stream = order.describe(index)
            lines.append(f"{index:>4} {call.label:<28}{call.method:<26}{stream:<16}{shapes}")
        lines.append(f"{order.end:>4} {'end':<28}{'':<26}{order.describe(order.end)}")
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
    two_streams: bool = False,
) -> Plan:
    """Record ``program(backend) -> buffers to keep`` without running it.

    The program must allocate with the backend it is given; buffers made elsewhere (parameters,
    inputs) are used as they are, and must not overlap unless the program made views of them. One of
    ``arenas``, of plans that run at other times, is used again if it is large enough. With
    ``two_streams`` weight gradients run beside input gradients where the backend has room.
    """
    recorder = _Recorder(backend)
    outputs = tuple(program(recorder))
    if not recorder.calls:
        raise ValueError("nothing was recorded: the program does not use the backend it is given")
    order = recorder.order(two_streams=two_streams)
    used = _lifetimes(recorder.calls, outputs)
    arena_bytes = _place(used, order)
    recording = Recording(tuple(recorder.calls), outputs, tuple(used), arena_bytes, order)
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
    """Note the uses of every allocation; return the used ones."""
    used: dict[Placeholder, None] = {}
    for index, call in enumerate(calls):
        for placeholder in _buffers(call, _is_placeholder):
            owner = placeholder.owner or placeholder
            owner.uses.append(index)
            used[owner] = None
    for output in filter(_is_placeholder, outputs):
        owner = output.owner or output
        # What no call uses is the caller's, from the beginning on.
        owner.uses += [len(calls)] if owner.uses else [0, len(calls)]
        used[owner] = None
    return list(used)


def _place(allocations: Sequence[Placeholder], order: Order) -> int:
    """Give each allocation an offset, large ones first, as low as it fits; return the total."""
    placed: list[Placeholder] = []
    for allocation in sorted(allocations, key=lambda a: -a.nbytes):
        offset = 0
        for other in placed:  # ascending offsets
            reaches = other.offset < offset + allocation.nbytes
            if reaches and not _apart(order, allocation.uses, other.uses):
                offset = max(offset, _aligned(other.offset + other.nbytes))
        allocation.offset = offset
        placed.append(allocation)
        placed.sort(key=lambda a: a.offset)
    return max((_aligned(a.offset + a.nbytes) for a in placed), default=0)


def _apart(order: Order, ones: Sequence[int], others: Sequence[int]) -> bool:
    """Whether all of some calls have ended when any of the others begins."""
    return order.all_before(ones, others) or order.all_before(others, ones)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
