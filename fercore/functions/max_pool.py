"""Max-pooling with any window and stride."""

from __future__ import annotations

from fercore.autograd import Function, Tensor
from fercore.backends.interface import Buffer
from fercore.functions.conv2d import pool_shape


class MaxPool(Function):
    """The largest entry of each ``window x window`` patch of ``x [N, H, W, C]``.

    Rows and columns that do not fill a window are dropped.
    Raises ValueError when the window is larger than the map.
    """

    def __init__(self, *, window: int = 2, stride: int = 2, layer: str = "") -> None:
        super().__init__(layer)
        self.geometry = {"window": window, "stride": stride}

    def forward(self, x: Tensor) -> Tensor:
        out = self.new(pool_shape(x.shape, **self.geometry))
        argmax = None
        if any(self.wanted):
            argmax = self.new(out.shape, "uint8")
            self.save(argmax=argmax)
            self.shape = x.shape
        self.backend.max_pool_forward(
            x.data, out.data, None if argmax is None else argmax.data, **self.geometry
        )
        return out

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        grad_x = self.new_grad(self.shape)
        self.backend.max_pool_backward(grad, self.saved("argmax"), grad_x, **self.geometry)
        return (grad_x,)
