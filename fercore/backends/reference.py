"""The reference backend: every operation in NumPy, written to be read as its definition.

It is what the other backends are compared with, and shares no code with them. float64 by default;
in float32, sums over a batch are still carried in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fercore.backends.interface import DROPOUT_STREAM, Augmentation, Backend, Epilogue
from fercore.backends.philox import philox, uniform
from fercore.backends.reference_augmentation import Draw, warp

Array = np.ndarray


class ReferenceBackend(Backend):
    """NumPy, in any floating dtype: the definition of every operation."""

    name = "reference"

    def __init__(self, dtype: npt.DTypeLike = "float64") -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype.kind != "f":
            raise ValueError(f"dtype must be a floating type, not {self.dtype}")

    # -- memory ---------------------------------------------------------------------------------

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        return np.empty(shape, self.dtype if dtype is None else dtype)

    def from_host(self, array: Array) -> Array:
        dtype = self.dtype if array.dtype.kind == "f" else array.dtype
        return np.array(array, dtype, order="C")

    def to_host(self, buffer: Array) -> Array:
        return buffer.copy()

    def write(self, buffer: Array, array: Array) -> None:
        _store(buffer, array)

    def view(self, buffer: Array, offset: int, shape: Sequence[int], dtype: Any) -> Array:
        content = buffer.reshape(-1).view(np.uint8)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not 0 <= offset <= content.size - size:
            raise ValueError(f"{size} bytes at {offset} leave a buffer of {content.size}")
        entries: Array = content[offset : offset + size].view(dtype)
        return entries.reshape(shape)

    def fill(self, buffer: Array, value: float) -> None:
        buffer.fill(value)

    def accumulate(self, total: Array, term: Array) -> None:
        if term.shape != total.shape:
            raise ValueError(f"expected a term of shape {total.shape}, got {term.shape}")
        total += term

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
        patches = _windows(_pad(x, padding), weight.shape[1:3], stride)
        before = np.einsum("npqcyx,oyxc->npqo", patches, weight, optimize=True)
        if bias is not None:
            before = before + bias
        if epilogue == "relu_pool":
            self.max_pool_forward(_relu(before), out, argmax, window=2, stride=2)
        else:
            _store(out, _relu(before) if epilogue == "relu" else before)

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
        _, height, width, _ = (grad_x if out is None else out).shape
        padded = _pad(np.zeros_like(grad_x if out is None else out), padding)
        for y, x in np.ndindex(weight.shape[1:3]):
            _strided(padded, y, x, stride, grad.shape)[...] += grad @ weight[:, y, x, :]
        inner = padded[:, padding : padding + height, padding : padding + width]
        self._store_below(inner, out, argmax, grad_x)

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
        if grad_weight is not None:
            assert x is not None, "x is needed for grad_weight"
            # Rows and columns that the last window does not reach have no gradient to give.
            patches = _windows(_pad(x, padding), grad_weight.shape[1:3], stride)
            _store(grad_weight, np.einsum("npqcyx,npqo->oyxc", patches, grad, optimize=True))
        if grad_bias is not None:
            _store(grad_bias, grad.sum(axis=(0, 1, 2), dtype=np.float64))

    def epilogue_gradient(
        self,
        grad: Array,
        out: Array,
        argmax: Array | None,
        grad_before: Array,
        *,
        epilogue: Epilogue,
    ) -> None:
        passed = np.where(out > 0, grad, 0)
        if epilogue == "relu_pool":
            assert argmax is not None, "relu_pool needs the argmax of its forward pass"
            self.max_pool_backward(passed, argmax, grad_before, window=2, stride=2)
        else:
            _store(grad_before, passed)

    def _store_below(
        self, grad: Array, out: Array | None, argmax: Array | None, grad_x: Array
    ) -> None:
        """Store the gradient of an input, or that before the epilogue which made the input."""
        if out is None:
            _store(grad_x, grad)
        elif argmax is None:
            self.epilogue_gradient(grad, out, None, grad_x, epilogue="relu")
        else:
            n, p, q, c = grad_x.shape
            grad, out, argmax = (a.reshape(n, p // 2, q // 2, c) for a in (grad, out, argmax))
            self.epilogue_gradient(grad, out, argmax, grad_x, epilogue="relu_pool")

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
        before = x @ weight.T
        if bias is not None:
            before = before + bias
        _store(out, _relu(before) if epilogue == "relu" else before)
        if rng is not None:
            self.dropout(out, rng, out, rate=rate, layer=layer)

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
        self._store_below(grad @ weight / (1 - rate), out, argmax, grad_x)

    def linear_weight_gradient(
        self,
        x: Array | None,
        grad: Array,
        grad_weight: Array | None,
        grad_bias: Array | None,
    ) -> None:
        if grad_weight is not None:
            assert x is not None, "x is needed for grad_weight"
            _store(grad_weight, grad.T @ x)
        if grad_bias is not None:
            _store(grad_bias, grad.sum(axis=0, dtype=np.float64))

    # -- pooling, dropout, normalisation --------------------------------------------------------

    def max_pool_forward(
        self, x: Array, out: Array, argmax: Array | None, *, window: int, stride: int
    ) -> None:
        patches = _windows(x, (window, window), stride)
        entries = patches.reshape(*patches.shape[:4], window * window)
        largest = entries.argmax(axis=-1)  # the first of equals; NaN is the largest of all
        _store(out, np.take_along_axis(entries, largest[..., None], axis=-1)[..., 0])
        if argmax is not None:
            _store(argmax, largest)

    def max_pool_backward(
        self, grad: Array, argmax: Array, grad_x: Array, *, window: int, stride: int
    ) -> None:
        grad_x.fill(0)
        for y, x in np.ndindex(window, window):
            chosen = np.where(argmax == y * window + x, grad, 0)
            _strided(grad_x, y, x, stride, grad.shape)[...] += chosen

    def dropout(self, x: Array, rng: Array, out: Array, *, rate: float, layer: int) -> None:
        seed, run, _, step = rng
        quads = np.arange(-(-x.size // 4))
        words = philox((quads, step, layer, DROPOUT_STREAM), (seed, run))
        keep = uniform(words).reshape(-1)[: x.size].reshape(x.shape) >= rate
        _store(out, x * keep / (1 - rate))

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
        variance = running_variance.copy()
        mean[...] = running_mean
        if moving is not None and moving.any():
            chosen = moving != 0
            rows = x.reshape(-1, x.shape[-1])[:, chosen]
            count = len(rows)
            mean[chosen] = rows.mean(axis=0, dtype=np.float64)
            variance[chosen] = ((rows - mean[chosen]) ** 2).mean(axis=0, dtype=np.float64)
            unbiased = variance[chosen] * count / max(count - 1, 1)
            for running, batch in ((running_mean, mean[chosen]), (running_variance, unbiased)):
                running[chosen] = (1 - momentum) * running[chosen] + momentum * batch
        inverse_std[...] = 1 / np.sqrt(variance + epsilon)
        before = (x - mean) * inverse_std * weight + bias
        _store(out, _relu(before) if epilogue == "relu" else before)

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
        axes = tuple(range(grad.ndim - 1))
        grad_sum = grad.sum(axis=axes, dtype=np.float64)
        if grad_bias is not None:
            _store(grad_bias, grad_sum)
        through_statistics: Array | float = 0.0
        some_move = moving is not None and bool(moving.any())
        if grad_weight is not None or (grad_x is not None and some_move):
            assert x is not None, "x is needed for grad_weight and for channels that move"
            normalised = (x - mean) * inverse_std
            product_sum = (grad * normalised).sum(axis=axes, dtype=np.float64)
            if grad_weight is not None:
                _store(grad_weight, product_sum)
            if moving is not None:
                # The mean and the variance of a moving channel depend on every x in it.
                count = grad.size // grad.shape[-1]
                shares = (grad_sum + normalised * product_sum) / count
                through_statistics = np.where(moving, shares, 0)
        if grad_x is not None:
            _store(grad_x, weight * inverse_std * (grad - through_statistics))

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
        row, step, number = (int(count) for count in cursor)
        for i in range(len(indices)):
            indices[i] = order[row + i] if row + i < len(order) else -1
        if schedule is not None and rates is not None:
            rates[...] = schedule[min(step, len(schedule) - 1)]
        if rng is not None:
            rng[3] = number
        cursor[...] = row + len(indices), step + 1, number + 1

    def gather(self, table: Array, indices: Array, out: Array, *, padding: int = 0) -> None:
        rows = [np.full_like(out[0], padding) if i < 0 else table[i] for i in indices]
        _store(out, np.stack(rows))

    def scatter(self, values: Array, indices: Array, table: Array) -> None:
        for index, value in zip(indices, values, strict=True):
            if index >= 0:
                table[index] = value

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
        real = indices >= 0
        y[...] = -1
        y[real] = labels[indices[real]]
        x.fill(0)
        for n in np.flatnonzero(real):
            draw = Draw.of(augmentation, images.shape[1:], int(indices[n]), rng)
            x[n, :, :, 0] = (warp(images[indices[n]], draw) / 255 - mean) / std
            if augmentation.cutout:
                x[n, *draw.cutout, 0] = 0

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
        classes = logits.shape[1]
        soft = labels.ndim == 2
        real = (labels[:, 0] if soft else labels) >= 0
        scores = logits[real].astype(np.float64)
        shares = labels[real].astype(np.float64) if soft else np.eye(classes)[labels[real]]
        shifted = scores - scores.max(axis=1, keepdims=True)  # so that exp cannot overflow
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        weights = np.ones(len(shares)) if class_weights is None else shares @ class_weights
        right = shares.argmax(axis=1)
        if multi_target:
            shares = np.eye(classes)[np.where(shares > 0, scores, -np.inf).argmax(axis=1)]
        target = (1 - label_smoothing) * shares + label_smoothing / classes
        losses = -(target * log_p).sum(axis=1)
        correct = scores.argmax(axis=1) == right
        statistics += [weights @ losses, weights.sum(), correct.sum(), len(right)]
        if grad_logits is not None:
            grad_logits.fill(0)
            if weights.sum() > 0:
                share = weights / weights.sum()
                grad_logits[real] = share[:, None] * (np.exp(log_p) - target)

    def clip_gradients(
        self,
        gradients: Sequence[Array],
        masks: Sequence[Array | None],
        rates: Array,
        *,
        max_norm: float,
    ) -> None:
        squares = 0.0
        for gradient, mask in zip(gradients, masks, strict=True):
            unmasked = gradient[_selected(mask, gradient)].astype(np.float64)
            squares += float(unmasked @ unmasked)
        norm = math.sqrt(squares)
        rates[3] = 1.0 if norm <= max_norm else max_norm / norm

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
        rate, _, _, clip = rates.tolist()
        chosen = _selected(mask, parameter)
        p = parameter[chosen]
        g = clip * gradient[chosen] + weight_decay * p
        v = g if velocity is None else momentum * velocity[chosen] + g
        parameter[chosen] = p - rate * (g + momentum * v if nesterov else v)
        if velocity is not None:
            velocity[chosen] = v
        if copy is not None:
            copy[chosen] = parameter[chosen]

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
        rate, correction1, correction2, clip = rates.tolist()
        chosen = _selected(mask, parameter)
        p = parameter[chosen]
        decay = weight_decay * p
        g = clip * gradient[chosen] + (0 if decoupled else decay)
        m = beta1 * first[chosen] + (1 - beta1) * g
        v = beta2 * second[chosen] + (1 - beta2) * g**2
        step = m / correction1 / (np.sqrt(v / correction2) + epsilon)
        parameter[chosen] = p - rate * (step + (decay if decoupled else 0))
        first[chosen], second[chosen] = m, v
        if copy is not None:
            copy[chosen] = parameter[chosen]


def _store(out: Array, value: Array) -> None:
    """Round ``value`` into ``out``, which must have its shape: nothing is broadcast by mistake."""
    if out.shape != value.shape:
        raise ValueError(f"expected an output of shape {value.shape}, got {out.shape}")
    out[...] = value


def _relu(x: Array) -> Array:
    result: Array = np.maximum(x, 0)  # of a NaN, NaN
    return result


def _pad(x: Array, padding: int) -> Array:
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _windows(x: Array, size: tuple[int, int], stride: int) -> Array:
    """Every window of ``x [N, H, W, C]``: ``[N, P, Q, C, *size]``."""
    windows: Array = sliding_window_view(x, size, axis=(1, 2))[:, ::stride, ::stride]
    return windows


def _strided(image: Array, y: int, x: int, stride: int, shape: Sequence[int]) -> Array:
    """What entry ``(y, x)`` of each of the ``[N, P, Q, _]`` windows sees of ``image``; a view."""
    _, rows, columns, _ = shape
    seen: Array = image[:, y : y + stride * rows : stride, x : x + stride * columns : stride]
    return seen


def _selected(mask: Array | None, parameter: Array) -> Array:
    """Which entries of ``parameter`` may change: bool, its shape; ``[O]`` masks are broadcast."""
    if mask is None:
        return np.ones(parameter.shape, bool)
    trailing = (1,) * (parameter.ndim - mask.ndim)
    return np.broadcast_to(mask.reshape(mask.shape + trailing) != 0, parameter.shape)
