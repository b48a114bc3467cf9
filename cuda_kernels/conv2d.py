"""Convolutions, forward and backward, with their epilogues: see conv2d.cu and conv2d_mma.cu.

NHWC: ``x [N, H, W, C]``, ``weight [O, KH, KW, C]``, and the map before the epilogue ``[N, P, Q,
O]`` with ``P = (H + 2 padding - KH) // stride + 1``. They and their gradients are float32, or bf16
(uint16 arrays of bits) with ``precision="bf16"``; ``bias [O]`` and the gradients of parameters are
always float32. Precisions tf32 and bf16x3 are for products on tensor cores; fp32 stands in where
those do not suit. Buffers whose shapes do not fit raise ValueError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cuda_kernels import elementwise, sliced_sums, tensor_cores
from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision
from cuda_kernels.tiles import LARGE, Tile

SIMPLE, MMA = (Path(__file__).with_name(name) for name in ("conv2d.cu", "conv2d_mma.cu"))
THREADS = 256  # of a block in conv2d.cu
EDGE = 64  # of its tiles: rows and columns
DEPTH = 32  # terms at a time, at most
BLOCKS = 512  # enough for the largest GPUs; the same for all, so that all give the same bits
MOST_PARTIAL_SUMS = BLOCKS * (LARGE.columns + 1) * LARGE.rows  # of weight and bias
LEAST_SLICE = 256  # pixels; shorter ones cost more in partial sums than they bring

Epilogue = Literal["none", "relu", "relu_pool"]


@dataclass(frozen=True)
class Convolution:
    """Its sizes, the bytes of all tensors involved, and the slices of its weight gradient (0: as
    many as keep a GPU busy)."""

    n: int
    h: int
    w: int
    c: int
    o: int
    kh: int
    kw: int
    stride: int
    padding: int
    bytes: int
    aligned: bool = True
    slices: int = 0

    @property
    def p(self) -> int:
        return (self.h + 2 * self.padding - self.kh) // self.stride + 1

    @property
    def q(self) -> int:
        return (self.w + 2 * self.padding - self.kw) // self.stride + 1

    @property
    def pixels(self) -> int:
        return self.n * self.p * self.q

    @property
    def taps(self) -> int:
        return self.kh * self.kw * self.c

    @property
    def flops(self) -> int:
        return 2 * self.pixels * self.taps * self.o

    def sizes(self) -> dict[str, int]:
        return {"C": self.c, "O": self.o}

    def numbers(self) -> dict[str, int]:
        """As every kernel takes them."""
        names = "n h w c o kh kw p q stride padding"
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True)
class ColumnSums:
    """Of ``rows x columns`` numbers of ``itemsize`` bytes, in ``slices`` as a ``Convolution``'s."""

    rows: int
    columns: int
    itemsize: int = 4
    slices: int = 0

    @property
    def flops(self) -> int:
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        return (self.itemsize * self.rows + 4 * max(1, self.slices)) * self.columns


