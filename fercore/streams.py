"""Which calls of a recorded step run beside others, and what has to wait for what.

A device keeps two streams of work, and does those of different streams at the same time where there
is room. A layer's weight gradient and its update follow from nothing below the layer, so they go
into the second stream where its input gradient leaves multiprocessors idle, or they do themselves:

    stream 0   ... fc1 input gradient, conv4_3 input gradient, conv4_2 input gradient, ...    end
    stream 1       fc1 weight gradient, update, conv4_3 weight gradient, update, ...           ↑

Calls that touch the same buffer, one of them writing it, keep their order: within a stream they
have it, and across streams the later one waits. Stream 0 also waits where it would get far ahead.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fercore.backends.accesses import operands

if TYPE_CHECKING:
    from fercore.step import Call

INPUT_GRADIENTS = ("conv2d_input_gradient", "linear_input_gradient")
WEIGHT_GRADIENTS = ("conv2d_weight_gradient", "linear_weight_gradient")
UPDATES = ("sgd_update", "adam_update")


@dataclass(frozen=True)
class Order:
    """What of a step happens before what.

    After the calls, and numbered as if it was one more, comes the end, which waits for all of them.

    Attributes:
        streams: of each call and of the end, 0 or 1; calls of one stream run in order.
        waits: for each of them, the last call of the other stream that it waits for; None where it
            waits for none that an earlier call of its own stream did not wait for.
        done: for each of them, the last call of either stream that has ended when it begins; -1
            for none.
    """

    streams: tuple[int, ...]
    waits: tuple[int | None, ...]
    done: tuple[tuple[int, int], ...]

    @property
    def end(self) -> int:
        return len(self.streams) - 1

    @functools.cached_property
    def awaited(self) -> frozenset[int | None]:
        """Calls that others wait for."""
        return frozenset(self.waits)

    def describe(self, call: int) -> str:
        """The stream of a call and what it waits for: ``1 after 34``."""
        waits = self.waits[call]
        return str(self.streams[call]) + ("" if waits is None else f" after {waits}")

    def before(self, one: int, other: int) -> bool:
        """Whether ``one`` has ended when ``other`` begins, however fast either stream is."""
        return one <= self.done[other][self.streams[one]]

    def all_before(self, ones: Sequence[int], others: Sequence[int]) -> bool:
        """Whether all of ``ones`` have ended when any of ``others`` begins; both ascend."""
        return all(
            self.before(last, first)
            for last in self._by_stream(ones).values()
            for first in self._by_stream(reversed(others)).values()
        )

    def _by_stream(self, calls: Iterable[int]) -> dict[int, int]:
        """The last one of each stream."""
        return {self.streams[call]: call for call in calls}


def order(streams: Sequence[int], needed: Sequence[Iterable[int]]) -> Order:
    """The order of calls in ``streams``, each of which comes after the earlier ones it needs."""
    ended = [-1, -1]  # the last call of each stream
    heard = [-1, -1]  # the last call of the other stream that each has waited for
    waits: list[int | None] = []
    done: list[tuple[int, int]] = []
    for call, stream in enumerate((*streams, 0)):
        other = 1 - stream
        last = ended[other]
        if call < len(streams):
            last = max((one for one in needed[call] if streams[one] == other), default=-1)
        waits.append(last if last > heard[stream] else None)
        heard[stream] = max(heard[stream], last)
        done.append((ended[0], heard[0]) if stream == 0 else (heard[1], ended[1]))
        ended[stream] = call
    return Order((*streams, 0), tuple(waits), tuple(done))


def dependencies(touched: Iterable[Iterable[tuple[Any, bool]]]) -> list[set[int]]:
    """The earlier calls that each call has to come after.

    ``touched``: the memory that each call touches, each with whether it is written. Of calls that
    follow from one another the last is enough.
    """
    writer: dict[Any, int] = {}
    readers: defaultdict[Any, set[int]] = defaultdict(set)  # since it was written
    found = []
    for call, accesses in enumerate(touched):
        accesses = list(accesses)
        needed: set[int] = set()
        for memory, writes in accesses:
            needed |= {writer[memory]} if memory in writer else set()
            needed |= readers[memory] if writes else set()
        for memory, writes in accesses:
            if writes:
                writer[memory] = call
                readers[memory] = set()
            else:
                readers[memory].add(call)
        found.append(needed - {call})
    return found


def choose(
    calls: Sequence[Call], needed: Sequence[set[int]], leaves_room: Callable[[Call], bool]
) -> list[int]:
    """The stream of each call.

    Weight gradients are in the second one where they, or the input gradients from the same
    gradient, leave room; an update follows the last call that it needs.
    """
    streams: list[int] = []
    input_gradients: dict[int, Call] = {}  # by the gradient that they start from
    for number, call in enumerate(calls):
        beside = False
        if call.method in INPUT_GRADIENTS:
            input_gradients[_grad(call)] = call
        elif call.method in WEIGHT_GRADIENTS and needed[number]:
            partner = input_gradients.get(_grad(call))
            beside = partner is not None and (leaves_room(partner) or leaves_room(call))
        elif call.method in UPDATES and needed[number]:
            beside = streams[max(needed[number])] == 1
        streams.append(int(beside))
    return streams


def bound_lead(calls: Sequence[Call], chosen: Sequence[int], needed: Sequence[set[int]]) -> None:
    """Let stream 0 be no more than one layer ahead: add to what calls need.

    An input gradient needs the weight gradients of stream 1 from before the input gradient before
    it. Those should have ended by then, if a device begins what it was given first; and what they
    read is free again, instead of being kept to the end.
    """
    last: int | None = None
    before_previous: int | None = None
    for number, call in enumerate(calls):
        if call.method in INPUT_GRADIENTS:
            if before_previous is not None:
                needed[number].add(before_previous)
            before_previous = last
        elif call.method in WEIGHT_GRADIENTS and chosen[number]:
            last = number


def _grad(call: Call) -> int:
    return id(operands(call.method, call.args, call.kwargs)["grad"])
