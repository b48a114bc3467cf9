"""Batch normalisation whose statistics move only in channels that may learn."""

from __future__ import annotations

from typing import Any

from fercore.autograd import Tensor
from fercore.backends.interface import Buffer, Epilogue
from fercore.functions.epilogue import EpilogueFunction


class BatchNorm(EpilogueFunction):
    """Normalise each channel (the last axis) of ``x``, scale, shift, and optionally ReLU.

    ``moving`` (uint8 ``[C]``, or None for no channel) marks the channels that use, and learn,
    the statistics of the batch. Elsewhere the running statistics are constants.
    """

    def __init__(
        self,
        running_mean: Tensor,
        running_variance: Tensor,
        moving: Buffer | None,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        epilogue: Epilogue = "none",
        fuse_gradient: bool = True,
        layer: str = "",
    ) -> None:
        super().__init__(epilogue, fuse_gradient, layer)
        self.running = running_mean, running_variance
        self.moving = moving
        self.settings: dict[str, Any] = {"momentum": momentum, "epsilon": epsilon}

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = self.new(x.shape)
        mean, inverse_std = (self.new(weight.shape, self.backend.dtype) for _ in range(2))
        running_mean, running_variance = self.running
        self.backend.batch_norm_forward(
            x.data,
            weight.data,
            bias.data,
            running_mean.data,
            running_variance.data,
            self.moving,
            out.data,
            mean.data,
            inverse_std.data,
            **self.settings,
            epilogue=self.epilogue,
        )
        if self.moving is not None:
            for statistic in self.running:
                statistic.changed()
        self.shapes = x.shape, weight.shape
        if any(self.wanted):
            self.save(weight=weight, mean=mean, inverse_std=inverse_std)
            if self._reads_x():
                self.save(x=x)
        self.save_epilogue(x.shape, out, None)
        return out

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        backend = self.backend
        x_shape, channels = self.shapes
        grad = self.gradient_before(grad)
        want_x, want_weight, want_bias = self.wanted
        grads = (
            self.new_grad(x_shape) if want_x else None,
            backend.empty(channels) if want_weight else None,
            backend.empty(channels) if want_bias else None,
        )
        backend.batch_norm_backward(
            self.saved("x") if self._reads_x() else None,
            grad,
            self.saved("weight"),
            self.saved("mean"),
            self.saved("inverse_std"),
            self.moving,
            *grads,
        )
        return grads

    def _reads_x(self) -> bool:
        want_x, want_weight, _ = self.wanted
        return want_weight or (want_x and self.moving is not None)
