"""The measured time of a training step, by layer and direction: ``fercore-train profile``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from fercore.plan_report import StepReport
from fercore.pricing import Priced
from fercore.profiling import Measured

DIRECTIONS = ("forward", "backward", "update")


@dataclass(frozen=True)
class Row:
    """Calls of one method in one layer and direction; an update's are weight and bias.

    Attributes:
        call: layer and direction.
        method: of the backend.
        seconds: a step.
        share: of all calls' time.
        gflops, gigabytes: a second, of the least operations and bytes.
        of_floor: the floor as a share of the time.
        live_bytes: of the arena, in use meanwhile.
        gap: seconds in which a GPU waited for launches; None without a queue.
    """

    call: str
    method: str
    seconds: float
    share: float
    gflops: float
    gigabytes: float
    of_floor: float
    live_bytes: int
    gap: float | None


@dataclass(frozen=True, kw_only=True)
class ProfileReport(StepReport):
    """A measured step; times are medians over ``rounds``.

    Attributes:
        rounds: how often it ran.
        seconds: the step, launched call by call.
        graph_seconds: as one graph; None without a queue.
        images_per_s: by the faster of the two.
        of_floor: the floor as a share of the time of that.
        rows: by layer and direction.
        commands: how to look closer with NVIDIA's profilers; none elsewhere.
    """

    rounds: int
    seconds: float
    graph_seconds: float | None
    images_per_s: float
    of_floor: float
    rows: list[Row]
    commands: tuple[str, ...]


def make(
    about: dict[str, Any],
    calls: Sequence[Priced],
    live: Sequence[int],
    measured: Measured,
    again: Sequence[str],
) -> ProfileReport:
    """What was measured, beside what the calls cost at least.

    Args:
        about: the fields of a ``StepReport``.
        calls, live: what each call costs, and the bytes of the arena that are in use then.
        measured: their times.
        again: the command line that measures the same.
    """
    rows = list(_rows(calls, live, measured))
    best = measured.step if measured.graph is None else min(measured.step, measured.graph)
    return ProfileReport(
        **about,
        rounds=measured.rounds,
        seconds=measured.step,
        graph_seconds=measured.graph,
        images_per_s=about["batch"] / best,
        of_floor=sum(call.floor for call in calls) / best,
        rows=rows,
        commands=tuple(_commands(rows, again)) if about["device"] == "cuda" else (),
    )


def _rows(calls: Sequence[Priced], live: Sequence[int], measured: Measured) -> Iterator[Row]:
    total = float(measured.calls.sum())
    numbered = groupby(enumerate(calls), key=lambda one: (one[1].label, one[1].method))
    for (label, method), group in numbered:
        inside = list(group)
        numbers = [number for number, _ in inside]
        seconds = float(measured.calls[numbers].sum())
        yield Row(
            label,
            method,
            seconds,
            seconds / total,
            sum(call.flops for _, call in inside) / seconds / 1e9,
            sum(call.bytes for _, call in inside) / seconds / 1e9,
            sum(call.floor for _, call in inside) / seconds,
            max(live[number] for number in numbers),
            None if measured.gaps is None else float(measured.gaps[numbers].sum()),
        )


def _commands(rows: Sequence[Row], again: Sequence[str]) -> Iterator[str]:
    """For Nsight Systems, and for Nsight Compute at the call that loses most time."""
    worst = max(rows, key=lambda row: row.seconds * (1 - row.of_floor)).call
    name = worst.replace(" ", "-").replace(".", "-")
    line = shlex.join(again)
    yield f"nsys profile -t cuda,nvtx -o step {line}"
    ranged = shlex.quote(f"{worst}/")
    yield f"ncu --set full --nvtx --nvtx-include {ranged} --launch-count 8 -o {name} {line}"


# -- text -----------------------------------------------------------------------------------------


def to_text(report: ProfileReport) -> str:
    """A line for each layer, direction and method, and what they add up to."""
    return "\n".join((*_table(report), "", *_summary(report))) + "\n"


def _table(report: ProfileReport) -> Iterator[str]:
    yield f"{report.title()}; medians of {report.rounds} rounds"
    yield f"limits of {report.limits}"
    yield ""
    wide = max(len(row.call) for row in report.rows) + 2
    gap = "" if report.graph_seconds is None else f"{'gap us':>9}"
    yield (
        f"{'call':<{wide}}{'method':<24}{'ms':>10}{'share':>8}{'GFLOP/s':>10}{'GB/s':>9}"
        f"{'floor':>8}{'live MB':>10}{gap}"
    )
    for row in report.rows:
        gap = "" if row.gap is None else f"{row.gap * 1e6:>9.1f}"
        yield (
            f"{row.call:<{wide}}{row.method:<24}{row.seconds * 1e3:>10.3f}{row.share:>8.1%}"
            f"{row.gflops:>10,.0f}{row.gigabytes:>9,.1f}{row.of_floor:>8.0%}"
            f"{row.live_bytes / 1e6:>10,.1f}{gap}"
        )


def _summary(report: ProfileReport) -> Iterator[str]:
    total = sum(row.seconds for row in report.rows)
    parts = (
        (name, sum(row.seconds for row in report.rows if row.call.endswith(name)))
        for name in DIRECTIONS
    )
    shares = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in parts)
    yield f"calls      {total * 1e3:.2f} ms: {shares}"
    yield (
        f"step       {report.seconds * 1e3:.2f} ms; {report.images_per_s:,.1f} images/s, "
        f"{report.of_floor:.0%} of the floor"
    )
    if report.graph_seconds is not None:
        waited = report.seconds - report.graph_seconds
        yield (
            f"graph      {report.graph_seconds * 1e3:.2f} ms; launched one by one, "
            f"{max(waited, 0.0) * 1e3:.2f} ms ({max(waited, 0.0) / report.seconds:.0%}) of the "
            "step are gaps"
        )
    yield report.memory_text()
    for command in report.commands:
        yield f"look       {command}"
