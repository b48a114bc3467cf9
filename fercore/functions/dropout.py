"""Dropout whose mask is recomputed, never stored."""

from __future__ import annotations

from typing import Any

from fercore.autograd import Function, Tensor
from fercore.backends.interface import Buffer


class Dropout(Function):
    """Zero each entry with probability ``rate`` and divide the rest by ``1 - rate``.

    ``rng`` is the step's random state; ``number`` tells the dropout layers of a network apart.
    """

    def __init__(self, rng: Buffer, *, rate: float, number: int, layer: str = "") -> None:
        super().__init__(layer)
        self.rng = rng
        self.settings: dict[str, Any] = {"rate": rate, "layer": number}

    def forward(self, x: Tensor) -> Tensor:
        out = self.new(x.shape)
        self.backend.dropout(x.data, self.rng, out.data, **self.settings)
        return out

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        grad_x = self.new_grad(grad.shape)
        self.backend.dropout(grad, self.rng, grad_x, **self.settings)
        return (grad_x,)
