"""What every Function must do, whatever it computes.

``make(backend)`` builds a fresh Function (or a callable around one) on a backend; arrays are its
inputs. A wanted input is a Parameter, any other a plain Tensor.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fercore import backends
from fercore.autograd import Function, Tensor, backward
from fercore.nn import Parameter
from tests.backends.harness import relative_error
from tests.gradient_check import check_gradients
from tests.spy import Seen, Spy

Make = Callable[[Any], Callable[..., Tensor]]


def subsets(count: int) -> list[tuple[bool, ...]]:
    """Every choice of wanted inputs but the empty one."""
    return [wanted for wanted in itertools.product((False, True), repeat=count) if any(wanted)]


class Identity(Function):
    """A copy; keeps nothing, so that what stays alive above it is another function's doing."""

    def forward(self, x: Tensor) -> Tensor:
        return Tensor(self.backend, self.backend.from_host(x.data))

    def backward(self, grad: Any) -> tuple[Any, ...]:
        return (grad,)


def check_function(
    make: Make, draw: Callable[[], tuple[np.ndarray, ...]], *, directions: int = 0
) -> None:
    """Finite differences of every input together, then each subset against the whole."""
    reference = backends.get("reference")

    def forward(*arrays: np.ndarray) -> np.ndarray:
        tensors = (Tensor(reference, reference.from_host(array)) for array in arrays)
        return reference.to_host(make(reference)(*tensors).data)

    def all_gradients(grad: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray | None]:
        return gradients(reference, make, arrays, (True,) * len(arrays), grad)

    check_gradients(forward, all_gradients, draw, directions=directions)
    check_subsets(reference, make, draw())


def check_subsets(
    backend: Any, make: Make, arrays: Sequence[np.ndarray], *, alone: tuple[int, int] | None = None
) -> None:
    """Each choice of wanted inputs gives exactly those gradients, with the same bits.

    ``alone`` are two inputs: where the gradient of the first is computed without the second's, a
    kernel of its own may sum it in another order.
    """
    inputs = [Tensor(backend, backend.from_host(array)) for array in arrays]
    shape = make(backend)(*inputs).shape
    grad = np.random.default_rng(0).standard_normal(shape)
    whole = gradients(backend, make, arrays, (True,) * len(arrays), grad)
    for wanted in subsets(len(arrays)):
        part = gradients(backend, make, arrays, wanted, grad)
        for i, (want, mine, expected) in enumerate(zip(wanted, part, whole, strict=True)):
            assert (mine is not None) == want
            if want and alone is not None and i == alone[0] and not wanted[alone[1]]:
                assert relative_error(mine, expected) <= 1e-6
            elif want:
                np.testing.assert_array_equal(mine, expected, strict=True)


def gradients(
    backend: Any, make: Make, arrays: Sequence[np.ndarray], wanted: Sequence[bool], grad: np.ndarray
) -> list[np.ndarray | None]:
    """The gradient of ``sum(grad * output)`` in each wanted input; ``None`` for the others."""
    inputs = [
        Parameter(backend, array) if want else Tensor(backend, backend.from_host(array))
        for array, want in zip(arrays, wanted, strict=True)
    ]
    found = backward(make(backend)(*inputs), backend.from_host(grad))
    assert set(found) == {tensor for tensor, want in zip(inputs, wanted, strict=True) if want}
    for tensor, gradient in found.items():
        assert gradient.shape == tensor.shape
    return [backend.to_host(found[tensor]) if tensor in found else None for tensor in inputs]


@dataclass(frozen=True)
class Trace:
    """One forward and backward pass on the reference, watched."""

    forward: list[Seen]
    backward: list[Seen]
    kept_inputs: set[int]  # positions of the inputs that stayed alive for backward
    kept: list[tuple[tuple[int, ...], str]]  # shape and dtype of what it allocated and kept
    output_kept: bool

    def calls(self) -> Iterator[str]:
        return (call.method for call in self.backward)


def trace(make: Make, arrays: Sequence[np.ndarray], wanted: Sequence[bool]) -> Trace:
    """Run once; wanted inputs are intermediate results, so nothing but a save keeps them alive."""
    spy: Any = Spy(backends.get("reference"))
    inputs = [
        Identity()(Parameter(spy, array)) if want else Tensor(spy, spy.from_host(array))
        for array, want in zip(arrays, wanted, strict=True)
    ]
    references = [weakref.ref(tensor.data) for tensor in inputs]
    output = make(spy)(*inputs)
    forward = list(spy.calls)
    shape, creator, reference = output.shape, output.creator, weakref.ref(output.data)
    del inputs, output
    kept_inputs = {i for i, kept in enumerate(references) if kept() is not None}
    kept = [(buffer.shape, str(buffer.dtype)) for buffer in spy.alive()]
    output_kept = reference() is not None
    spy.calls.clear()
    if creator is not None:
        root = Tensor(spy, None)
        root.creator = creator
        backward(root, spy.from_host(np.ones(shape)))
        assert spy.alive() == [], "backward leaves saved buffers behind"
        assert not any(kept() is not None for kept in references)
    return Trace(forward, list(spy.calls), kept_inputs, kept, output_kept)
