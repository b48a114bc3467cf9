"""Which of its buffers each method of a backend writes; the others that it is given it only reads.

Calls that touch no buffer that another one writes may run in any order, or side by side.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fercore.backends.interface import Backend, Buffer


@dataclass(frozen=True)
class Written:
    """Names of a method's arguments.

    Attributes:
        anew: written, wholly or in part, whatever they hold.
        in_place: read and written.
    """

    anew: frozenset[str] = frozenset()
    in_place: frozenset[str] = frozenset()


def _written(anew: str = "", in_place: str = "") -> Written:
    return Written(frozenset(anew.split()), frozenset(in_place.split()))


WRITTEN: Mapping[str, Written] = {
    "fill": _written("buffer"),
    "accumulate": _written(in_place="total"),
    "conv2d_forward": _written("out argmax"),
    "conv2d_input_gradient": _written("grad_x"),
    "conv2d_weight_gradient": _written("grad_weight grad_bias"),
    "epilogue_gradient": _written("grad_before"),
    "linear_forward": _written("out"),
    "linear_input_gradient": _written("grad_x"),
    "linear_weight_gradient": _written("grad_weight grad_bias"),
    "max_pool_forward": _written("out argmax"),
    "max_pool_backward": _written("grad_x"),
    "dropout": _written("out"),
    "batch_norm_forward": _written("out mean inverse_std", "running_mean running_variance"),
    "batch_norm_backward": _written("grad_x grad_weight grad_bias"),
    "advance": _written("indices rng rates", "cursor"),
    "gather": _written("out"),
    "scatter": _written("table"),
    "augment": _written("x y"),
    "softmax_cross_entropy": _written("grad_logits", "statistics"),
    "clip_gradients": _written("rates"),
    "sgd_update": _written("copy", "parameter velocity"),
    "adam_update": _written("copy", "parameter first second"),
}
"""By method, for all that compute."""


def operands(method: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a backend's method by name, defaults included."""
    bound = inspect.signature(getattr(Backend, method)).bind(None, *args, **kwargs)
    bound.apply_defaults()
    named = dict(bound.arguments)
    del named["self"]
    return named


def accesses(
    method: str, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[Buffer, bool]]:
    """The buffers that a call touches, each with whether it is written."""
    written = WRITTEN[method]
    for name, operand in operands(method, args, kwargs).items():
        for buffer in operand if isinstance(operand, list | tuple) else (operand,):
            if hasattr(buffer, "shape"):
                yield buffer, name in written.anew | written.in_place
