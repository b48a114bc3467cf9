"""What a backend that passes raw pointers checks of its buffers, before anything is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from fercore.backends.interface import Buffer


def reads(shape: tuple[int, ...], dtype: Any = np.float32, **buffers: Buffer | None) -> None:
    """Refuse buffers that are not C-contiguous ``dtype`` of ``shape``; absent ones pass."""
    for name, buffer in buffers.items():
        if buffer is None:
            continue
        if buffer.dtype != dtype or buffer.shape != shape:
            raise ValueError(
                f"{name} must be {np.dtype(dtype)} of shape {shape}, not {buffer.dtype} of shape "
                f"{buffer.shape}"
            )
        if not buffer.flags["C_CONTIGUOUS"]:  # what every kind of array calls it
            raise ValueError(f"{name} must be C-contiguous")


def writes(shape: tuple[int, ...], dtype: Any = np.float32, **buffers: Buffer | None) -> None:
    """As ``reads``, and refuse those that are read-only."""
    reads(shape, dtype, **buffers)
    for name, buffer in buffers.items():
        # A GPU's memory has no such flag.
        if buffer is not None and not getattr(buffer.flags, "writeable", True):
            raise ValueError(f"{name} must be writeable")


def shape_of(axes: int, **buffer: Buffer) -> tuple[int, ...]:
    """The shape of a buffer that must have so many axes."""
    ((name, one),) = buffer.items()
    if one.ndim != axes:
        raise ValueError(f"{name} must have {axes} axes, not shape {one.shape}")
    shape: tuple[int, ...] = one.shape
    return shape


def label_rows(labels: Buffer) -> tuple[Any, tuple[int, ...]]:
    """The dtype and shape of what ``labels`` say of one image: a label, or a row of shares."""
    if labels.ndim == 2:
        return np.float32, labels.shape[1:]
    return np.int32, ()


def check_conv2d(
    x: Buffer,
    weight: Buffer,
    stride: int,
    padding: int,
    dtype: Any,
    weight_dtype: Any,
) -> tuple[int, ...]:
    """The shape of the map before the epilogue; ``x`` is ``dtype``."""
    shape = shape_of(4, weight=weight)
    reads(shape, weight_dtype, weight=weight)
    return check_image(x, shape, stride, padding, dtype)


def check_image(
    x: Buffer, weight: tuple[int, ...], stride: int, padding: int, dtype: Any
) -> tuple[int, ...]:
    """The shape of the map that weights of that shape make of ``x``."""
    (n, h, w, _), (o, kh, kw, channels) = shape_of(4, x=x), weight
    reads((n, h, w, channels), dtype, x=x)
    p, q = ((size + 2 * padding - k) // stride + 1 for size, k in ((h, kh), (w, kw)))
    if p < 1 or q < 1:
        raise ValueError(f"a {kh}x{kw} kernel does not fit {h}x{w} pixels with padding {padding}")
    return n, p, q, o


def check_below(
    x: tuple[int, ...], grad_x: Buffer, out: Buffer | None, argmax: Buffer | None, dtype: Any
) -> None:
    """Of the gradient of an input of shape ``x``, and of the epilogue it is taken on through."""
    if argmax is None:
        reads(x, dtype, out=out)
        return writes(x, dtype, grad_x=grad_x)
    if out is None:
        raise ValueError("argmax needs the out of the same forward pass")
    n, p, q, c = shape_of(4, grad_x=grad_x)
    pooled = (n, p // 2, q // 2, c)
    if (pooled if len(x) == 4 else (n, p // 2 * (q // 2) * c)) != x:
        raise ValueError(f"grad_x of shape {grad_x.shape} must pool to out's {x}, not to {pooled}")
    reads(x, dtype, out=out)
    reads(x, np.uint8, argmax=argmax)
    return writes(grad_x.shape, dtype, grad_x=grad_x)


def check_pool(window: int, stride: int, **buffer: Buffer) -> tuple[int, ...]:
    """The shape of the pooled map."""
    n, h, w, c = shape_of(4, **buffer)
    if not 1 <= window <= 16 or stride < 1 or min(h, w) < window:
        raise ValueError(f"windows of {window} with stride {stride} do not fit {h}x{w} pixels")
    return n, (h - window) // stride + 1, (w - window) // stride + 1, c


def split_slices(axes: int, **gradient: Buffer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A gradient's axis of slices, if it has one, and the shape of its parameter."""
    ((name, one),) = gradient.items()
    slices: tuple[int, ...] = one.shape[:-axes]
    if one.ndim < axes or len(slices) > 1 or slices in ((0,), (1,)):
        raise ValueError(
            f"{name} must have {axes} axes, or before them one of two or more slices, not shape "
            f"{one.shape}"
        )
    return slices, one.shape[-axes:]


def check_mask(mask: Buffer | None, parameter: Buffer) -> None:
    """Refuse masks that are neither by output channel nor by entry."""
    if mask is not None:
        one_a_channel = mask.shape == parameter.shape[:1]
        reads(parameter.shape[:1] if one_a_channel else parameter.shape, np.uint8, mask=mask)


def check_advance(
    cursor: Buffer,
    order: Buffer,
    schedule: Buffer | None,
    indices: Buffer,
    rng: Buffer | None,
    rates: Buffer | None,
) -> None:
    """Refuse what ``advance`` could not read or write."""
    writes((3,), np.uint32, cursor=cursor)
    reads(shape_of(1, order=order), np.int32, order=order)
    writes(shape_of(1, indices=indices), np.int32, indices=indices)
    writes((4,), np.uint32, rng=rng)
    writes((4,), np.float64, rates=rates)
    if (schedule is None) != (rates is None):
        raise ValueError("schedule and rates come together")
    if schedule is not None:
        steps, _ = shape_of(2, schedule=schedule)
        reads((steps, 4), np.float64, schedule=schedule)
        if steps == 0:
            raise ValueError("schedule must have a row")


def check_gather(table: Buffer, indices: Buffer, out: Buffer) -> None:
    """Refuse rows that do not fit their table."""
    (count,) = shape_of(1, indices=indices)
    reads((count,), np.int32, indices=indices)
    reads(table.shape, table.dtype, table=table)
    writes((count, *table.shape[1:]), table.dtype, out=out)


def check_scatter(values: Buffer, indices: Buffer, table: Buffer) -> None:
    """Refuse rows that do not fit their table."""
    (count,) = shape_of(1, indices=indices)
    reads((count,), np.int32, indices=indices)
    reads((count, *table.shape[1:]), table.dtype, values=values)
    writes(table.shape, table.dtype, table=table)
