"""Convolutions, forward and backward, with their epilogues: see conv2d.cu.

float32, NHWC: ``x [N, H, W, C]``, ``weight [O, KH, KW, C]``, and the map before the epilogue ``[N,
P, Q, O]`` with ``P = (H + 2 padding - KH) // stride + 1``. Buffers whose shapes do not fit raise
ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from cuda_kernels import elementwise
from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256
EDGE, DEPTH = 64, 16  # of a tile: rows and columns, and terms at a time
BLOCKS = 512  # enough for the largest GPUs; the same for all, so that all give the same bits
LEAST_SLICE = 256  # pixels; shorter ones cost more in partial sums than they bring

Epilogue = Literal["none", "relu", "relu_pool"]


@dataclass(frozen=True)
class Convolution:
    """Its sizes, and the bytes of all tensors involved."""

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

    def numbers(self) -> dict[str, int]:
        """As every kernel takes them."""
        names = "n h w c o kh kw p q stride padding"
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True)
class ColumnSums:
    """Of ``rows x columns`` numbers, which are cut into slices of ``slice`` rows."""

    rows: int
    columns: int
    slice: int

    @property
    def flops(self) -> int:
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        return 4 * (self.rows + _ceil(self.rows, self.slice)) * self.columns


@dataclass(frozen=True)
class Windows:
    """The 2x2 windows over a map ``[N, P, Q, O]``, those cut off at odd edges included."""

    n: int
    p: int
    q: int
    o: int
    flops: int = 0

    @property
    def count(self) -> int:
        return self.n * _ceil(self.p, 2) * _ceil(self.q, 2) * self.o

    @property
    def bytes(self) -> int:
        pooled = self.n * (self.p // 2) * (self.q // 2) * self.o
        return 4 * self.n * self.p * self.q * self.o + 9 * pooled


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _tiles(rows: int, columns: int) -> int:
    return _ceil(rows, EDGE) * _ceil(columns, EDGE)


def _slice(pixels: int, blocks: int) -> int:
    """Pixels a slice, so that ``blocks`` of every slice together are at most ``BLOCKS``, or 1."""
    slices = max(1, min(BLOCKS // blocks, _ceil(pixels, LEAST_SLICE)))
    return max(1, _ceil(_ceil(pixels, slices), DEPTH)) * DEPTH


def _slices(pixels: int, slice: int) -> int:
    return max(1, _ceil(pixels, slice))  # no image at all: one, of zeros


def _forward_grid(conv: Convolution) -> Grid:
    return (_tiles(conv.pixels, conv.o), 1, 1)


def _pool_grid(conv: Convolution) -> Grid:
    return (_tiles(4 * conv.n * (conv.p // 2) * (conv.q // 2), conv.o), 1, 1)


def _input_grid(conv: Convolution) -> Grid:
    """A row of blocks for each phase, as many as the largest phase needs."""
    rows = conv.n * _ceil(conv.h, conv.stride) * _ceil(conv.w, conv.stride)
    return (_tiles(rows, conv.c), conv.stride**2, 1)


def _weight_slice(conv: Convolution) -> int:
    return _slice(conv.pixels, _tiles(conv.o, conv.taps))


def _weight_grid(conv: Convolution) -> Grid:
    return (_tiles(conv.o, conv.taps), _slices(conv.pixels, _weight_slice(conv)), 1)


def _bias_grid(sums: ColumnSums) -> Grid:
    return (_ceil(sums.columns, 32), _slices(sums.rows, sums.slice), 1)


def _sum_grid(sums: ColumnSums) -> Grid:
    return (_ceil(sums.columns, THREADS), 1, 1)


def _windows_grid(windows: Windows) -> Grid:
    return (_ceil(windows.count, THREADS), 1, 1)


def _kernel(name: str, why: str, grid: Callable[..., Grid]) -> Kernel:
    return Kernel(f"conv2d_{name}", f"conv2d_{name}", 1, SOURCE, why, THREADS, grid)


KERNELS = (
    _kernel("forward", "implicit GEMM: 64x64 tiles, 4x4 sums a thread", _forward_grid),
    _kernel("forward_pool", "a thread's four rows are one window, pooled in registers", _pool_grid),
    _kernel("input_gradient", "implicit GEMM, a dense one for each phase of a stride", _input_grid),
    _kernel("weight_gradient", "implicit GEMM over slices of the pixels", _weight_grid),
    _kernel("bias_gradient", "32 columns a block over a slice of the pixels", _bias_grid),
    _kernel("sum_slices", "partial sums added in order, a thread a column", _sum_grid),
    _kernel("pool_gradient", "a thread writes the four entries of a window", _windows_grid),
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
) -> None:
    """Cross-correlation with zero padding, ``bias [O]``, and the epilogue.

    ``relu_pool`` writes ``out [N, P//2, Q//2, O]``, the map between is never in memory; ``argmax``
    (uint8, like ``out``) receives ``2*dy + dx`` of the first largest entry of each window.
    """
    conv = _convolution(x, weight, stride, padding, _bytes(x, weight, bias, out, argmax))
    pooled = epilogue == "relu_pool"
    p, q = (conv.p // 2, conv.q // 2) if pooled else (conv.p, conv.q)
    _check("out", out, (conv.n, p, q, conv.o))
    _check("bias", bias, (conv.o,))
    arguments = {"x": x, "weight": weight, "bias": bias, "out": out, **conv.numbers()}
    if pooled:
        _check("argmax", argmax, out.shape)
        runtime.run("conv2d_forward_pool", conv, {**arguments, "argmax": argmax})
    else:
        runtime.run("conv2d_forward", conv, {**arguments, "with_relu": epilogue == "relu"})


def input_gradient(
    runtime: Runtime, grad: Buffer, weight: Buffer, grad_x: Buffer, *, stride: int, padding: int
) -> None:
    """``grad_x`` from ``grad``, the gradient before the epilogue."""
    conv = _convolution(grad_x, weight, stride, padding, _bytes(grad, weight, grad_x))
    _check("grad", grad, (conv.n, conv.p, conv.q, conv.o))
    arguments = {"grad": grad, "weight": weight, "grad_x": grad_x, **conv.numbers()}
    runtime.run("conv2d_input_gradient", conv, arguments)


def weight_gradient(
    runtime: Runtime,
    x: Buffer | None,
    grad: Buffer,
    grad_weight: Buffer | None,
    grad_bias: Buffer | None,
    *,
    stride: int,
    padding: int,
) -> None:
    """``grad_weight`` and ``grad_bias [O]`` from ``grad``, the gradient before the epilogue.

    What is ``None`` is not computed; ``x`` is read only for ``grad_weight``.
    """
    if grad_weight is not None:
        conv = _convolution(x, grad_weight, stride, padding, _bytes(x, grad, grad_weight))
        _check("grad", grad, (conv.n, conv.p, conv.q, conv.o))
        slices, slice = _weight_grid(conv)[1], _weight_slice(conv)
        partial = _partial(runtime, grad_weight, slices)
        arguments = {"x": x, "grad": grad, "partial": partial, "slice": slice, **conv.numbers()}
        runtime.run("conv2d_weight_gradient", conv, arguments)
        _sum_slices(runtime, partial, grad_weight, slices)
    if grad_bias is not None:
        pixels, o = int(np.prod(grad.shape[:-1])), grad.shape[-1]
        _check("grad_bias", grad_bias, (o,))
        sums = ColumnSums(pixels, o, _slice(pixels, _ceil(o, 32)))
        slices = _bias_grid(sums)[1]
        partial = _partial(runtime, grad_bias, slices)
        arguments = {"grad": grad, "partial": partial, "pixels": pixels, "o": o}
        runtime.run("conv2d_bias_gradient", sums, {**arguments, "slice": sums.slice})
        _sum_slices(runtime, partial, grad_bias, slices)


def epilogue_gradient(
    runtime: Runtime,
    grad: Buffer,
    out: Buffer,
    argmax: Buffer | None,
    grad_before: Buffer,
    *,
    epilogue: Epilogue,
) -> None:
    """The gradient before ``relu`` (any shape) or ``relu_pool``, whose ``argmax`` it needs."""
    if epilogue == "relu":
        return elementwise.relu_gradient(runtime, grad, out, grad_before)
    if epilogue != "relu_pool" or argmax is None:
        raise ValueError(f"{epilogue}: relu has a gradient, and relu_pool one that needs argmax")
    n, p, q, o = grad_before.shape
    for name, buffer in (("grad", grad), ("out", out), ("argmax", argmax)):
        _check(name, buffer, (n, p // 2, q // 2, o))
    arguments = {"grad": grad, "out": out, "argmax": argmax, "grad_before": grad_before}
    numbers = {"n": n, "p": p, "q": q, "o": o}
    return runtime.run("conv2d_pool_gradient", Windows(**numbers), {**arguments, **numbers})


# -- partial sums ---------------------------------------------------------------------------------

_scratch: WeakKeyDictionary[Runtime, Buffer] = WeakKeyDictionary()


def _partial(runtime: Runtime, total: Buffer, slices: int) -> Buffer:
    """Where ``slices`` partial sums of ``total`` go: ``total`` itself if there is but one.

    Otherwise memory that a runtime has once: launches run in order, so one gradient is done with it
    before the next begins. All blocks together fill it at most, and recorded graphs may use it for
    as long as the runtime lives. The first call of all must not be a recorded one.
    """
    if slices == 1:
        return total
    if runtime not in _scratch:
        _scratch[runtime] = runtime.empty((BLOCKS * EDGE * EDGE,), np.float32)
    return runtime.view(_scratch[runtime], 0, (slices, *total.shape), np.float32)


def _sum_slices(runtime: Runtime, partial: Buffer, out: Buffer, slices: int) -> None:
    if slices > 1:
        arguments = {"partial": partial, "out": out, "count": out.size, "slices": slices}
        runtime.run("conv2d_sum_slices", ColumnSums(slices, out.size, slices), arguments)


# -- shapes ---------------------------------------------------------------------------------------


def _bytes(*buffers: Buffer | None) -> int:
    return sum(buffer.nbytes for buffer in buffers if buffer is not None)


def _convolution(x: Buffer, weight: Buffer, stride: int, padding: int, moved: int) -> Convolution:
    (n, h, w, c), (o, kh, kw, _) = x.shape, weight.shape
    _check("weight", weight, (o, kh, kw, c))
    return Convolution(n, h, w, c, o, kh, kw, stride, padding, moved)


def _check(name: str, buffer: Buffer | None, shape: tuple[int, ...]) -> None:
    if buffer is not None and buffer.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, and has {buffer.shape}")
