"""What PyTorch and cuDNN need for the calls of a step, channels-last, at the same precision."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)

from bench.cases import CLASSES, Case, Operand
from fercore.timing import FLUSH_BYTES, Clock, measure

PRECISIONS = {
    "fp32": (torch.float32, False),
    "bf16x3": (torch.float32, False),  # the opponent of a precision of float32's class
    "tf32": (torch.float32, True),
    "bf16": (torch.bfloat16, True),
}
"""Type of the operands, and whether float32 products may be rounded."""

torch.backends.cudnn.benchmark = True


def row(case: Case, precision: str, seconds: float, emulated: bool) -> dict[str, Any]:
    """Time of the same call, or nothing where PyTorch has no such call."""
    if case.method not in _CALLS:
        return {}
    device = "cpu" if emulated else "cuda"
    run = _CALLS[case.method](_Operands(case, precision, device))
    timing = measure(run, clock(device), seconds)
    return {"torch_cpu_us" if emulated else "torch_us": timing.seconds * 1e6}


def product_rates(edge: int) -> dict[str, float]:
    """FLOP a second of a square product on the GPU, by precision."""
    found = {}
    for precision in ("fp32", "tf32", "bf16"):
        dtype = set_precision(precision)
        a, b = (torch.randn(edge, edge, device="cuda", dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        timing = measure(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), clock("cuda"), 1.0)
        found[precision] = 2 * edge**3 / timing.seconds
    return found


def set_precision(precision: str) -> torch.dtype:
    """Allow or forbid tensor cores for float32; the dtype of the operands."""
    dtype, tf32 = PRECISIONS[precision]
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    return dtype


@functools.cache
def clock(device: str) -> Clock:
    """Events of the current stream, or the wall clock of a CPU."""
    if device == "cpu":
        return Clock(_Now, lambda: None, fewest=1, warm_up=0.0)
    scratch = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)
    return Clock(_Event, lambda: scratch.fill_(1))


class _Now:
    def __init__(self) -> None:
        self.time = time.perf_counter()

    def seconds_since(self, earlier: _Now) -> float:
        return self.time - earlier.time


class _Event:
    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def seconds_since(self, earlier: _Event) -> float:
        self.event.synchronize()
        return earlier.event.elapsed_time(self.event) * 1e-3


class _Operands:
    """A case's operands as random tensors, by name; maps are NCHW in channels-last memory."""

    def __init__(self, case: Case, precision: str, device: str) -> None:
        self.case, self.device, self.options = case, device, case.options
        self.dtype = set_precision(precision)
        geometry = [case.options.get(name, 0) for name in ("stride", "padding")]
        self.stride, self.padding = ([value, value] for value in geometry)

    def __getattr__(self, name: str) -> Any:
        operand: Operand = self.case.operands[name]
        shape = operand.shape
        if len(shape) == 4:
            n, h, w, c = shape
            tensor = torch.randn(n, c, h, w, device=self.device, dtype=self.dtype)
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        elif name == "labels":
            tensor = torch.randint(0, CLASSES, shape, device=self.device)
        else:
            tensor = torch.randn(shape, device=self.device, dtype=self.dtype)
        setattr(self, name, tensor)
        return tensor


Run = Callable[[], Any]


def _conv2d_forward(o: _Operands) -> Run:
    epilogue, x, weight = o.options["epilogue"], o.x, o.weight
    bias = None if o.case.operands["bias"] is None else o.bias

    def run() -> None:
        out = F.conv2d(x, weight, bias, o.stride, o.padding)
        out = out if epilogue == "none" else out.relu_()
        if epilogue == "relu_pool":
            F.max_pool2d(out, 2, return_indices=True)

    return run


def _convolution_backward(o: _Operands, x: Any, weight: Any, mask: list[bool]) -> Run:
    grad, bias_sizes = o.grad, [weight.shape[0]] if mask[2] else None
    geometry = (o.stride, o.padding, [1, 1], False, [0, 0], 1)
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(grad, x, weight, bias_sizes, *geometry, mask)


def _conv2d_input_gradient(o: _Operands) -> Run:
    return _convolution_backward(o, o.grad_x, o.weight, [True, False, False])


def _conv2d_weight_gradient(o: _Operands) -> Run:
    with_bias = o.case.operands["grad_bias"] is not None
    return _convolution_backward(o, o.x, o.grad_weight, [False, True, with_bias])


def _epilogue_gradient(o: _Operands) -> Run:
    grad, out = o.grad, o.out
    threshold = torch.ops.aten.threshold_backward
    if o.options["epilogue"] == "relu":
        return lambda: threshold(grad, out, 0)
    whole = o.grad_before
    _, places = F.max_pool2d(whole, 2, return_indices=True)
    unpool = torch.ops.aten.max_pool2d_with_indices_backward

    def run() -> None:
        before = unpool(grad, whole, [2, 2], [2, 2], [0, 0], [1, 1], False, places)
        threshold(before, whole, 0)

    return run


def _linear_forward(o: _Operands) -> Run:
    x, weight, bias = o.x, o.weight, o.bias
    if o.options["rate"] > 0:
        return lambda: F.dropout(F.linear(x, weight, bias).relu_(), o.options["rate"])
    if o.options["epilogue"] == "relu":
        return lambda: F.linear(x, weight, bias).relu_()
    return lambda: F.linear(x, weight, bias)


def _linear_input_gradient(o: _Operands) -> Run:
    grad, weight = o.grad, o.weight
    return lambda: grad @ weight


def _linear_weight_gradient(o: _Operands) -> Run:
    grad, x = o.grad, o.x
    return lambda: (grad.T @ x, grad.sum(0))


def _max_pool_forward(o: _Operands) -> Run:
    x, window, stride = o.x, o.options["window"], o.options["stride"]
    return lambda: F.max_pool2d(x, window, stride, return_indices=True)


def _softmax_cross_entropy(o: _Operands) -> Run:
    logits, labels = o.logits.float().requires_grad_(), o.labels
    return lambda: torch.autograd.grad(F.cross_entropy(logits, labels), logits)


def _sgd_update(o: _Operands) -> Run:
    parameter = o.parameter.float().requires_grad_()
    parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.SGD([parameter], lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True)
    return optimizer.step


_CALLS: dict[str, Callable[[_Operands], Run]] = {
    function.__name__[1:]: function
    for function in (
        *(_conv2d_forward, _conv2d_input_gradient, _conv2d_weight_gradient, _epilogue_gradient),
        *(_linear_forward, _linear_input_gradient, _linear_weight_gradient),
        *(_max_pool_forward, _softmax_cross_entropy, _sgd_update),
    )
}
