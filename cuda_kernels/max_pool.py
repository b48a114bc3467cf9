"""Max-pooling: see max_pool.cu.

``x``, ``out`` and their gradients are float32, or bf16 (uint16 arrays of bits) with
``precision="bf16"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256


@dataclass(frozen=True)
class Windows:
    """``places`` comparisons or additions, and the ``count`` entries of the result."""

    count: int
    places: int
    window: int
    bytes: int

    @property
    def flops(self) -> int:
        return self.places


def _grid(windows: Windows) -> Grid:
    return (-(-windows.count // THREADS), 1, 1)


def _too_large(windows: Windows) -> str | None:
    if windows.window > 16:
        return f"numbers the places of windows up to 16 in a byte, not of {windows.window}"
    if windows.count >= 1 << 32:
        return f"counts fewer than 2**32 entries, not {windows.count}"
    return None


def _versions(name: str, why: str) -> tuple[Kernel, Kernel]:
    def kernel(full: str, precision: Precision) -> Kernel:
        common = (name, 1, SOURCE, why, THREADS, _grid)
        return Kernel(full, *common, refuses=_too_large, precision=precision)

    return kernel(name, "fp32"), kernel(f"{name}_bf16", "bf16")


KERNELS = (
    *_versions("max_pool_forward", "a thread looks through one window; a warp reads 32 channels"),
    *_versions("max_pool_backward", "a thread asks the windows that cover its entry, in order"),
)


def forward(
    runtime: Runtime,
    x: Buffer,
    out: Buffer,
    argmax: Buffer | None,
    *,
    window: int,
    stride: int,
    precision: Precision = "fp32",
) -> None:
    """Largest entry of each ``window x window`` patch of ``x [N, H, W, C]``.

    ``out`` is ``[N, P, Q, C]`` with ``P = (H - window) // stride + 1``; ``argmax``, uint8 or
    ``None``, receives ``dy * window + dx`` of the first largest entry. A NaN in a patch is its
    largest entry. Raises UnsuitableError for windows above 16.
    """
    bytes_moved = x.nbytes + out.nbytes + (0 if argmax is None else argmax.nbytes)
    arguments = {"x": x, "out": out, "argmax": argmax}
    _run(
        runtime,
        "max_pool_forward",
        x,
        out,
        out.size,
        window,
        stride,
        bytes_moved,
        arguments,
        precision,
    )


def backward(
    runtime: Runtime,
    grad: Buffer,
    argmax: Buffer,
    grad_x: Buffer,
    *,
    window: int,
    stride: int,
    precision: Precision = "fp32",
) -> None:
    """Each entry of ``grad`` goes to its window's ``argmax``; overlapping windows add up."""
    bytes_moved = grad.nbytes + argmax.nbytes + grad_x.nbytes
    arguments = {"grad": grad, "argmax": argmax, "grad_x": grad_x}
    _run(
        runtime,
        "max_pool_backward",
        grad_x,
        grad,
        grad_x.size,
        window,
        stride,
        bytes_moved,
        arguments,
        precision,
    )


def _run(
    runtime: Runtime,
    operation: str,
    image: Buffer,
    pooled: Buffer,
    count: int,
    window: int,
    stride: int,
    bytes_moved: int,
    arguments: dict[str, Buffer | None],
    precision: Precision,
) -> None:
    """Launch ``operation`` for an image and its pooled map, one of which is the result."""
    n, h, w, c = image.shape
    p, q = ((side - window) // stride + 1 for side in (h, w))
    if pooled.shape != (n, p, q, c):
        raise ValueError(f"{operation}: {image.shape} and {pooled.shape} do not fit")
    problem = Windows(count, pooled.size * window**2, window, bytes_moved)
    numbers = {"h": h, "w": w, "c": c, "p": p, "q": q, "window": window, "stride": stride}
    arguments = {**arguments, **numbers, "count": count}
    runtime.run(operation, problem, arguments, precision=precision)
