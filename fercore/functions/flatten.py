"""From feature maps to vectors, without moving anything."""

from __future__ import annotations

import math

from fercore.autograd import Below, Function, Tensor
from fercore.backends.interface import Buffer


class Flatten(Function):
    """``[N, H, W, C] -> [N, H * W * C]``: a view of the same buffer."""

    def forward(self, x: Tensor) -> Tensor:
        self.shape = self.grad_shape = x.shape
        shape = (x.shape[0], math.prod(x.shape[1:]))
        return Tensor(self.backend, self._view(x.data, shape), view_of=x)

    def hand_over(self) -> Below | None:
        """That of the maps, seen as vectors; a map before a pool stays a map."""
        below = self.below(self.shape)
        if below.out is None:
            return None
        self.grad_shape = below.shape
        flat = (self.shape[0], math.prod(self.shape[1:]))
        out = self._view(below.out, flat)
        if below.argmax is None:
            return Below(flat, out)
        return Below(below.shape, out, self._view(below.argmax, flat))

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        return (self._view(grad, self.grad_shape),)

    def _view(self, buffer: Buffer, shape: tuple[int, ...]) -> Buffer:
        return self.backend.view(buffer, 0, shape, buffer.dtype)
