"""``fercore-train profile``: which step, on what, against which limits."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from fercore import backends, costs, memory, plan_report, profile_report, profiling, trace
from fercore.backends.device import DeviceBackend
from fercore.backends.interface import Backend
from fercore.config import Study, read_study, with_settings
from fercore.costs import GPUS, Limits
from fercore.errors import FercoreError, did_you_mean
from fercore.freeze import STRATEGIES
from fercore.memory import Workload
from fercore.profiling import Step
from fercore.protocol import make_backend
from fercore.timing import Clock, copy_rate, device_rates, product_rate
from fercore.validation import decode

LIMIT_SECONDS = 1.0
"""For measuring each of a machine's limits."""
ASSUMED = "h200"
"""The GPU whose limits are taken where there is none."""


def run(options: Namespace, recipe: dict[str, Any]) -> None:
    """List a step (``--plan``), or run and measure it; ``recipe`` are settings that were given."""
    study = _study(options)
    workload = make_workload(study, options, recipe)
    if options.plan:
        if options.trace:
            raise FercoreError("--plan runs nothing, so there is nothing to --trace; remove one")
        device, backend = _to_plan_for(study)
        bounds = limits(options.limits, device, backend)
        report = plan_report.make(workload, device, study.precision, bounds)
        sys.stdout.write(report.to_json() if options.json else plan_report.to_text(report))
        return
    _measure(workload, make_backend(study), study.precision, options)


def make_workload(study: Study, options: Namespace, recipe: dict[str, Any]) -> Workload:
    """The step that the options describe; FercoreError for a wrong one."""
    names = (*STRATEGIES, *(own.name for own in study.strategy))
    if options.strategy not in names:
        hint = did_you_mean(options.strategy, names)
        raise FercoreError(f"there is no strategy {options.strategy!r}; {hint}")
    strategy = study.strategy_named(options.strategy)
    settings: dict[str, Any] = dict(recipe)
    if options.batch is not None:
        settings["batch_size"] = options.batch
    chosen = with_settings(study.recipe_of(strategy), settings, "command line [recipe]")
    return Workload(
        study.model,
        strategy,
        chosen,
        max(options.images, chosen.batch_size),
        without=tuple(name for name in (options.without_fusion or "").split(",") if name),
        classes=study.classes,
    )


def _study(options: Namespace) -> Study:
    names = ("model", "device", "precision")
    flags = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.config is None:
        return decode(flags, Study, "command line")  # without data, but not on drawn faces
    return read_study(Path(options.config), flags)


def _to_plan_for(study: Study) -> tuple[str, Backend | None]:
    """A backend's name, and the backend if it can run here; a plan needs none but for limits."""
    backends.check_name(study.device)
    if study.device != "auto":
        backends.check_precision(study.device, study.precision)
    if study.device == "emulated":
        return study.device, None
    try:
        backend = make_backend(study)
    except FercoreError:
        if study.device == "auto":
            raise
        return study.device, None
    return backend.name, backend


def limits(name: str | None, device: str, backend: Backend | None) -> Limits:
    """Those of a known GPU, or of this machine ("machine").

    Without a name they are those of the GPU at hand; of an H200 where a GPU is only planned for;
    else of this machine's processor. Raises FercoreError for an unknown name, or if the machine's
    own cannot be measured.
    """
    if name is None and device == "cuda" and backend is not None:
        return costs.known_gpu(str(backend.build_info()["gpu"])) or measured_limits(backend)
    if name is None and device not in ("cpu", "reference"):
        return replace(GPUS[ASSUMED], source=f"assumed; {GPUS[ASSUMED].source}")
    if name in ("machine", None):
        return measured_limits(backend or backends.get("cpu"))
    if name not in GPUS:
        raise FercoreError(
            f"there are no limits {name!r}; {did_you_mean(name, ('machine', *GPUS))}"
        )
    return GPUS[name]


def measured_limits(backend: Backend) -> Limits:
    """A large product and a large copy, as they run here."""
    if isinstance(backend, DeviceBackend) and backend.name == "cuda":
        rates = device_rates(backend, Clock.of(backend, emulated=False))
        gpu, runtime = str(backend.build_info()["gpu"]), backend.runtime
        products = {"fp32": rates["fp32"]}
        of_gpu = int(runtime.arch), int(runtime.multiprocessors)
        return Limits(gpu, "measured now", rates["copy"], products, *of_gpu)
    product = product_rate(backend, LIMIT_SECONDS)
    name = f"this machine's {backend.name}"
    return Limits(name, "measured now", copy_rate(LIMIT_SECONDS), {"fp32": product})


def _measure(workload: Workload, backend: Backend, precision: str, options: Namespace) -> None:
    memory.refuse_what_does_not_fit([workload], backend, precision)
    bounds = limits(options.limits, backend.name, backend)
    step = Step(workload, backend)
    measured = profiling.measure(step, options.seconds)
    _, calls = plan_report.priced(workload, backend.name, precision, bounds)
    live = step.plan.recording.live_bytes()
    if options.trace:
        title = f"{workload.model}, {workload.strategy.name}, batch {workload.recipe.batch_size}"
        trace.write(Path(options.trace), title, calls, profiling.spans(step), live)
    report = profile_report.make(
        plan_report.about(step, backend.name, precision, bounds),
        calls,
        live,
        measured,
        _again(workload, backend.name, precision, options),
    )
    sys.stdout.write(report.to_json() if options.json else profile_report.to_text(report))


def _again(workload: Workload, device: str, precision: str, options: Namespace) -> list[str]:
    """The command line of the same measurement, short."""
    line = ["fercore-train", "profile", *([options.config] if options.config else [])]
    line += ["--model", workload.model, "--strategy", workload.strategy.name]
    line += ["--batch", str(workload.recipe.batch_size), "--device", device]
    line += ["--precision", precision, "--images", str(workload.images), "--seconds", "0"]
    line += [word for one in options.settings or () for word in ("--set", one)]
    if workload.without:
        line += ["--without-fusion", ",".join(workload.without)]
    return line
