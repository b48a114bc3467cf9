"""Whether two streams of calls race: found by walking the edges, byte by byte of real addresses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fercore.backends.accesses import accesses
from fercore.step import Plan
from fercore.streams import Order


def edges(order: Order) -> Iterator[tuple[int, int]]:
    """Pairs of which the first comes before the second: in a stream, or because it waits."""
    last: dict[int, int] = {}
    for call, (stream, waits) in enumerate(zip(order.streams, order.waits, strict=True)):
        if stream in last:
            yield last[stream], call
        if waits is not None:
            yield waits, call
        last[stream] = call


def reachable(order: Order) -> list[set[int]]:
    """All calls that come before each call, and before the end."""
    earlier: list[set[int]] = [set() for _ in order.streams]
    for one, other in sorted(edges(order), key=lambda edge: edge[1]):
        earlier[other] |= {one} | earlier[one]
    return earlier


def races(plan: Plan, order: Order) -> list[str]:
    """Calls of a plan on NumPy buffers that are in no order and touch, one writing, a byte both."""
    before = reachable(order)
    touched = [list(accesses(call.method, call.args, call.kwargs)) for call in plan.calls]
    found = []
    for other, these in enumerate(touched):
        for one in set(range(other)) - before[other]:
            for a, writes in touched[one]:
                for b, writes_too in these:
                    if (writes or writes_too) and np.may_share_memory(a, b):
                        labels = (
                            f"{plan.calls[n].label} {plan.calls[n].method}" for n in (one, other)
                        )
                        found.append(" and ".join(labels))
    return found


def any_order(order: Order, random: np.random.Generator) -> list[int]:
    """The calls as two streams might do them: the next one of either that need not wait."""
    done: list[int] = []
    left = [[c for c in range(order.end) if order.streams[c] == stream] for stream in (0, 1)]
    while any(left):
        ready = [
            calls
            for calls in left
            if calls and (order.waits[calls[0]] is None or order.waits[calls[0]] in done)
        ]
        done.append(ready[random.integers(len(ready))].pop(0))
    return done
