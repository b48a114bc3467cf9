"""Two backends that take the same side at every kink of ReLU and max-pool.

A sum that rounding moves over 0, or past its neighbour in a window, sends a gradient elsewhere: an
error of 100 % in one entry, which says nothing about the products. (Of sums that are off by 1e-4,
one in 10,000 is so; the relative error of a gradient below them is the root of that, 1e-2.) So the
reference follows the decisions of the backend that it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cuda_kernels.linear import from_bf16
from fercore.backends.interface import Backend
from fercore.backends.reference import ReferenceBackend

Decision = tuple[np.ndarray, np.ndarray | None]
"""Which outputs of an epilogue are positive, and where in their windows they were."""

LEAST = 1e-300  # a positive number that is nothing


def decide(backend: Backend, decisions: list[Decision]) -> None:
    """Let ``backend`` write down the decisions of every forward pass from now on."""
    convolve, multiply = backend.conv2d_forward, backend.linear_forward
    normalise, pool = backend.batch_norm_forward, backend.max_pool_forward

    def conv2d_forward(
        x: Any, weight: Any, bias: Any, out: Any, argmax: Any = None, **options: Any
    ) -> None:
        convolve(x, weight, bias, out, argmax, **options)
        places = None if argmax is None else backend.to_host(argmax)
        decisions.append((numbers(backend.to_host(out)) > 0, places))

    def linear_forward(
        x: Any, weight: Any, bias: Any, out: Any, rng: Any = None, **options: Any
    ) -> None:
        multiply(x, weight, bias, out, rng, **options)
        decisions.append((numbers(backend.to_host(out)) > 0, None))

    def batch_norm_forward(*buffers: Any, **options: Any) -> None:
        normalise(*buffers, **options)
        out = buffers[6]
        decisions.append((numbers(backend.to_host(out)) > 0, None))

    def max_pool_forward(x: Any, out: Any, argmax: Any, **geometry: Any) -> None:
        pool(x, out, argmax, **geometry)
        decisions.append((numbers(backend.to_host(out)) > 0, backend.to_host(argmax)))

    backend.conv2d_forward = conv2d_forward  # type: ignore[method-assign]
    backend.linear_forward = linear_forward  # type: ignore[method-assign]
    backend.batch_norm_forward = batch_norm_forward  # type: ignore[method-assign]
    backend.max_pool_forward = max_pool_forward  # type: ignore[method-assign]


def numbers(array: np.ndarray) -> np.ndarray:
    """What bits of bf16 stand for; other numbers as they are."""
    return from_bf16(array) if array.dtype == np.uint16 else array


class Follower(ReferenceBackend):
    """The reference with another backend's decisions, in their order."""

    decisions: Iterator[Decision]

    def conv2d_forward(
        self, x, weight, bias, out, argmax=None, *, stride=1, padding=0, epilogue="none"
    ):
        positive, places = next(self.decisions)
        if epilogue != "relu_pool":
            super().conv2d_forward(x, weight, bias, out, stride=stride, padding=padding)
        else:
            sizes = zip(x.shape[1:3], weight.shape[1:3], strict=True)
            p, q = ((size + 2 * padding - k) // stride + 1 for size, k in sizes)
            before = np.empty((len(x), p, q, len(weight)))
            super().conv2d_forward(x, weight, bias, before, stride=stride, padding=padding)
            self._pool(before, out, argmax, places, window=2, stride=2)
        self._follow(out, positive, epilogue)

    def linear_forward(self, x, weight, bias, out, rng=None, *, epilogue="none", rate=0.0, layer=0):
        positive, _ = next(self.decisions)
        super().linear_forward(x, weight, bias, out)
        self._follow(out, positive, epilogue)
        if rng is not None:
            self.dropout(out, rng, out, rate=rate, layer=layer)

    def batch_norm_forward(self, *buffers, epilogue="none", **options):
        positive, _ = next(self.decisions)
        super().batch_norm_forward(*buffers, **options)
        self._follow(buffers[6], positive, epilogue)

    def max_pool_forward(self, x, out, argmax, *, window, stride):
        _, places = next(self.decisions)
        self._pool(x, out, argmax, places, window=window, stride=stride)

    @staticmethod
    def _pool(x, out, argmax, places, *, window, stride):
        n, row, column, channel = np.indices(out.shape)
        rows, columns = stride * row + places // window, stride * column + places % window
        out[...] = x[n, rows, columns, channel]
        argmax[...] = places

    @staticmethod
    def _follow(out, positive, epilogue):
        if epilogue != "none":
            out[...] = np.where(positive, np.maximum(out, LEAST), 0)
