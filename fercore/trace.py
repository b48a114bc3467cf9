"""A traced step as a file for ui.perfetto.dev and chrome://tracing: their JSON array of events.

Tracks are the host and, if there is one, the device; on each, calls lie under the layer and the
direction they belong to. A counter shows how much of the arena is in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from fercore.files import write_atomically
from fercore.pricing import Priced
from fercore.profiling import Span

HOST, DEVICE = 1, 2
Event = dict[str, Any]
Timed = tuple[Priced, tuple[float, float]]


def write(
    path: Path, title: str, calls: Sequence[Priced], spans: Sequence[Span], live: Sequence[int]
) -> None:
    """Write the trace of a step.

    Args:
        path: a JSON file.
        title: of the step.
        calls, spans, live: for each call, what it is, when it ran, and the bytes in use.

    Raises:
        FercoreError: the file cannot be written.
    """
    events = [_named("process_name", HOST, title), _named("thread_name", HOST, "host")]
    host = [(call, span.host) for call, span in zip(calls, spans, strict=True)]
    events += _track(host, HOST)
    for (_, (begin, _end)), size in zip(host, live, strict=True):
        events.append(_event("C", "arena in use", HOST, begin, {"bytes": size}))
    device = [
        (call, span.device)
        for call, span in zip(calls, spans, strict=True)
        if span.device is not None
    ]
    if device:
        events += [_named("thread_name", DEVICE, "device"), *_track(device, DEVICE)]
    write_atomically(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n")


def _track(timed: Sequence[Timed], thread: int) -> Iterator[Event]:
    """A pair of events for each layer and direction, and within for each of its calls."""
    for label, group in groupby(timed, key=lambda one: one[0].label):
        inside = list(group)
        yield _event("B", label, thread, inside[0][1][0])
        for call, (begin, end) in inside:
            facts = {
                "floor_us": round(call.floor * 1e6, 3),
                "flops": call.flops,
                "bytes": call.bytes,
                **call.buffers,
            }
            yield _event("B", call.method, thread, begin, facts)
            yield _event("E", call.method, thread, end)
        yield _event("E", label, thread, inside[-1][1][1])


def _event(
    phase: str, name: str, thread: int, seconds: float, facts: dict[str, Any] | None = None
) -> Event:
    event: Event = {"ph": phase, "name": name, "pid": 1, "tid": thread, "ts": seconds * 1e6}
    return event if facts is None else event | {"args": facts}


def _named(what: str, thread: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": 1, "tid": thread, "args": {"name": name}}
