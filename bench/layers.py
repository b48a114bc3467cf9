"""Time of every convolution of a model, in every direction, by Winograd's algorithm and directly.

The algorithms (and PyTorch, if it is the opponent) take turns; a figure is the least time of many,
which other work on the machine hardly disturbs. GFLOP/s are those of the direct sums, whatever was
computed instead, and ``of limit`` compares them with a large matrix product in the same run: above
100 % no direct algorithm can go.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fercore import backends
from fercore.backends.interface import Backend, Buffer
from fercore.models import ARCHITECTURES
from fercore.timing import least_times, product_rate

DIRECTIONS = ("forward", "input_gradient", "weight_gradient")
ALGORITHMS = ("auto", "direct", "winograd")
"""What the cpu backend is told for each of our columns."""

Calls = dict[str, Callable[[], None]]


@dataclass(frozen=True)
class Layer:
    """A convolution ``in_channels -> out_channels`` of square images."""

    name: str
    size: int
    in_channels: int
    out_channels: int
    kernel: int
    padding: int
    pooled: bool

    @property
    def out_size(self) -> int:
        return self.size + 2 * self.padding - self.kernel + 1

    def flops(self, batch: int) -> int:
        """Of one direction, computed directly."""
        depth = self.kernel**2 * self.in_channels
        return 2 * batch * self.out_size**2 * depth * self.out_channels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--model", default="svgg10", choices=list(ARCHITECTURES))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0, help="for a layer and direction")
    parser.add_argument(
        "--against", choices=["torch"], help="the opponent, which must be installed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    ours = {name: backends.get("cpu", convolution=name) for name in ALGORITHMS}
    limit = product_rate(ours["auto"], arguments.seconds) / 1e9
    if not arguments.json:
        print(f"limit (matrix product): {limit:.0f} GFLOP/s")
    rows = []
    for layer in layers(arguments.model):
        calls = [layer_calls(ours[name], layer, arguments.batch) for name in ALGORITHMS]
        contestants = dict(zip(ALGORITHMS, calls, strict=True))
        if arguments.against == "torch":
            from bench.torch_layers import torch_calls

            contestants["torch"] = torch_calls(layer, arguments.batch)
        for direction in DIRECTIONS:
            if direction == "input_gradient" and layer.in_channels == 1:
                continue  # nobody asks for the images' gradient
            turns = {name: calls[direction] for name, calls in contestants.items()}
            times = least_times(turns, arguments.seconds)
            rows.append(summarise(layer, direction, times, arguments.batch, limit))
            if not arguments.json:
                print(to_text(rows[-1]), flush=True)
    if arguments.json:
        settings = {"benchmark": "layers", "model": arguments.model, "batch": arguments.batch}
        print(json.dumps({**settings, "limit_gflops": round(limit, 1), "rows": rows}))


def layers(model: str) -> list[Layer]:
    """The convolutions of a model, from the image on."""
    result: list[Layer] = []
    size, channels = 48, 1
    for number, block in enumerate(ARCHITECTURES[model].blocks, 1):
        for i in range(1, block.convolutions + 1):
            layer = Layer(
                f"conv{number}_{i}",
                size,
                channels,
                block.channels,
                block.kernel,
                block.padding,
                pooled=i == block.convolutions,
            )
            result.append(layer)
            size, channels = layer.out_size, block.channels
        size //= 2
    return result


def layer_calls(backend: Backend, layer: Layer, batch: int) -> Calls:
    """Each direction of a layer on random data, by name."""
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> Buffer:
        return backend.from_host(generator.standard_normal(shape, dtype=np.float32))

    size, out = layer.size, layer.out_size
    x = draw(batch, size, size, layer.in_channels)
    weight = draw(layer.out_channels, layer.kernel, layer.kernel, layer.in_channels)
    bias, grad = draw(layer.out_channels), draw(batch, out, out, layer.out_channels)
    grad_x, grad_weight, grad_bias = (backend.empty(a.shape) for a in (x, weight, bias))
    after = out // 2 if layer.pooled else out
    y = backend.empty((batch, after, after, layer.out_channels))
    argmax = backend.empty(y.shape, "uint8") if layer.pooled else None
    padding = layer.padding
    return {
        "forward": lambda: backend.conv2d_forward(
            x,
            weight,
            bias,
            y,
            argmax,
            padding=padding,
            epilogue="relu_pool" if layer.pooled else "relu",
        ),
        "input_gradient": lambda: backend.conv2d_input_gradient(
            grad, weight, grad_x, padding=padding
        ),
        "weight_gradient": lambda: backend.conv2d_weight_gradient(
            x, grad, grad_weight, grad_bias, padding=padding
        ),
    }


def summarise(
    layer: Layer, direction: str, times: dict[str, float], batch: int, limit: float
) -> dict[str, Any]:
    rates = {name: layer.flops(batch) / seconds / 1e9 for name, seconds in times.items()}
    return {
        **asdict(layer),
        "direction": direction,
        "ms": {name: round(seconds * 1e3, 3) for name, seconds in times.items()},
        "gflops": {name: round(rate, 1) for name, rate in rates.items()},
        "of_limit": {name: round(rate / limit, 3) for name, rate in rates.items()},
    }


def to_text(row: dict[str, Any]) -> str:
    """``conv1_2 48  64->64  forward  auto 9.87 ms 290 GFLOP/s 123 % | ...``"""
    shape = f"{row['size']:>3} {row['in_channels']:>4}->{row['out_channels']:<4}"
    columns = (
        f"{name} {ms:8.2f} ms {row['gflops'][name]:5.0f} GFLOP/s {row['of_limit'][name]:5.0%}"
        for name, ms in row["ms"].items()
    )
    return f"{row['name']} {shape} {row['direction']:<16}{' | '.join(columns)}"
