"""Softmax and cross-entropy, loss and gradient in one: see softmax_cross_entropy.cu."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cuda_kernels.runtime import Buffer, Runtime
from cuda_kernels.specs import Grid, Kernel, Precision

SOURCE = Path(__file__).with_suffix(".cu")


@dataclass(frozen=True)
class Rows:
    """``N`` rows of ``K`` logits, and the bytes of all buffers involved."""

    n: int
    k: int
    bytes: int

    @property
    def flops(self) -> int:
        return 10 * self.n * self.k


def _one_block(rows: Rows) -> Grid:
    return (1, 1, 1)


def _kernel(name: str, precision: Precision) -> Kernel:
    why = "one block, a row a thread: one launch, and sums in one order"
    common = ("softmax_cross_entropy", 1, SOURCE, why, 256, _one_block)
    return Kernel(name, *common, precision=precision)


KERNELS = (
    _kernel("softmax_cross_entropy", "fp32"),
    _kernel("softmax_cross_entropy_bf16", "bf16"),
)


def loss_and_gradient(
    runtime: Runtime,
    logits: Buffer,
    labels: Buffer,
    class_weights: Buffer | None,
    statistics: Buffer,
    grad_logits: Buffer | None,
    *,
    label_smoothing: float,
    multi_target: bool = False,
    precision: Precision = "fp32",
) -> None:
    """Adds to ``statistics``, and writes ``grad_logits`` unless it is ``None``.

    ``logits [N, K]``, ``class_weights [K]`` and ``grad_logits [N, K]`` are float32, the gradient
    alone bf16 with ``precision="bf16"``; ``labels [N]`` are int32 with -1 for padding rows, or
    float32 shares ``[N, K]`` that sum to 1, with -1 first in padding rows. With ``multi_target``
    every class with a share is right: the loss is that of the likeliest of them alone.
    ``statistics``, float64 ``[4]``, gains the sum of weighted losses, the sum of weights, the
    number of rows whose first largest logit is the label's, or that of the first largest share, and
    the number of rows. The gradient is
    that of the weighted mean loss; 0 where the weights sum to 0.
    """
    n, k = logits.shape
    soft = labels.ndim == 2
    if labels.shape != ((n, k) if soft else (n,)) or statistics.shape != (4,):
        raise ValueError(
            f"softmax_cross_entropy: {logits.shape}, {labels.shape} and {statistics.shape} do not "
            "fit"
        )
    buffers = {
        "logits": logits,
        "labels": None if soft else labels,
        "shares": labels if soft else None,
        "class_weights": class_weights,
        "statistics": statistics,
        "grad_logits": grad_logits,
    }
    moved = sum(buffer.nbytes for buffer in buffers.values() if buffer is not None)
    options = {"smoothing": label_smoothing, "multi_target": multi_target}
    arguments = {**buffers, "n": n, "k": k, **options}
    runtime.run("softmax_cross_entropy", Rows(n, k, moved), arguments, precision=precision)
