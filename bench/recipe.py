"""What both sides do in a measured step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """As much of ``fercore.config.Recipe`` as a step reads, whose package may be missing."""

    optimizer: str = "sgd"
    learning_rate: float = 0.001
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    dropout: float = 0.5
    flip: float = 0.5
    shift: float = 3.0
    rotation: float = 10.0
    scale: float = 0.1
    cutout: int = 0
