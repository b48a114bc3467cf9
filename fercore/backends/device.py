"""What the backends ``cuda``, ``emulated`` and ``numba`` share: everything but the runtime, and for
``numba`` the kernels.

So every launch that is made on a GPU can be made, and checked, without one. Kernels get raw
pointers: dtypes, layouts and shapes are checked before anything is launched, and a ValueError
names the argument.
"""

from __future__ import annotations

import copy
import importlib
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np

from cuda_kernels import elementwise
from cuda_kernels.build import build
from cuda_kernels.compilers import BuildError
from cuda_kernels.linear import to_bf16
from cuda_kernels.noting import NotingRuntime, Sketch
from cuda_kernels.specs import Precision
from fercore.backends import waves
from fercore.backends.device_checks import (
    check_advance,
    check_below,
    check_conv2d,
    check_gather,
    check_image,
    check_mask,
    check_pool,
    check_scatter,
    label_rows,
    reads,
    shape_of,
    split_slices,
    writes,
)
from fercore.backends.interface import Augmentation, Backend, Buffer, Epilogue
from fercore.errors import FercoreError

OPERATIONS = (
    "augment",
    "batches",
    "batch_norm",
    "conv2d",
    "dropout",
    "elementwise",
    "linear",
    "max_pool",
    "softmax_cross_entropy",
    "update",
)

BF16 = np.dtype(np.uint16)
"""Numbers of which buffers hold the bits."""

HELD = 4
"""Held arrays may take one of so many parts of the memory that is free or theirs."""

TENSOR_CORES = 80
"""Ampere: the oldest GPUs whose tensor cores multiply tf32 and bf16."""


