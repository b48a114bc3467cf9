"""The cpu backend: float32 NumPy arrays and the C++ kernels of ``_fercore_cpu``.

The kernels check shapes and dtypes (a ValueError names the argument), release the interpreter's
lock, and run in as many threads as the environment's ``FERCORE_THREADS`` says, else OpenMP.
No result depends on that number. Convolutions, by Winograd's algorithm where that is faster, give
an image the same bits in any batch; fully connected layers do so only where BLAS does, so compare
whole batches with whole batches.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np

from fercore.backends.device_checks import check_advance, check_gather, check_scatter
from fercore.backends.interface import Augmentation, Backend, Epilogue
from fercore.errors import FercoreError

Array = np.ndarray

ALIGNMENT = 64  # bytes: a cache line, and the widest vector registers

Convolution = Literal["auto", "direct", "winograd"]
"""How convolutions are computed: ``auto`` is what measurements say for the shape at hand;
``winograd`` is that algorithm wherever it applies (3x3 kernels, stride 1)."""


WAITING = {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "passive"}
"""How threads wait for others: some 20 microseconds awake, then asleep; GNU's OpenMP obeys the
first, others the second.

By default they spin for milliseconds. Where the machine has something else to do, a spinning thread
holds the very processor that the thread it waits for has been taken off.
"""


@contextmanager
def _waiting_asleep() -> Iterator[None]:
    """An environment from which OpenMP, loaded within, learns WAITING.

    Whoever sets such a variable has the last word; what is loaded later, and other processes, do
    not see ours.
    """
    if not {*WAITING, "KMP_BLOCKTIME"}.isdisjoint(os.environ):
        yield
        return
    os.environ.update(WAITING)
    try:
        yield
    finally:
        for name in WAITING:
            del os.environ[name]


with _waiting_asleep():
    import _fercore_cpu as kernels


class CpuBackend(Backend):
    """C++ on all processor cores, in float32."""

    name = "cpu"
    dtype = np.dtype(np.float32)

    def __init__(self, convolution: Convolution = "auto") -> None:
        if convolution not in get_args(Convolution):
            raise FercoreError(
                f"backend cpu: convolution must be auto, direct or winograd, not {convolution!r}"
            )
        self.convolution = convolution

    def build_info(self) -> dict[str, Any]:
        return {**kernels.build_info(), "convolution": self.convolution}

    @property
    def processors(self) -> int:
        return int(kernels.build_info()["threads"])

    def share(self, runs: int) -> None:
        kernels.set_threads(max(1, round(self.processors / runs)))

    # -- memory ---------------------------------------------------------------------------------

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        memory = np.empty(size + ALIGNMENT, np.uint8)
        offset = -memory.ctypes.data % ALIGNMENT
        return self.view(memory, offset, shape, dtype)

    def from_host(self, array: Array) -> Array:
        buffer = self.empty(array.shape, self.dtype if array.dtype.kind == "f" else array.dtype)
        buffer[...] = array
        return buffer

    def to_host(self, buffer: Array) -> Array:
        return buffer.copy()

    def write(self, buffer: Array, array: Array) -> None:
        if buffer.shape != array.shape:
            raise ValueError(
                f"array must have the buffer's shape {buffer.shape}, not {array.shape}"
            )
        buffer[...] = array

    def view(self, buffer: Array, offset: int, shape: Sequence[int], dtype: Any) -> Array:
        if offset < 0:
            raise ValueError(f"offset must not be negative, but is {offset}")
        return np.ndarray(tuple(shape), dtype, buffer=buffer, offset=offset)

    def fill(self, buffer: Array, value: float) -> None:
        buffer.fill(value)

    def accumulate(self, total: Array, term: Array) -> None:
        kernels.accumulate(total, term)

    # -- convolution ----------------------------------------------------------------------------

    def conv2d_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        out: Array,
        argmax: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        epilogue: Epilogue = "none",
    ) -> None:
        kernels.conv2d_forward(
            x, weight, bias, out, argmax, stride, padding, epilogue, self.convolution
        )

    def conv2d_input_gradient(
        self,
        grad: Array,
        weight: Array,
        grad_x: Array,
        out: Array | None = None,
        argmax: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        kernels.conv2d_input_gradient(
            grad, weight, grad_x, out, argmax, stride, padding, self.convolution
        )

    def conv2d_weight_gradient(
        self,
        x: Array | None,
        grad: Array,
        grad_weight: Array | None,
        grad_bias: Array | None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        kernels.conv2d_weight_gradient(
            x, grad, grad_weight, grad_bias, stride, padding, self.convolution
        )

    def epilogue_gradient(
        self,
        grad: Array,
        out: Array,
        argmax: Array | None,
        grad_before: Array,
        *,
        epilogue: Epilogue,
    ) -> None:
        kernels.epilogue_gradient(grad, out, argmax, grad_before, epilogue)

    # -- fully connected ------------------------------------------------------------------------

    def linear_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        out: Array,
        rng: Array | None = None,
        *,
        epilogue: Epilogue = "none",
        rate: float = 0.0,
        layer: int = 0,
    ) -> None:
        kernels.linear_forward(x, weight, bias, out, epilogue)
        if rng is not None:
            kernels.dropout(out, rng, out, rate, layer)

    def linear_input_gradient(
        self,
        grad: Array,
        weight: Array,
        grad_x: Array,
        out: Array | None = None,
        argmax: Array | None = None,
        *,
        rate: float = 0.0,
    ) -> None:
        kernels.linear_input_gradient(grad, weight, grad_x, out, argmax)
        if rate > 0:
            grad_x *= np.float32(1 / (1 - rate))

    def linear_weight_gradient(
        self,
        x: Array | None,
        grad: Array,
        grad_weight: Array | None,
        grad_bias: Array | None,
    ) -> None:
        kernels.linear_weight_gradient(x, grad, grad_weight, grad_bias)

    # -- pooling, dropout, normalisation --------------------------------------------------------

    def max_pool_forward(
        self, x: Array, out: Array, argmax: Array | None, *, window: int, stride: int
    ) -> None:
        kernels.max_pool_forward(x, out, argmax, window, stride)

    def max_pool_backward(
        self, grad: Array, argmax: Array, grad_x: Array, *, window: int, stride: int
    ) -> None:
        kernels.max_pool_backward(grad, argmax, grad_x, window, stride)

    def dropout(self, x: Array, rng: Array, out: Array, *, rate: float, layer: int) -> None:
        kernels.dropout(x, rng, out, rate, layer)

    def batch_norm_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_variance: Array,
        moving: Array | None,
        out: Array,
        mean: Array,
        inverse_std: Array,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        epilogue: Epilogue = "none",
    ) -> None:
        kernels.batch_norm_forward(
            x,
            weight,
            bias,
            running_mean,
            running_variance,
            moving,
            out,
            mean,
            inverse_std,
            momentum,
            epsilon,
            epilogue,
        )

    def batch_norm_backward(
        self,
        x: Array | None,
        grad: Array,
        weight: Array,
        mean: Array,
        inverse_std: Array,
        moving: Array | None,
        grad_x: Array | None,
        grad_weight: Array | None,
        grad_bias: Array | None,
    ) -> None:
        kernels.batch_norm_backward(
            x, grad, weight, mean, inverse_std, moving, grad_x, grad_weight, grad_bias
        )

    # -- input, loss, update --------------------------------------------------------------------

    def advance(
        self,
        cursor: Array,
        order: Array,
        schedule: Array | None,
        indices: Array,
        rng: Array | None,
        rates: Array | None,
    ) -> None:
        check_advance(cursor, order, schedule, indices, rng, rates)
        first, step, number = (int(count) for count in cursor)
        rows = order[first : first + len(indices)]
        indices[: len(rows)], indices[len(rows) :] = rows, -1
        if schedule is not None and rates is not None:
            rates[:] = schedule[min(step, len(schedule) - 1)]
        if rng is not None:
            rng[3] = number
        cursor[:] = first + len(indices), step + 1, number + 1

    def gather(self, table: Array, indices: Array, out: Array, *, padding: int = 0) -> None:
        check_gather(table, indices, out)
        np.take(table, indices, axis=0, out=out, mode="clip")  # any other mode makes a copy
        out[indices < 0] = padding

    def scatter(self, values: Array, indices: Array, table: Array) -> None:
        check_scatter(values, indices, table)
        table[indices[indices >= 0]] = values[indices >= 0]

    def augment(
        self,
        images: Array,
        labels: Array,
        indices: Array,
        rng: Array,
        x: Array,
        y: Array,
        *,
        augmentation: Augmentation = Augmentation(),
        mean: float = 0.5,
        std: float = 0.25,
    ) -> None:
        kernels.augment(
            images,
            labels,
            indices,
            rng,
            x,
            y,
            augmentation.flip,
            augmentation.shift,
            augmentation.rotation,
            augmentation.scale,
            augmentation.cutout,
            mean,
            std,
        )

    def softmax_cross_entropy(
        self,
        logits: Array,
        labels: Array,
        class_weights: Array | None,
        statistics: Array,
        grad_logits: Array | None,
        *,
        label_smoothing: float = 0.0,
        multi_target: bool = False,
    ) -> None:
        kernels.softmax_cross_entropy(
            *(logits, labels, class_weights, statistics, grad_logits),
            label_smoothing,
            multi_target,
        )

    def clip_gradients(
        self,
        gradients: Sequence[Array],
        masks: Sequence[Array | None],
        rates: Array,
        *,
        max_norm: float,
    ) -> None:
        kernels.clip_gradients(gradients, masks, rates, max_norm)

    def sgd_update(
        self,
        parameter: Array,
        gradient: Array,
        velocity: Array | None,
        mask: Array | None,
        rates: Array,
        copy: Array | None = None,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        _check_no_copy(copy)
        kernels.sgd_update(
            parameter, gradient, velocity, mask, rates, momentum, nesterov, weight_decay
        )

    def adam_update(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        mask: Array | None,
        rates: Array,
        copy: Array | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        _check_no_copy(copy)
        kernels.adam_update(
            parameter,
            gradient,
            first,
            second,
            mask,
            rates,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decoupled,
        )


def _check_no_copy(copy: Array | None) -> None:
    if copy is not None:
        raise ValueError("copy must be absent: products read the parameter itself, in float32")
