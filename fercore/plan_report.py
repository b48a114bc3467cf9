"""The plan of a training step for people and programs: ``fercore-train profile --plan``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from fercore import memory, pricing
from fercore.backends.sketch import LAUNCHING, SketchBackend
from fercore.costs import GPUS, NARROW, Limits
from fercore.fusions import FUSIONS
from fercore.memory import Footprint, Workload, gib
from fercore.pricing import Launched, Placed, Priced
from fercore.profiling import Step
from fercore.step import Recording

NO_GPU = GPUS["h200"]
"""What kernels and streams are chosen for where no GPU says otherwise."""


@dataclass(frozen=True)
class BytesAnImage:
    """Of a step: in its own precision, and if activations and weights of products were bf16."""

    own: float
    in_bf16: float


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What both reports say of their step.

    Attributes:
        model, strategy, batch, precision, device: which step, and where.
        starts_from: images, or the features of the layers that are frozen.
        without: fusions that are switched off.
        limits: what floors are computed with.
        memory: of a training by such steps.
    """

    model: str
    strategy: str
    batch: int
    precision: str
    device: str
    starts_from: str
    without: tuple[str, ...]
    limits: Limits
    memory: Footprint

    def to_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode() + "\n"

    def title(self) -> str:
        """One line: ``svgg10, BL, batch 64, fp32 on cpu: a training step from images``."""
        text = f"{self.model}, {self.strategy}, batch {self.batch}, {self.precision} on "
        text += f"{self.device}: a training step from {self.starts_from}"
        text += " of the frozen layers" if self.starts_from == "features" else ""
        return text + (f", without {' and '.join(self.without)}" if self.without else "")

    def memory_text(self) -> str:
        """The peak of the training's memory, and what it is made of."""
        parts = (f"{name} {gib(size)}" for name, size in self.memory.parts.items() if size)
        return f"memory     {gib(self.memory.peak)} at the peak of training: {', '.join(parts)}"


def about(step: Step, device: str, precision: str, limits: Limits) -> dict[str, Any]:
    """The fields of a ``StepReport``."""
    workload = step.workload
    return {
        "model": workload.model,
        "strategy": workload.strategy.name,
        "batch": workload.recipe.batch_size,
        "precision": precision,
        "device": device,
        "starts_from": step.starts_from,
        "without": workload.without,
        "limits": limits,
        "memory": memory.footprint(workload, device, precision),
    }


@dataclass(frozen=True, kw_only=True)
class PlanReport(StepReport):
    """A step that was listed, not run.

    Attributes:
        calls: in order.
        joined: the last call of stream 1, for which the end waits, if there is one.
        buffers: of the arena.
        arena_bytes: of all buffers together.
        one_stream_bytes: the same if all calls ran in one stream.
        live_bytes: the most in use at one time.
        flops: of all products.
        frozen_flops: of the frozen layers whose features are kept, for one view of an image.
        views: how many there are of an image; 0: a new one every epoch.
        floor: seconds; the sum of those of the calls.
        kernels: launches of the step; 0 where that is not known.
        bytes_an_image: of this step, of one with nothing fused, and of one with everything fused.
        slice_bytes: of partial sums that updates add up, a step; no other figure counts them.
        saved_bytes: fusion -> bytes a step that it saves, or would save.
        missing_bytes: the same of fusions that do not exist.
    """

    calls: list[Priced]
    joined: int | None
    buffers: list[Placed]
    arena_bytes: int
    one_stream_bytes: int
    live_bytes: int
    flops: int
    frozen_flops: int
    views: int
    floor: float
    kernels: int
    bytes_an_image: dict[str, BytesAnImage]
    slice_bytes: int
    saved_bytes: dict[str, int]
    missing_bytes: dict[str, int]


