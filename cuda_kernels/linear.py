"""Fully connected layers: see linear.cu and linear_mma.cu.

``x [N, I]``, ``weight [O, I]``, ``out`` and ``grad [N, O]`` are float32, or bf16 (uint16 arrays of
bits) with ``precision="bf16"``, where ``out`` may be float32 all the same; ``bias [O]`` and the
gradients of parameters are always float32.
Precisions tf32 and bf16x3 are for products on tensor cores; fp32 stands in where those do not suit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuda_kernels import dropout, tensor_cores
from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision
from cuda_kernels.tiles import Tile

SIMPLE, MMA = (Path(__file__).with_name(name) for name in ("linear.cu", "linear_mma.cu"))


@dataclass(frozen=True)
class Product:
    """``N x I`` inputs, ``O`` outputs, and the bytes of all matrices involved."""

    n: int
    i: int
    o: int
    bytes: int
    aligned: bool = True

    @property
    def flops(self) -> int:
        return 2 * self.n * self.i * self.o

    def sizes(self) -> dict[str, int]:
        return {"I": self.i, "O": self.o}


@dataclass(frozen=True)
class ColumnSums:
    n: int
    o: int
    bytes: int

    @property
    def flops(self) -> int:
        return self.n * self.o


def _tiles(tile: tuple[int, int], rows: str, columns: str) -> Callable[[Any], Grid]:
    """One block for every tile (its rows and columns) of the result, whose sides are named."""

    def grid(product: Product) -> Grid:
        return (-(-getattr(product, columns) // tile[1]), -(-getattr(product, rows) // tile[0]), 1)

    return grid


def _versions(operation: str, rows: str, columns: str, terms: str) -> list[Kernel]:
    def simple(name: str, precision: Precision) -> Kernel:
        why = "64x64 tiles in shared memory, 4x4 sums a thread, any shape"
        grid = _tiles((64, 64), rows, columns)
        return Kernel(name, operation, 1, SIMPLE, why, 256, grid, precision=precision)

    def flat(tile: Tile) -> Callable[[Product], Grid]:
        tiles = _tiles((tile.rows, tile.columns), rows, columns)
        return lambda product: (math.prod(tiles(product)), 1, 1)

    return [
        simple(operation, "fp32"),
        simple(f"{operation}_bf16", "bf16"),
        *tensor_cores.versions(operation, MMA, flat, operator.attrgetter(terms)),
    ]


def _bias_gradient(name: str, precision: Precision) -> Kernel:
    def grid(sums: ColumnSums) -> Grid:
        return (-(-sums.o // 32), 1, 1)

    why = "32 columns a block, eight slices of rows, added in order"
    return Kernel(name, "linear_bias_gradient", 1, SIMPLE, why, 256, grid, precision=precision)


def _wide() -> Kernel:
    why = "the same with a float32 result, for logits: too few columns for tensor cores"
    common = ("linear_forward_wide", 1, SIMPLE, why, 256, _tiles((64, 64), "n", "o"))
    return Kernel("linear_forward_wide_bf16", *common, precision="bf16")


KERNELS = (
    *_versions("linear_forward", "n", "o", "i"),
    _wide(),
    *_versions("linear_input_gradient", "n", "i", "o"),
    *_versions("linear_weight_gradient", "o", "i", "n"),
    _bias_gradient("linear_bias_gradient", "fp32"),
    _bias_gradient("linear_bias_gradient_bf16", "bf16"),
)


def forward(
    runtime: Runtime,
    x: Buffer,
    weight: Buffer,
    bias: Buffer | None,
    out: Buffer,
    *,
    relu: bool = False,
    rng: Buffer | None = None,
    rate: float = 0.0,
    layer: int = 0,
    precision: Precision = "fp32",
) -> None:
    """``out = x @ weight.T + bias``, then ReLU if asked, then, given ``rng``, ``dropout.dropout``.

    The result of ReLU is not rounded to bf16 before it is divided by ``1 - rate``. Logits that are
    float32 where ``x`` is bf16 are not dropped.
    """
    arguments = {"x": x, "weight": weight, "bias": bias, "out": out, "with_relu": relu}
    if x.dtype == np.uint16 and out.dtype == np.float32:
        if rng is not None:
            raise ValueError("float32 results of bf16 operands have no dropout")
        _run(runtime, "linear_forward_wide", x, weight, out, arguments, precision)
    else:
        arguments |= {"rng": rng, **dropout.settings(rate, layer)}
        _run(runtime, "linear_forward", x, weight, out, arguments, precision)


def input_gradient(
    runtime: Runtime,
    grad: Buffer,
    weight: Buffer,
    grad_x: Buffer,
    out: Buffer | None = None,
    argmax: Buffer | None = None,
    *,
    rate: float = 0.0,
    precision: Precision = "fp32",
) -> None:
    """``grad_x = grad @ weight``.

    Given ``out [N, I]``, which a ReLU below made and which came in as ``x``, the gradient before
    that ReLU; if dropout of ``rate`` followed it, before both: what is positive was kept. With
    ``argmax [N, I]``, before ReLU and a 2x2 max-pool, ``[N, P, Q, C]``.
    """
    x = grad_x if out is None else out
    map_h, map_w, c = grad_x.shape[1:] if argmax is not None else (2, 2, x.shape[1])
    h, w = map_h // 2, map_w // 2
    pooled = (grad_x.shape[0], h * w * c) if argmax is not None else grad_x.shape
    if pooled != x.shape or (argmax is not None and argmax.shape != x.shape):
        raise ValueError(f"grad_x has shape {grad_x.shape}, which does not fit out, {x.shape}")
    arguments = {"grad": grad, "weight": weight, "grad_x": grad_x, "out": out, "argmax": argmax}
    arguments |= {"h": h, "w": w, "c": c, "map_h": map_h, "map_w": map_w}
    arguments["scale"] = dropout.scale(rate)
    others = () if out is None else (grad_x, argmax)
    _run(runtime, "linear_input_gradient", x, weight, grad, arguments, precision, others)


def weight_gradient(
    runtime: Runtime,
    x: Buffer | None,
    grad: Buffer,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
    *,
    accumulate: bool = False,
    precision: Precision = "fp32",
) -> None:
    """``grad_weight = grad.T @ x`` and ``grad_bias``, the column sums of ``grad``; or adds to both.

    What is ``None`` is not computed; ``x`` is read only for ``grad_weight``.
    """
    if grad_weight is not None:
        arguments = {"x": x, "grad": grad, "grad_weight": grad_weight, "grad_bias": grad_bias}
        arguments["accumulate"] = accumulate
        _run(runtime, "linear_weight_gradient", x, grad_weight, grad, arguments, precision)
    elif grad_bias is not None:
        n, o = grad.shape
        sums = ColumnSums(n, o, grad.nbytes + grad_bias.nbytes)
        arguments = {"grad": grad, "grad_bias": grad_bias, "n": n, "o": o, "accumulate": accumulate}
        runtime.run("linear_bias_gradient", sums, arguments, precision=precision)


def _run(
    runtime: Runtime,
    operation: str,
    x: Buffer,
    weight: Buffer,
    out: Buffer,
    arguments: dict[str, Any],
    precision: Precision,
    others: tuple[Buffer | None, ...] = (),
) -> None:
    """Launch a product; ``x``, ``weight`` and ``out`` have the shapes of the layer's own.

    ``others`` take part, too.
    """
    (n, i), o = x.shape, weight.shape[0]
    if weight.shape != (o, i) or out.shape != (n, o):
        raise ValueError(f"{operation}: {x.shape}, {weight.shape} and {out.shape} do not fit")
    buffers = [x, weight, out, *(buffer for buffer in others if buffer is not None)]
    moved = sum(buffer.nbytes for buffer in buffers)
    product = Product(n, i, o, moved, tensor_cores.aligned(runtime, *buffers))
    runtime.run(operation, product, {**arguments, "n": n, "in": i, "o": o}, precision=precision)


def to_bf16(array: np.ndarray) -> np.ndarray:
    """float32 to bf16 bits (uint16), to nearest, ties to even; for what lies in host memory."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(array), np.uint32(0x7FFF), rounded).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """bf16 bits (uint16) as float32, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