class DeviceBackend(Backend):
    """The kernels of one package, a module an operation, on one runtime.

    ``precision`` is that of products, in convolutions and fully connected layers: fp32, tf32,
    bf16x3 or bf16; what tensor cores do not suit is done without them all the same. Buffers are
    float32, but in bf16 activations, their gradients and the copies of weights are bf16.
    """

    dtype = np.dtype(np.float32)
    leaves_slices = True
    """Whether updates sum what weight gradients leave in slices; Numba's kernels do neither."""

    def __init__(
        self, runtime: Any, package: str = "cuda_kernels", precision: Precision = "fp32"
    ) -> None:
        if precision != "fp32" and runtime.arch < TENSOR_CORES:
            raise FercoreError(
                f"backend {self.name}: {precision} needs the tensor cores of sm_{TENSOR_CORES} or "
                f"newer, and this GPU is sm_{runtime.arch}; choose precision fp32"
            )
        self._runtime, self._precision = runtime, precision
        self._kernels = SimpleNamespace(
            **{name: importlib.import_module(f"{package}.{name}") for name in OPERATIONS}
        )
        # Of whatever reads or writes activations; where tf32 and bf16x3 have no kernel, fp32's
        # stands in. All packages compute in fp32 when nothing is said, Numba's in nothing else.
        self._options = {} if precision == "fp32" else {"precision": precision}
        self._held: list[weakref.ref[Any]] = []  # buffers, as long as somebody uses them

    @property
    def compute_dtype(self) -> np.dtype:
        return BF16 if self._precision == "bf16" else self.dtype

    @property
    def runtime(self) -> Any:
        """Where its launches go."""
        return self._runtime

    def capture(self, run: Callable[[], None]) -> Callable[[], None] | None:
        if not hasattr(self._runtime, "capture"):  # Numba's
            return None
        with self._runtime.capture() as graph:
            run()
        replay: Callable[[], None] = graph.replay
        return replay

    def leaves_room(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if not self._runtime.multiprocessors:
            return False
        noting = NotingRuntime(self._runtime.arch, self._runtime.pins)
        noted = copy.copy(self)
        noted._runtime = noting
        getattr(noted, method)(*map(_sketched, args), **kwargs)
        most = max(noting.launches, key=lambda one: one.problem.flops)
        return waves.leaves_room(math.prod(most.grid), self._runtime.multiprocessors)

    def stream(self, number: int) -> AbstractContextManager[None]:
        stream: AbstractContextManager[None] = self._runtime.stream(number)
        return stream

    def point(self) -> Any:
        return self._runtime.event()

    def wait(self, point: Any) -> None:
        self._runtime.wait(point)

    def scope(self, label: str) -> AbstractContextManager[None]:
        named: AbstractContextManager[None] = self._runtime.range(label)
        return named

    # -- memory ---------------------------------------------------------------------------------

    def free_memory(self) -> int | None:
        free: int | None = self._runtime.free_memory()
        return super().free_memory() if free is None else free

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Buffer:
        return self._runtime.empty(shape, self.dtype if dtype is None else np.dtype(dtype))

    def from_host(self, array: np.ndarray) -> Buffer:
        dtype = self.dtype if array.dtype.kind == "f" else array.dtype
        buffer = self.empty(array.shape, dtype)
        self.write(buffer, array)
        return buffer

    def to_host(self, buffer: Buffer) -> np.ndarray:
        array: np.ndarray = self._runtime.copy_out(buffer)
        return array

    def write(self, buffer: Buffer, array: np.ndarray) -> None:
        if buffer.shape != array.shape:
            raise ValueError(
                f"array must have the buffer's shape {buffer.shape}, not {array.shape}"
            )
        if buffer.dtype == BF16 and array.dtype.kind == "f":
            array = to_bf16(array)
        self._runtime.copy_in(buffer, np.asarray(array, buffer.dtype, order="C"))

    def hold(self, array: np.ndarray) -> Buffer | None:
        self._held = [one for one in self._held if one() is not None]
        held = sum(buffer.nbytes for one in self._held if (buffer := one()) is not None)
        free = self.free_memory()
        if free is not None and array.nbytes + held > (free + held) // HELD:
            return None
        buffer = self.from_host(array)
        self._held.append(weakref.ref(buffer))
        return buffer

    def synchronize(self) -> None:
        self._runtime.synchronize()

    def view(self, buffer: Buffer, offset: int, shape: Sequence[int], dtype: Any) -> Buffer:
        return self._runtime.view(buffer, offset, shape, dtype)

    def fill(self, buffer: Buffer, value: float) -> None:
        if buffer.dtype.kind == "f":
            writes(buffer.shape, buffer.dtype, buffer=buffer)
            self._kernels.elementwise.fill(self._runtime, buffer, value)
        else:  # never in a step
            self.write(buffer, np.full(buffer.shape, value, buffer.dtype))

    def accumulate(self, total: Buffer, term: Buffer) -> None:
        narrow = total.dtype == self.compute_dtype  # an activation's gradient; else a parameter's
        dtype = self.compute_dtype if narrow else self.dtype
        writes(total.shape, dtype, total=total)
        reads(total.shape, dtype, term=term)
        options = self._options if narrow else {}
        self._kernels.elementwise.accumulate(self._runtime, total, term, **options)

    # -- convolution ----------------------------------------------------------------------------

    def conv2d_forward(
        self,
        x: Buffer,
        weight: Buffer,
        bias: Buffer | None,
        out: Buffer,
        argmax: Buffer | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        epilogue: Epilogue = "none",
    ) -> None:
        dtype = self.compute_dtype
        n, p, q, o = check_conv2d(x, weight, stride, padding, dtype, dtype)
        shape = (n, p // 2, q // 2, o) if epilogue == "relu_pool" else (n, p, q, o)
        reads((o,), bias=bias)
        writes(shape, dtype, out=out)
        writes(shape, np.uint8, argmax=argmax)
        self._kernels.conv2d.forward(
            self._runtime,
            x,
            weight,
            bias,
            out,
            argmax,
            stride=stride,
            padding=padding,
            epilogue=epilogue,
            **self._options,
        )

    def conv2d_input_gradient(
        self,
        grad: Buffer,
        weight: Buffer,
        grad_x: Buffer,
        out: Buffer | None = None,
        argmax: Buffer | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        dtype = self.compute_dtype
        x = grad_x if out is None else out
        shape = check_conv2d(x, weight, stride, padding, dtype, dtype)
        reads(shape, dtype, grad=grad)
        check_below(x.shape, grad_x, out, argmax, dtype)
        self._kernels.conv2d.input_gradient(
            self._runtime,
            grad,
            weight,
            grad_x,
            out,
            argmax,
            stride=stride,
            padding=padding,
            **self._options,
        )

    def conv2d_weight_gradient(
        self,
        x: Buffer | None,
        grad: Buffer,
        grad_weight: Buffer | None,
        grad_bias: Buffer | None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        *_, o = shape = shape_of(4, grad=grad)
        if grad_weight is not None:
            if x is None:
                raise ValueError("x is needed for grad_weight")
            weight = self._parameter_shape(4, grad_weight=grad_weight)
            shape = check_image(x, weight, stride, padding, self.compute_dtype)
            writes(grad_weight.shape, grad_weight=grad_weight)
        reads(shape, self.compute_dtype, grad=grad)
        if grad_bias is not None:
            if self._parameter_shape(1, grad_bias=grad_bias) != (o,):
                raise ValueError(f"grad_bias must have {o} entries, not shape {grad_bias.shape}")
            writes(grad_bias.shape, grad_bias=grad_bias)
        self._kernels.conv2d.weight_gradient(
            self._runtime,
            x,
            grad,
            grad_weight,
            grad_bias,
            stride=stride,
            padding=padding,
            **self._options,
        )

    def conv2d_gradient_slices(
        self, x: tuple[int, ...], weight: tuple[int, ...], *, stride: int = 1, padding: int = 0
    ) -> int:
        if not self.leaves_slices:
            return super().conv2d_gradient_slices(x, weight, stride=stride, padding=padding)
        slices: int = self._kernels.conv2d.gradient_slices(
            self._runtime, x, weight, stride=stride, padding=padding, **self._options
        )
        return slices

    def epilogue_gradient(
        self,
        grad: Buffer,
        out: Buffer,
        argmax: Buffer | None,
        grad_before: Buffer,
        *,
        epilogue: Epilogue,
    ) -> None:
        shape = grad_before.shape
        if epilogue == "relu_pool":
            if argmax is None:
                raise ValueError("relu_pool needs the argmax of its forward pass")
            n, p, q, o = shape_of(4, grad_before=grad_before)
            shape = (n, p // 2, q // 2, o)
        reads(shape, self.compute_dtype, grad=grad, out=out)
        reads(shape, np.uint8, argmax=argmax)
        writes(grad_before.shape, self.compute_dtype, grad_before=grad_before)
        self._kernels.conv2d.epilogue_gradient(
            self._runtime, grad, out, argmax, grad_before, epilogue=epilogue, **self._options
        )

    # -- fully connected ------------------------------------------------------------------------

    def linear_forward(
        self,
        x: Buffer,
        weight: Buffer,
        bias: Buffer | None,
        out: Buffer,
        rng: Buffer | None = None,
        *,
        epilogue: Epilogue = "none",
        rate: float = 0.0,
        layer: int = 0,
    ) -> None:
        (n, i), (o, _) = shape_of(2, x=x), shape_of(2, weight=weight)
        if epilogue == "relu_pool":
            raise ValueError("a fully connected layer has no 2x2 windows to pool")
        reads((n, i), self.compute_dtype, x=x)
        reads((o, i), self.compute_dtype, weight=weight)
        reads((o,), bias=bias)
        reads((4,), np.uint32, rng=rng)
        of_logits = out.dtype == self.dtype
        writes((n, o), self.dtype if of_logits else self.compute_dtype, out=out)
        self._kernels.linear.forward(
            self._runtime,
            x,
            weight,
            bias,
            out,
            relu=epilogue == "relu",
            rng=rng,
            rate=rate,
            layer=layer,
            **self._options,
        )

    def linear_input_gradient(
        self,
        grad: Buffer,
        weight: Buffer,
        grad_x: Buffer,
        out: Buffer | None = None,
        argmax: Buffer | None = None,
        *,
        rate: float = 0.0,
    ) -> None:
        (n, o), (_, i) = shape_of(2, grad=grad), shape_of(2, weight=weight)
        reads((n, o), self.compute_dtype, grad=grad)
        reads((o, i), self.compute_dtype, weight=weight)
        check_below((n, i), grad_x, out, argmax, self.compute_dtype)
        self._kernels.linear.input_gradient(
            self._runtime, grad, weight, grad_x, out, argmax, rate=rate, **self._options
        )

    def linear_weight_gradient(
        self,
        x: Buffer | None,
        grad: Buffer,
        grad_weight: Buffer | None,
        grad_bias: Buffer | None,
    ) -> None:
        n, o = shape_of(2, grad=grad)
        reads((n, o), self.compute_dtype, grad=grad)
        if grad_weight is not None:
            if x is None:
                raise ValueError("x is needed for grad_weight")
            i = shape_of(2, grad_weight=grad_weight)[1]
            reads((n, i), self.compute_dtype, x=x)
            writes((o, i), grad_weight=grad_weight)
        writes((o,), grad_bias=grad_bias)
        self._kernels.linear.weight_gradient(
            self._runtime, x, grad, grad_weight, grad_bias, **self._options
        )

    # -- pooling, dropout, normalisation --------------------------------------------------------

    def max_pool_forward(
        self, x: Buffer, out: Buffer, argmax: Buffer | None, *, window: int, stride: int
    ) -> None:
        shape = check_pool(window, stride, x=x)
        reads(x.shape, self.compute_dtype, x=x)
        writes(shape, self.compute_dtype, out=out)
        writes(shape, np.uint8, argmax=argmax)
        self._kernels.max_pool.forward(
            self._runtime, x, out, argmax, window=window, stride=stride, **self._options
        )

    def max_pool_backward(
        self, grad: Buffer, argmax: Buffer, grad_x: Buffer, *, window: int, stride: int
    ) -> None:
        shape = check_pool(window, stride, grad_x=grad_x)
        reads(shape, self.compute_dtype, grad=grad)
        reads(shape, np.uint8, argmax=argmax)
        writes(grad_x.shape, self.compute_dtype, grad_x=grad_x)
        self._kernels.max_pool.backward(
            self._runtime, grad, argmax, grad_x, window=window, stride=stride, **self._options
        )

    def dropout(self, x: Buffer, rng: Buffer, out: Buffer, *, rate: float, layer: int) -> None:
        reads(x.shape, self.compute_dtype, x=x)
        reads((4,), np.uint32, rng=rng)
        writes(x.shape, self.compute_dtype, out=out)
        self._kernels.dropout.dropout(
            self._runtime, x, rng, out, rate=rate, layer=layer, **self._options
        )

    def batch_norm_forward(
        self,
        x: Buffer,
        weight: Buffer,
        bias: Buffer,
        running_mean: Buffer,
        running_variance: Buffer,
        moving: Buffer | None,
        out: Buffer,
        mean: Buffer,
        inverse_std: Buffer,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        epilogue: Epilogue = "none",
    ) -> None:
        channels = x.shape[-1:]
        if epilogue == "relu_pool":
            raise ValueError("batch normalisation has no pooling epilogue")
        reads(x.shape, self.compute_dtype, x=x)
        reads(channels, weight=weight, bias=bias)
        reads(channels, np.uint8, moving=moving)
        writes(channels, running_mean=running_mean, running_variance=running_variance)
        writes(x.shape, self.compute_dtype, out=out)
        writes(channels, mean=mean, inverse_std=inverse_std)
        self._kernels.batch_norm.forward(
            self._runtime,
            x,
            weight,
            bias,
            running_mean,
            running_variance,
            moving,
            out,
            mean,
            inverse_std,
            momentum=momentum,
            epsilon=epsilon,
            epilogue=epilogue,
            **self._options,
        )

    def batch_norm_backward(
        self,
        x: Buffer | None,
        grad: Buffer,
        weight: Buffer,
        mean: Buffer,
        inverse_std: Buffer,
        moving: Buffer | None,
        grad_x: Buffer | None,
        grad_weight: Buffer | None,
        grad_bias: Buffer | None,
    ) -> None:
        channels = grad.shape[-1:]
        if x is None and grad_weight is not None:
            raise ValueError("x is needed for grad_weight")
        reads(grad.shape, self.compute_dtype, x=x, grad=grad)
        reads(channels, weight=weight, mean=mean, inverse_std=inverse_std)
        reads(channels, np.uint8, moving=moving)
        writes(grad.shape, self.compute_dtype, grad_x=grad_x)
        writes(channels, grad_weight=grad_weight, grad_bias=grad_bias)
        self._kernels.batch_norm.backward(
            self._runtime,
            x,
            grad,
            weight,
            mean,
            inverse_std,
            None if x is None else moving,  # it may be absent only where no channel moves
            grad_x,
            grad_weight,
            grad_bias,
            **self._options,
        )

    # -- input, loss, update --------------------------------------------------------------------

    def advance(
        self,
        cursor: Buffer,
        order: Buffer,
        schedule: Buffer | None,
        indices: Buffer,
        rng: Buffer | None,
        rates: Buffer | None,
    ) -> None:
        check_advance(cursor, order, schedule, indices, rng, rates)
        self._kernels.batches.advance(self._runtime, cursor, order, schedule, indices, rng, rates)

    def gather(self, table: Buffer, indices: Buffer, out: Buffer, *, padding: int = 0) -> None:
        check_gather(table, indices, out)
        if table.dtype.itemsize not in (2, 4):
            raise ValueError(f"table must have 2 or 4 bytes an entry, and is {table.dtype}")
        self._kernels.batches.gather(self._runtime, table, indices, out, padding=padding)

    def scatter(self, values: Buffer, indices: Buffer, table: Buffer) -> None:
        check_scatter(values, indices, table)
        if table.dtype != self.dtype:
            raise ValueError(f"table must be {self.dtype}, and is {table.dtype}")
        self._kernels.batches.scatter(self._runtime, values, indices, table)

    def augment(
        self,
        images: Buffer,
        labels: Buffer,
        indices: Buffer,
        rng: Buffer,
        x: Buffer,
        y: Buffer,
        *,
        augmentation: Augmentation = Augmentation(),
        mean: float = 0.5,
        std: float = 0.25,
    ) -> None:
        count, height, width = shape_of(3, images=images)
        (n,) = shape_of(1, indices=indices)
        reads((count, height, width), np.uint8, images=images)
        kind, row = label_rows(labels)
        reads((count, *row), kind, labels=labels)
        reads((n,), np.int32, indices=indices)
        reads((4,), np.uint32, rng=rng)
        writes((n, height, width, 1), self.compute_dtype, x=x)
        writes((n, *row), kind, y=y)
        self._kernels.augment.augment(
            self._runtime,
            images,
            labels,
            indices,
            rng,
            x,
            y,
            flip=augmentation.flip,
            shift=augmentation.shift,
            rotation=augmentation.rotation,
            scale=augmentation.scale,
            cutout=augmentation.cutout,
            mean=mean,
            std=std,
            **self._options,
        )

    def softmax_cross_entropy(
        self,
        logits: Buffer,
        labels: Buffer,
        class_weights: Buffer | None,
        statistics: Buffer,
        grad_logits: Buffer | None,
        *,
        label_smoothing: float = 0.0,
        multi_target: bool = False,
    ) -> None:
        n, classes = shape_of(2, logits=logits)
        reads((n, classes), logits=logits)
        if labels.ndim == 2:
            reads((n, classes), labels=labels)
        else:
            reads((n,), np.int32, labels=labels)
        reads((classes,), class_weights=class_weights)
        writes((4,), np.float64, statistics=statistics)
        writes((n, classes), self.compute_dtype, grad_logits=grad_logits)
        self._kernels.softmax_cross_entropy.loss_and_gradient(
            self._runtime,
            logits,
            labels,
            class_weights,
            statistics,
            grad_logits,
            label_smoothing=label_smoothing,
            multi_target=multi_target,
            **self._options,
        )

    def clip_gradients(
        self,
        gradients: Sequence[Buffer],
        masks: Sequence[Buffer | None],
        rates: Buffer,
        *,
        max_norm: float,
    ) -> None:
        for gradient, mask in zip(gradients, masks, strict=True):
            reads(gradient.shape, gradient=gradient)
            check_mask(mask, gradient)
        writes((4,), np.float64, rates=rates)
        count = self._kernels.update.partials(gradients)
        sums = self._runtime.scratch("norms", count, np.float64)
        self._kernels.update.clip(self._runtime, gradients, masks, sums, rates, max_norm=max_norm)

    def sgd_update(
        self,
        parameter: Buffer,
        gradient: Buffer,
        velocity: Buffer | None,
        mask: Buffer | None,
        rates: Buffer,
        copy: Buffer | None = None,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        shape = parameter.shape
        self._check_gradient(parameter, gradient)
        check_mask(mask, parameter)
        reads((4,), np.float64, rates=rates)
        writes(shape, parameter=parameter, velocity=velocity)
        writes(shape, BF16, copy=copy)
        self._kernels.update.sgd(
            self._runtime,
            parameter,
            gradient,
            velocity,
            mask,
            rates,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            **_given(copy=copy),
        )

    def adam_update(
        self,
        parameter: Buffer,
        gradient: Buffer,
        first: Buffer,
        second: Buffer,
        mask: Buffer | None,
        rates: Buffer,
        copy: Buffer | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        shape = parameter.shape
        self._check_gradient(parameter, gradient)
        check_mask(mask, parameter)
        reads((4,), np.float64, rates=rates)
        writes(shape, parameter=parameter, first=first, second=second)
        writes(shape, BF16, copy=copy)
        self._kernels.update.adam(
            self._runtime,
            parameter,
            gradient,
            first,
            second,
            mask,
            rates,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            decoupled=decoupled,
            **_given(copy=copy),
        )

    def _parameter_shape(self, axes: int, **gradient: Buffer) -> tuple[int, ...]:
        """The shape of the parameter that a gradient, which may be in slices, is of."""
        slices, shape = split_slices(axes, **gradient)
        if slices and not self.leaves_slices:
            raise ValueError(f"{self.name} sums no slices, and {min(gradient)} has {slices[0]}")
        return shape

    def _check_gradient(self, parameter: Buffer, gradient: Buffer) -> None:
        if self._parameter_shape(parameter.ndim, gradient=gradient) != parameter.shape:
            raise ValueError(
                f"gradient must be of shape {parameter.shape}, with or without an axis of slices "
                f"before it, not {gradient.shape}"
            )
        reads(gradient.shape, gradient=gradient)


def _sketched(argument: Any) -> Any:
    """A buffer of the same shape and dtype that has no memory; what is no buffer, as it is."""
    if not hasattr(argument, "shape"):
        return argument
    return Sketch(tuple(argument.shape), np.dtype(argument.dtype))


def _given(**buffers: Buffer | None) -> dict[str, Buffer]:
    """Those that are not absent: not every package has kernels that take them."""
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def try_compiler(backend: str, target: str) -> None:
    """Build one small file, so that a missing compiler shows now and not in the first step."""
    try:
        build(elementwise.SOURCE, target)
    except BuildError as error:
        raise FercoreError(f"backend {backend}: {error}") from error
