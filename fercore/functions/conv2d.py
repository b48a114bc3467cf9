"""Two-dimensional convolution with bias, ReLU and 2x2 max-pool as epilogues."""

from __future__ import annotations

from fercore.autograd import Tensor
from fercore.backends.interface import Buffer, Epilogue
from fercore.functions.epilogue import EpilogueFunction


class Conv2d(EpilogueFunction):
    """``epilogue(x * weight + bias)``.

    ``x [N, H, W, C]``, ``weight [O, KH, KW, C]``, ``bias [O]`` or None.
    Raises ValueError when the shapes do not fit, or the image is smaller than the kernel.
    """

    def __init__(
        self,
        *,
        stride: int = 1,
        padding: int = 0,
        epilogue: Epilogue = "none",
        fuse_gradient: bool = True,
        layer: str = "",
    ) -> None:
        super().__init__(epilogue, fuse_gradient, layer)
        self.geometry = {"stride": stride, "padding": padding}

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        before = conv2d_shape(x.shape, weight.shape, **self.geometry)
        pooled = self.epilogue == "relu_pool"
        out = self.new(pool_shape(before, 2, 2) if pooled else before)
        argmax = self.new(out.shape, "uint8") if pooled and any(self.wanted) else None
        self.backend.conv2d_forward(
            x.data,
            weight.operand,
            None if bias is None else bias.data,
            out.data,
            None if argmax is None else argmax.data,
            **self.geometry,
            epilogue=self.epilogue,
        )
        want_x, want_weight, _ = self.wanted
        self.shapes = x.shape, weight.shape
        if want_x:
            self.save(weight=weight)
        if want_weight:
            self.save(x=x)
        self.save_epilogue(before, out, argmax)
        return out

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        want_x, want_weight, want_bias = self.wanted
        x_shape, weight_shape = self.shapes
        backend = self.backend
        grad = self.gradient_before(grad)
        grad_x = grad_weight = grad_bias = None
        if want_x:
            below = self.below(x_shape)
            grad_x = self.new_grad(below.shape)
            backend.conv2d_input_gradient(
                grad, self.saved("weight"), grad_x, below.out, below.argmax, **self.geometry
            )
        if want_weight or want_bias:  # last: the update follows while caches hold what it reads
            slices = self._slices()
            grad_weight = backend.empty((*slices, *weight_shape)) if want_weight else None
            grad_bias = backend.empty((*slices, *weight_shape[:1])) if want_bias else None
            x = self.saved("x") if want_weight else None
            backend.conv2d_weight_gradient(x, grad, grad_weight, grad_bias, **self.geometry)
        return grad_x, grad_weight, grad_bias

    def _slices(self) -> tuple[int, ...]:
        """The leading axis of the parameters' gradients, if these are computed, and may be left,
        in slices."""
        _, want_weight, want_bias = self.wanted
        _, may_weight, may_bias = self.in_slices
        if not (want_weight and may_weight and (may_bias or not want_bias)):
            return ()
        x, weight = self.shapes
        slices = self.backend.conv2d_gradient_slices(x, weight, **self.geometry)
        return (slices,) if slices > 1 else ()


def conv2d_shape(
    x: tuple[int, ...], weight: tuple[int, ...], *, stride: int, padding: int
) -> tuple[int, int, int, int]:
    """``[N, P, Q, O]`` before the epilogue; ValueError says what does not fit."""
    n, height, width, channels = x
    outputs, kernel_height, kernel_width, weight_channels = weight
    if channels != weight_channels:
        raise ValueError(f"input has {channels} channels, the weight takes {weight_channels}")
    p = (height + 2 * padding - kernel_height) // stride + 1
    q = (width + 2 * padding - kernel_width) // stride + 1
    if p < 1 or q < 1:
        raise ValueError(
            f"a {kernel_height}x{kernel_width} kernel does not fit a {height}x{width} input "
            f"with padding {padding}"
        )
    return n, p, q, outputs


def pool_shape(x: tuple[int, ...], window: int, stride: int) -> tuple[int, int, int, int]:
    """``[N, P, Q, C]`` of a max-pool (floor); ValueError if the window does not fit."""
    n, height, width, channels = x
    if height < window or width < window:
        raise ValueError(f"a {window}x{window} pool does not fit a {height}x{width} map")
    return n, (height - window) // stride + 1, (width - window) // stride + 1, channels
