"""ReLU by itself: what networks have as an epilogue, for measuring what the epilogue saves."""

from __future__ import annotations

from fercore.autograd import Function, Tensor
from fercore.backends.interface import Buffer


class Relu(Function):
    """``max(x, 0)``, any shape; a NaN becomes 0."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.new(x.shape)
        # The gradient of ReLU lets through what comes in where its output is positive: here, x.
        self.backend.epilogue_gradient(x.data, x.data, None, out.data, epilogue="relu")
        if any(self.wanted):
            self.save(out=out)
        return out

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        grad_x = self.new_grad(grad.shape)
        self.backend.epilogue_gradient(grad, self.saved("out"), None, grad_x, epilogue="relu")
        return (grad_x,)
