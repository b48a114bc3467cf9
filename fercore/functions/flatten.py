"""From feature maps to vectors, without moving anything."""

from __future__ import annotations

import math

from fercore.autograd import Function, Tensor
from fercore.backends.interface import Buffer


class Flatten(Function):
    """``[N, H, W, C] -> [N, H * W * C]``: a view of the same buffer."""

    def forward(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        shape = (x.shape[0], math.prod(x.shape[1:]))
        view = self.backend.view(x.data, 0, shape, x.data.dtype)
        return Tensor(self.backend, view, view_of=x)

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        return (self.backend.view(grad, 0, self.shape, grad.dtype),)
