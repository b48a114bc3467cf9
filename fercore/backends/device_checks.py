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
    n, h, w, c = shape_of(4, x=x)
    o, kh, kw, _ = shape_of(4, weight=weight)
    reads((n, h, w, c), dtype, x=x)
    reads((o, kh, kw, c), weight_dtype, weight=weight)
    p, q = ((size + 2 * padding - k) // stride + 1 for size, k in ((h, kh), (w, kw)))
    if p < 1 or q < 1:
        raise ValueError(f"a {kh}x{kw} kernel does not fit {h}x{w} pixels with padding {padding}")
    return n, p, q, o


def check_pool(window: int, stride: int, **buffer: Buffer) -> tuple[int, ...]:
    """The shape of the pooled map."""
    n, h, w, c = shape_of(4, **buffer)
    if not 1 <= window <= 16 or stride < 1 or min(h, w) < window:
        raise ValueError(f"windows of {window} with stride {stride} do not fit {h}x{w} pixels")
    return n, (h - window) // stride + 1, (w - window) // stride + 1, c


def check_mask(mask: Buffer | None, parameter: Buffer) -> None:
    """Refuse masks that are neither by output channel nor by entry."""
    if mask is not None:
        one_a_channel = mask.shape == parameter.shape[:1]
        reads(parameter.shape[:1] if one_a_channel else parameter.shape, np.uint8, mask=mask)