def make(workload: Workload, device: str, precision: str, limits: Limits) -> PlanReport:
    """The plan of a step; nothing is computed, and no memory of the step's is allocated.

    Raises FercoreError for an unknown model, fusion, or a strategy that does not fit the model.
    """
    step, calls = priced(workload, device, precision, limits)
    recording, batch = step.plan.recording, workload.recipe.batch_size
    apart, sparse, fused, one_stream = (
        _recording(replace(workload, without=names), device, precision, limits)
        for names in (
            tuple(FUSIONS),
            ("epilogue_gradient",),
            (),
            (*workload.without, "side_stream"),
        )
    )
    return PlanReport(
        **about(step, device, precision, limits),
        calls=calls,
        joined=recording.order.waits[recording.order.end],
        buffers=pricing.arena(recording),
        arena_bytes=recording.arena_bytes,
        one_stream_bytes=one_stream.arena_bytes,
        live_bytes=max(recording.live_bytes()),
        flops=sum(call.flops for call in calls),
        frozen_flops=step.frozen_flops,
        views=step.stepper.views,
        floor=sum(call.floor for call in calls),
        kernels=len(pricing.launches(calls)),
        bytes_an_image={
            "this step": _bytes_an_image(recording, batch),
            "nothing fused": _bytes_an_image(apart, batch),
            "everything fused": BytesAnImage(
                pricing.fused_bytes(sparse) / batch, pricing.fused_bytes(sparse, NARROW) / batch
            ),
        },
        slice_bytes=pricing.slice_bytes(recording),
        saved_bytes={name: _saved(workload, device, precision, limits, name) for name in FUSIONS},
        missing_bytes=pricing.missing_fusions(fused),
    )


def priced(
    workload: Workload, device: str, precision: str, limits: Limits
) -> tuple[Step, list[Priced]]:
    """A step without memory, and what each of its calls costs on a device."""
    sketch = _sketch(device, precision, limits)
    step = Step(workload, sketch)
    return step, pricing.price(step.plan, limits, sketch if device in LAUNCHING else None)


def _sketch(device: str, precision: str, limits: Limits) -> SketchBackend:
    gpu = limits if limits.arch else NO_GPU
    return SketchBackend(precision, gpu.arch, device, gpu.multiprocessors)


def _recording(workload: Workload, device: str, precision: str, limits: Limits) -> Recording:
    return Step(workload, _sketch(device, precision, limits)).plan.recording


def _saved(workload: Workload, device: str, precision: str, limits: Limits, fusion: str) -> int:
    """Bytes of a step with one fusion off, beyond those with it on, the others as they are."""
    others = tuple(name for name in workload.without if name != fusion)
    on, off = (
        pricing.step_bytes(
            _recording(replace(workload, without=without), device, precision, limits)
        )
        for without in (others, (*others, fusion))
    )
    return off - on


def _bytes_an_image(recording: Recording, batch: int) -> BytesAnImage:
    own, narrow = (pricing.step_bytes(recording, names) for names in (frozenset(), NARROW))
    return BytesAnImage(own / batch, narrow / batch)


# -- text -----------------------------------------------------------------------------------------


def to_text(report: PlanReport) -> str:
    """Calls with their kernels, the arena, and what it adds up to."""
    parts = (_head(report), _calls(report), _arena(report), _summary(report))
    return "\n".join(line for part in parts for line in (*part, "")).rstrip() + "\n"


def _head(report: PlanReport) -> Iterator[str]:
    yield report.title()
    yield f"limits of {report.limits}"


def _calls(report: PlanReport) -> Iterator[str]:
    wide = max(len(call.label) for call in report.calls) + 2
    yield (
        f"{'':>4} {'call':<{wide}}{'method':<24}{'MFLOP':>11}{'MB':>10}{'floor us':>10}  "
        "bound by  buffers"
    )
    for number, call in enumerate(report.calls):
        buffers = ", ".join(f"{name} {shape}" for name, shape in call.buffers.items())
        yield (
            f"{number:>4} {call.label:<{wide}}{call.method:<24}{call.flops / 1e6:>11,.1f}"
            f"{call.bytes / 1e6:>10,.2f}{call.floor * 1e6:>10,.1f}  {call.bound:<8}  {buffers}"
        )
        for kernel in call.kernels:
            grid = "x".join(map(str, kernel.grid))
            yield (
                f"{'':>4}   {kernel.kernel}: {grid} blocks of {kernel.threads} threads"
                f"{_tiling(kernel)}"
            )
        if call.stream or call.waits is not None:
            after = "" if call.waits is None else f", after call {call.waits}"
            yield f"{'':>4}   in stream {call.stream}{after}"


