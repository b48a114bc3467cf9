"""Which parameters may move under each strategy.

What a mask holds still stays bit for bit: it has no gradient, no weight decay, no momentum; a
frozen batch normalisation keeps its statistics; a dropout with nothing trainable below it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fercore.errors import FercoreError, did_you_mean
from fercore.masks import GradientMask

if TYPE_CHECKING:
    from fercore.nn import Model


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a network is adapted: what it starts from, what it trains on, what may move.

    Attributes:
        name: how runs and tables call it
        starts_from: random, or the name of the strategy whose best network it starts from
        trains_on: source, target, or both training parts together
        trainable: which parameters may move: all, fc (every fully connected layer), last_conv (with
            its batch normalisation), or patterns over parameter names such as conv4_*; * and ?
            match as in a shell
        channels: pattern -> output channels that may move; the others of that parameter do not
        recipe: settings that differ from the study's recipe
    """

    name: str
    starts_from: str = "random"
    trains_on: Literal["source", "target", "both"] = "target"
    trainable: tuple[str, ...] = ("all",)
    channels: Mapping[str, tuple[int, ...]] = {}
    recipe: Mapping[str, Any] = {}


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("BL", "random", "source"),
        Strategy("FC", "BL", "target", ("fc",)),
        Strategy("FC+CL", "BL", "target", ("fc", "last_conv")),
        Strategy("RE", "BL", "target"),
        Strategy("FU", "random", "both"),
        Strategy("TO", "random", "target"),
    )
}
"""Those of Tannugi, Britto and Koerich (2019), and TO (target only), which is ours."""


def apply(model: Model, strategy: Strategy | str) -> None:
    """Set the mask of every parameter of ``model``; idempotent, whatever the masks were.

    Raises FercoreError when a pattern matches no parameter, a channel does not exist, or
    nothing is left to train.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            hint = did_you_mean(strategy, STRATEGIES)
            raise FercoreError(f"there is no strategy {strategy!r}; {hint}")
        strategy = STRATEGIES[strategy]
    parameters = model.parameters()
    trainable = {
        name for pattern in strategy.trainable for name in _matches(model, pattern, strategy.name)
    }
    masks: dict[str, Any] = {name: name in trainable for name in parameters}
    for pattern, channels in strategy.channels.items():
        for name in _matches(model, pattern, strategy.name):
            masks[name] = _channel_entries(channels, parameters[name].shape[0], name, strategy.name)
    if not any(_any(entries) for entries in masks.values()):
        raise FercoreError(f"strategy {strategy.name}: nothing is left to train")
    for name, entries in masks.items():
        parameters[name].mask = GradientMask.of(entries, parameters[name].shape)


def _matches(model: Model, pattern: str, strategy: str) -> list[str]:
    parameters = model.parameters()
    if pattern == "all":
        return list(parameters)
    if pattern == "fc":
        prefixes = [layer.name for layer in model.layers if layer.kind == "linear"]
    elif pattern == "last_conv":
        prefixes = [layer.name for layer in model.layers if layer.kind == "conv"][-1:]
    else:
        matches = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matches:
            hint = did_you_mean(pattern, ["all", "fc", "last_conv", *parameters])
            raise FercoreError(
                f"strategy {strategy}: {pattern!r} matches no parameter of {model.name}; {hint}"
            )
        return matches
    return [name for name in parameters if name.split(".")[0] in prefixes]


def _channel_entries(channels: tuple[int, ...], count: int, name: str, strategy: str) -> Any:
    import numpy as np

    wrong = [channel for channel in channels if not 0 <= channel < count]
    if wrong:
        raise FercoreError(
            f"strategy {strategy}: {name} has output channels 0 to {count - 1}, not {wrong[0]}"
        )
    entries = np.zeros(count, dtype=np.uint8)
    entries[list(channels)] = 1
    return entries


def _any(entries: Any) -> bool:
    return bool(entries) if isinstance(entries, bool) else bool(entries.any())
