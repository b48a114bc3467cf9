"""The directions of one convolution in PyTorch, fp32 on a CPU, channels last."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from bench.layers import Layer


def torch_calls(layer: Layer, batch: int) -> dict[str, Callable[[], None]]:
    """Each direction by name; as PyTorch has it, ReLU and pooling are passes of their own."""
    torch.set_num_threads(int(os.environ.get("FERCORE_THREADS", len(os.sched_getaffinity(0)))))

    def draw(channels: int, *shape: int) -> torch.Tensor:
        return torch.randn(shape[0], channels, *shape[1:]).contiguous(
            memory_format=torch.channels_last
        )

    size, out, kernel, padding = layer.size, layer.out_size, layer.kernel, layer.padding
    x = draw(layer.in_channels, batch, size, size)
    weight = draw(layer.in_channels, layer.out_channels, kernel, kernel)
    bias = torch.randn(layer.out_channels)
    grad = draw(layer.out_channels, batch, out, out)

    def forward() -> None:
        with torch.no_grad():
            y = functional.conv2d(x, weight, bias, padding=padding).relu_()
            if layer.pooled:
                functional.max_pool2d(y, 2, return_indices=True)

    def backward(*wanted: bool) -> None:
        torch.ops.aten.convolution_backward(
            grad, x, weight, bias.shape, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, wanted
        )

    return {
        "forward": forward,
        "input_gradient": lambda: backward(True, False, False),
        "weight_gradient": lambda: backward(False, True, True),
    }