def _tiling(kernel: Launched) -> str:
    """``, tiles of 128x64, 2.18 waves``."""
    if kernel.tile is None:
        return ""
    return f", tiles of {kernel.tile[0]}x{kernel.tile[1]}, {kernel.waves:.2f} waves"


def _arena(report: PlanReport) -> Iterator[str]:
    yield (
        f"arena of {gib(report.arena_bytes)}, in which at most {gib(report.live_bytes)} are in use "
        f"at a time ({gib(report.one_stream_bytes)} in one stream); buffers with the calls that "
        "use them:"
    )
    wide = max((len(buffer.name) for buffer in report.buffers), default=0) + 2
    yield f"{'buffer':<{wide}}{'MB':>10}{'offset':>15}{'calls':>12}  shape"
    for buffer in report.buffers:
        calls, shape = f"{buffer.first}..{buffer.last}", "x".join(map(str, buffer.shape))
        yield (
            f"{buffer.name:<{wide}}{buffer.bytes / 1e6:>10,.2f}{buffer.offset:>15,}{calls:>12}  "
            f"{shape} {buffer.dtype}"
        )


def _summary(report: PlanReport) -> Iterator[str]:
    moved = sum(call.bytes for call in report.calls)
    work = sum(call.floor for call in report.calls if call.bound == "FLOPs")
    yield (
        f"work       {report.flops / report.batch / 1e9:.3f} GFLOP and "
        f"{moved / report.batch / 1e6:.2f} MB an image; {report.flops / 1e9:,.0f} GFLOP and "
        f"{moved / 1e9:,.2f} GB a step"
    )
    yield (
        f"floor      {report.floor * 1e3:,.2f} ms a step, {report.batch / report.floor:,.0f} "
        f"images/s; {work / report.floor:.0%} of it bound by FLOPs"
    )
    kernels = f", {report.kernels} kernels" if report.kernels else ""
    yield f"calls      {len(report.calls)}{kernels}"
    beside = sum(call.stream for call in report.calls)
    if beside:
        waits = sum(call.waits is not None for call in report.calls)
        yield (
            f"streams    {beside} calls in stream 1 run beside others; {waits} wait for the other "
            f"stream, and the end for call {report.joined}"
        )
    if report.frozen_flops:
        yield (
            f"frozen     {report.frozen_flops / 1e9:.3f} GFLOP an image in the layers below, once "
            f"for each of {report.views} views"
        )
    yield f"bytes      {'MB an image':<20}{'this precision':>16}{'in bf16':>10}"
    for name, size in report.bytes_an_image.items():
        yield f"           {name:<20}{size.own / 1e6:>16.2f}{size.in_bf16 / 1e6:>10.2f}"
    if report.slice_bytes:
        an_image = report.slice_bytes / report.batch / 1e6
        yield f"slices     {an_image:.2f} MB an image of partial sums, beyond these bytes"
    verbs = {True: "would save", False: "saves"}
    there = report.saved_bytes.items()
    fusions = [(f"{name} {verbs[name in report.without]}", saved) for name, saved in there]
    fusions += [(f"not there: {name}, would save", n) for name, n in report.missing_bytes.items()]
    fusions = [(text, saved) for text, saved in fusions if saved]
    for number, (text, saved) in enumerate(fusions):
        label = "" if number else "fusions"
        yield f"{label:<11}{text} {saved / report.batch / 1e6:.2f} MB an image"
    yield report.memory_text()