@dataclass(frozen=True)
class Windows:
    """The 2x2 windows over a map ``[N, P, Q, O]``, those cut off at odd edges included."""

    n: int
    p: int
    q: int
    o: int
    itemsize: int
    flops: int = 0

    @property
    def count(self) -> int:
        return self.n * _ceil(self.p, 2) * _ceil(self.q, 2) * self.o

    @property
    def bytes(self) -> int:
        pooled = self.n * (self.p // 2) * (self.q // 2) * self.o
        return self.itemsize * self.n * self.p * self.q * self.o + (2 * self.itemsize + 1) * pooled


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


# -- grids ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tiles:
    """One block for every ``rows x columns`` of a result; pixels are summed in slices.

    There are as many slices as tiles of ``edge x edge`` leave room for, whatever the tile is, so
    that all tiles give the same bits.
    """

    rows: int
    columns: int
    edge: int

    def _count(self, rows: int, columns: int) -> int:
        return _ceil(rows, self.rows) * _ceil(columns, self.columns)

    def forward(self, conv: Convolution) -> Grid:
        return (self._count(conv.pixels, conv.o), 1, 1)

    def forward_pool(self, conv: Convolution) -> Grid:
        return (self._count(4 * conv.n * (conv.p // 2) * (conv.q // 2), conv.o), 1, 1)

    def input_gradient(self, conv: Convolution) -> Grid:
        """A row of blocks for each phase, as many as the largest phase needs."""
        rows = conv.n * _ceil(conv.h, conv.stride) * _ceil(conv.w, conv.stride)
        return (self._count(rows, conv.c), conv.stride**2, 1)

    def weight_gradient(self, conv: Convolution) -> Grid:
        wanted = _ceil(conv.o, self.edge) * _ceil(conv.taps, self.edge)
        return (self._count(conv.o, conv.taps), conv.slices or _slices(conv.pixels, wanted), 1)


def _slices(pixels: int, blocks: int) -> int:
    """Into how many slices pixels are cut, so that all ``blocks`` of all are at most ``BLOCKS``."""
    slices = max(1, min(BLOCKS // blocks, _ceil(pixels, LEAST_SLICE)))
    return max(1, _ceil(pixels, _slice(pixels, slices)))  # none of them empty


def _slice(pixels: int, slices: int) -> int:
    """Pixels a slice."""
    return max(1, _ceil(_ceil(pixels, slices), DEPTH)) * DEPTH


def _bias_grid(sums: ColumnSums) -> Grid:
    blocks = _ceil(sums.columns, 32)
    return (blocks, sums.slices or _slices(sums.rows, blocks), 1)


def _sum_grid(sums: ColumnSums) -> Grid:
    return (sliced_sums.blocks(sums.columns, sums.rows), 1, 1)


def _windows_grid(windows: Windows) -> Grid:
    return (_ceil(windows.count, THREADS), 1, 1)


# -- kernels --------------------------------------------------------------------------------------


def _simple(name: str, why: str, grid: Callable[..., Grid], *precisions: Precision) -> list[Kernel]:
    def kernel(precision: Precision) -> Kernel:
        operation = f"conv2d_{name}"
        full = operation if precision == "fp32" else f"{operation}_{precision}"
        return Kernel(full, operation, 1, SIMPLE, why, THREADS, grid, precision=precision)

    return [kernel(precision) for precision in precisions]


def _products() -> Iterator[Kernel]:
    ideas = {
        "forward": "implicit GEMM: 64x64 tiles, 4x4 sums a thread",
        "forward_pool": "a thread's four rows are one window, pooled in registers",
        "input_gradient": "implicit GEMM, a dense one for each phase of a stride",
        "weight_gradient": "implicit GEMM over slices of the pixels",
    }
    for name, why in ideas.items():
        yield from _simple(name, why, getattr(Tiles(EDGE, EDGE, EDGE), name), "fp32", "bf16")
        grid = functools.partial(_grid, name)
        yield from tensor_cores.versions(f"conv2d_{name}", MMA, grid, TERMS[name])


def _grid(name: str, tile: Tile) -> Callable[[Convolution], Grid]:
    grid: Callable[[Convolution], Grid] = getattr(Tiles(tile.rows, tile.columns, LARGE.rows), name)
    return grid


def _terms_of_slice(conv: Convolution) -> int:
    slices = Tiles(LARGE.rows, LARGE.columns, LARGE.rows).weight_gradient(conv)[1]
    return _slice(conv.pixels, slices)


TERMS: dict[str, Callable[[Convolution], int]] = {
    "forward": lambda conv: conv.taps,
    "forward_pool": lambda conv: conv.taps,
    "input_gradient": lambda conv: (
        _ceil(conv.kh, conv.stride) * _ceil(conv.kw, conv.stride) * conv.o
    ),
    "weight_gradient": _terms_of_slice,
}
"""That a block of the tensor cores' kernels adds up for an entry, at most."""


SUMS, SLICES, POOL = (
    "32 columns a block over a slice of the pixels",
    "partial sums added in order, a thread a column",
    "a thread writes the four entries of a window",
)
KERNELS = (
    *_products(),
    *_simple("bias_gradient", SUMS, _bias_grid, "fp32", "bf16"),
    *_simple("sum_slices", SLICES, _sum_grid, "fp32"),
    *_simple("pool_gradient", POOL, _windows_grid, "fp32", "bf16"),
)


def forward(
    runtime: Runtime,
    x: Buffer,
    weight: Buffer,
    bias: Buffer | None,
    out: Buffer,
    argmax: Buffer | None,
    *,
    stride: int,
    padding: int,
    epilogue: Epilogue,
    precision: Precision = "fp32",
) -> None:
    """Cross-correlation with zero padding, ``bias [O]``, and the epilogue.

    ``relu_pool`` writes ``out [N, P//2, Q//2, O]``, the map between is never in memory; ``argmax``
    (uint8, like ``out``) receives ``2*dy + dx`` of the first largest entry of each window.
    """
    conv = _convolution(runtime, x, weight, stride, padding, (bias, out, argmax))
    pooled = epilogue == "relu_pool"
    p, q = (conv.p // 2, conv.q // 2) if pooled else (conv.p, conv.q)
    _check("out", out, (conv.n, p, q, conv.o))
    _check("bias", bias, (conv.o,))
    arguments = {"x": x, "weight": weight, "bias": bias, "out": out, **conv.numbers()}
    if pooled:
        _check("argmax", argmax, out.shape)
        operation, arguments["argmax"] = "conv2d_forward_pool", argmax
    else:
        operation, arguments["with_relu"] = "conv2d_forward", epilogue == "relu"
    runtime.run(operation, conv, arguments, precision=precision)


def input_gradient(
    runtime: Runtime,
    grad: Buffer,
    weight: Buffer,
    grad_x: Buffer,
    out: Buffer | None = None,
    argmax: Buffer | None = None,
    *,
    stride: int,
    padding: int,
    precision: Precision = "fp32",
) -> None:
    """``grad_x`` from ``grad``, the gradient before the epilogue.

    Given ``out``, which a ReLU below made and which came in as ``x``, ``grad_x`` is the gradient
    before that ReLU; with ``argmax``, before ReLU and a 2x2 max-pool, of the map's own shape.
    """
    x, others = (grad_x, (grad,)) if out is None else (out, (grad, grad_x, argmax))
    conv = _convolution(runtime, x, weight, stride, padding, others)
    _check("grad", grad, (conv.n, conv.p, conv.q, conv.o))
    _check("argmax", argmax, x.shape)
    n, map_h, map_w, c = grad_x.shape
    below = (n, map_h // 2, map_w // 2, c) if argmax is not None else grad_x.shape
    if below != x.shape:
        raise ValueError(f"grad_x has shape {grad_x.shape}, which does not fit out, {x.shape}")
    arguments = {"grad": grad, "weight": weight, "grad_x": grad_x, "out": out, "argmax": argmax}
    arguments |= {**conv.numbers(), "map_h": map_h, "map_w": map_w}
    runtime.run("conv2d_input_gradient", conv, arguments, precision=precision)


def weight_gradient(
    runtime: Runtime,
    x: Buffer | None,
    grad: Buffer,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
    *,
    stride: int,
    padding: int,
    accumulate: bool = False,
    precision: Precision = "fp32",
) -> None:
    """``grad_weight`` and ``grad_bias [O]`` from ``grad``, the gradient before the epilogue.

    Overwrites them, or adds to what is there (``accumulate``). What is ``None`` is not computed;
    ``x`` is read only for ``grad_weight``. With a leading axis, which both have then, a gradient
    receives its sums over as many slices of the pixels (none of them empty): see
    ``gradient_slices``.
    """
    pixels, o = int(np.prod(grad.shape[:-1])), grad.shape[-1]
    if grad_weight is not None:
        slices = sliced_sums.axis(grad_weight, 4)
        conv = _convolution(runtime, x, grad_weight, stride, padding, (grad,), slices)
        _check("grad", grad, (conv.n, conv.p, conv.q, conv.o))
        _check("grad_bias", grad_bias, (*slices, o))
        kernel = runtime.choose("conv2d_weight_gradient", conv, precision)
        totals = {"partial": grad_weight, "bias_partial": grad_bias}
        arguments = {"x": x, "grad": grad, **conv.numbers()}
        _run_sliced(runtime, kernel, conv, arguments, pixels, totals, accumulate)
    elif grad_bias is not None:
        slices = sliced_sums.axis(grad_bias, 1)
        _check("grad_bias", grad_bias, (*slices, o))
        sums = ColumnSums(pixels, o, grad.dtype.itemsize, *slices)
        kernel = runtime.choose("conv2d_bias_gradient", sums, precision)
        arguments = {"grad": grad, "pixels": pixels, "o": o}
        _run_sliced(runtime, kernel, sums, arguments, pixels, {"partial": grad_bias}, accumulate)


def gradient_slices(
    runtime: Runtime,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    *,
    stride: int,
    padding: int,
    precision: Precision = "fp32",
) -> int:
    """Over how many slices of the pixels ``weight_gradient`` sums, if the weight's is asked for.

    ``x`` and ``weight`` are shapes, of buffers that begin at a multiple of 16 bytes.
    """
    (n, h, w, c), (o, kh, kw, _) = x, weight
    conv = Convolution(n, h, w, c, o, kh, kw, stride, padding, bytes=0)
    return runtime.choose("conv2d_weight_gradient", conv, precision).grid(conv)[1]


def epilogue_gradient(
    runtime: Runtime,
    grad: Buffer,
    out: Buffer,
    argmax: Buffer | None,
    grad_before: Buffer,
    *,
    epilogue: Epilogue,
    precision: Precision = "fp32",
) -> None:
    """The gradient before ``relu`` (any shape) or ``relu_pool``, whose ``argmax`` it needs."""
    if epilogue == "relu":
        return elementwise.relu_gradient(runtime, grad, out, grad_before, precision=precision)
    if epilogue != "relu_pool" or argmax is None:
        raise ValueError(f"{epilogue}: relu has a gradient, and relu_pool one that needs argmax")
    n, p, q, o = grad_before.shape
    for name, buffer in (("grad", grad), ("out", out), ("argmax", argmax)):
        _check(name, buffer, (n, p // 2, q // 2, o))
    arguments = {"grad": grad, "out": out, "argmax": argmax, "grad_before": grad_before}
    numbers = {"n": n, "p": p, "q": q, "o": o}
    windows = Windows(**numbers, itemsize=grad.dtype.itemsize)
    return runtime.run(
        "conv2d_pool_gradient", windows, {**arguments, **numbers}, precision=precision
    )


# -- partial sums ---------------------------------------------------------------------------------


def _run_sliced(
    runtime: Runtime,
    kernel: Kernel,
    problem: Convolution | ColumnSums,
    arguments: dict[str, Any],
    pixels: int,
    totals: dict[str, Buffer | None],
    accumulate: bool,
) -> None:
    """Launch a kernel that sums slices of the pixels, and add these up unless they are asked for.

    ``totals`` are what it computes, by the names that it has for their partial sums. These lie in
    the runtime's scratch, which all blocks together fill at most.
    """
    slices = kernel.grid(problem)[1]
    if _ceil(pixels, _slice(pixels, slices)) != slices and pixels:
        raise ValueError(f"{slices} slices of {pixels} pixels cannot be alike and not empty")
    complete = slices == 1 or problem.slices > 0  # then nothing is left to be added
    partials = totals if complete else _partial_sums(runtime, totals, slices)
    arguments |= {"slice": _slice(pixels, slices), "accumulate": complete and accumulate}
    runtime.launch_for(kernel, problem, {**arguments, **partials})
    for name, total in totals.items():
        if total is not None and not complete:
            sums = ColumnSums(slices, total.size)
            arguments = {"partial": partials[name], "out": total, "accumulate": accumulate}
            arguments |= {"count": total.size, "slices": slices}
            runtime.run("conv2d_sum_slices", sums, arguments)


def _partial_sums(
    runtime: Runtime, totals: dict[str, Buffer | None], slices: int
) -> dict[str, Buffer | None]:
    """Scratch for ``slices`` of each total that there is, one after another."""
    scratch = runtime.scratch("partial sums", MOST_PARTIAL_SUMS, np.float32)
    partials, offset = dict(totals), 0
    for name, total in totals.items():
        if total is not None:
            partials[name] = runtime.view(scratch, offset, (slices, *total.shape), np.float32)
            offset += slices * total.nbytes
    return partials


# -- shapes ---------------------------------------------------------------------------------------


def _convolution(
    runtime: Runtime,
    x: Buffer,
    weight: Buffer,
    stride: int,
    padding: int,
    others: tuple[Buffer | None, ...],
    slices: tuple[int, ...] = (),
) -> Convolution:
    """The problem that these buffers, and ``others`` that take part, are of."""
    (n, h, w, c), (o, kh, kw, _) = x.shape, weight.shape[len(slices) :]
    _check("weight", weight, (*slices, o, kh, kw, c))
    buffers = [buffer for buffer in (x, weight, *others) if buffer is not None]
    moved = sum(buffer.nbytes for buffer in buffers)
    aligned = tensor_cores.aligned(runtime, *buffers)
    return Convolution(n, h, w, c, o, kh, kw, stride, padding, moved, aligned, *slices)


def _check(name: str, buffer: Buffer | None, shape: tuple[int, ...]) -> None:
    if buffer is not None and buffer.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, and has {buffer.shape}")
