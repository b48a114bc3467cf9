"""Reverse-mode differentiation that computes, and keeps, only what is wanted.

A ``Tensor`` is *wanted* if it is a parameter that may move, or was computed from one. A
``Function`` learns before its forward pass which of its inputs are wanted; it saves the buffers
that their gradients need and no others, and a function without a wanted input leaves no trace at
all. Freezing the lower layers of a network therefore removes their graph, their saved activations
and their gradient kernels, rather than discarding results at the end.

    x ── Conv2d ── Linear ── SoftmaxCrossEntropy ── loss        forward: left to right
           │          │
         weight     weight (wanted)                             backward: the loss and Linear only
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fercore.backends.interface import Backend, Buffer


class BackwardError(RuntimeError):
    """A gradient could not be computed; names the layer and where its forward pass was called."""


class Tensor:
    """A buffer in a computation: an input, a parameter (see ``nn.Parameter``) or a result.

    ``version`` counts in-place changes, so that ``backward`` can tell whether a buffer that it
    saved is still what it was; a tensor that is a view shares it with the one it views. Change a
    tensor's contents with ``overwrite``, or call ``changed``.
    """

    def __init__(self, backend: Backend, data: Buffer, *, view_of: Tensor | None = None) -> None:
        self.backend = backend
        self.data = data
        self.creator: Function | None = None
        self.version: Version = Version() if view_of is None else view_of.version

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def operand(self) -> Buffer:
        """The contents as functions read them: ``data``, or a parameter's narrower copy of it."""
        return self.data

    @property
    def wanted(self) -> bool:
        """Whether a gradient with respect to this tensor is asked for."""
        return self.creator is not None

    def overwrite(self, array: Any) -> None:
        """Replace the contents by a NumPy array of the same shape."""
        self.backend.write(self.data, array)
        self.changed()

    def changed(self) -> None:
        """Record that the contents were modified in place."""
        self.version.number += 1


@dataclass
class Version:
    """How often a buffer was changed in place."""

    number: int = 0


@dataclass(frozen=True)
class Below:
    """How far down the gradient with respect to an input is computed.

    To the input itself; or on through the epilogue that made it, which wrote ``out`` and, if it
    pools, ``argmax``, or ends with dropout, of ``rate``. ``shape`` is that of the gradient.
    """

    shape: tuple[int, ...]
    out: Buffer | None = None
    argmax: Buffer | None = None
    rate: float = 0.0


class Function:
    """One application of a differentiable operation.

    A subclass keeps its settings in ``__init__``, and defines

    * ``forward(*inputs: Tensor | None) -> Tensor``, which allocates with ``new`` and saves with
      ``save``;
    * ``backward(grad) -> tuple``, one gradient buffer (or ``None``) an input, computing only those
      whose entry in ``self.wanted`` is true. A returned buffer belongs to the caller.

    An instance is used once; calling it runs ``forward`` and links the result into the graph.

    The function that computes the gradient of another one's output can compute it on through that
    one's epilogue, while it is still on the chip: ``below`` asks for it, ``hand_over`` answers.
    ``in_slices`` tells ``backward`` which gradients may be left in slices; see ``gradients``.
    """

    _numbers = itertools.count()

    def __init__(self, layer: str = "") -> None:
        self.layer = layer or type(self).__name__
        self.wanted: tuple[bool, ...] = ()
        self.consumers = 0  # inputs of functions that its output became
        self.in_slices: tuple[bool, ...] = ()
        self._saved: dict[str, tuple[Buffer, Version, int]] | None = {}

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        self.backend = next(tensor for tensor in inputs if tensor is not None).backend
        self.wanted = tuple(tensor is not None and tensor.wanted for tensor in inputs)
        self.in_slices = (False,) * len(inputs)
        self.number = next(self._numbers)
        with self.backend.scope(f"{self.layer} forward"):
            output = self.forward(*inputs)
        if any(self.wanted):
            # Parents are functions or leaves, never intermediate tensors: those would keep
            # activations alive that no gradient needs.
            self.parents = tuple(
                (tensor.creator or tensor) if tensor is not None and wanted else None
                for tensor, wanted in zip(inputs, self.wanted, strict=True)
            )
            for parent in self.parents:
                if isinstance(parent, Function):
                    parent.consumers += 1
            self.called_at = _caller()
            output.creator = self
        else:
            self._saved = None
        return output

    def forward(self, *inputs: Any) -> Tensor:
        raise NotImplementedError

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        raise NotImplementedError

    def below(self, shape: tuple[int, ...]) -> Below:
        """How far to compute the gradient of the first input, of ``shape``, in ``backward``.

        An epilogue is taken over where this gradient is all that there is of the input's.
        """
        maker = self.parents[0]
        if isinstance(maker, Function) and maker.consumers == 1:
            return maker.hand_over() or Below(shape)
        return Below(shape)

    def hand_over(self) -> Below | None:
        """Its epilogue, if its caller may take that over: ``backward`` then gets the gradient
        before it. None, as here, if not."""
        return None

    def new(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        """An uninitialised result on this function's backend; ``dtype`` is that of activations
        unless given."""
        dtype = self.backend.compute_dtype if dtype is None else dtype
        return Tensor(self.backend, self.backend.empty(shape, dtype))

    def new_grad(self, shape: Sequence[int]) -> Buffer:
        """An uninitialised gradient of an activation."""
        return self.backend.empty(shape, self.backend.compute_dtype)

    def save(self, **tensors: Tensor) -> None:
        """Keep tensors for ``backward``; their contents must not change before it."""
        assert self._saved is not None
        for name, tensor in tensors.items():
            # Not the tensor: an output holds its creator, and a cycle would outlive its last use.
            self._saved[name] = (tensor.operand, tensor.version, tensor.version.number)

    def saved(self, name: str) -> Buffer:
        """A saved buffer; an error if it was changed in place, or already used up."""
        if self._saved is None:
            raise RuntimeError("its saved buffers were released by an earlier backward pass")
        buffer, version, number = self._saved[name]
        if version.number != number:
            raise RuntimeError(
                f"its saved {name!r} was changed in place after the forward pass "
                f"(version {version.number}, saved at {number})"
            )
        return buffer

    def release(self) -> None:
        self._saved = None


def backward(output: Tensor, grad: Buffer | None = None) -> dict[Tensor, Buffer]:
    """The gradients of ``output`` with respect to every wanted leaf below it.

    Args:
        output: the result of a function. Nothing is computed if no leaf below it is wanted.
        grad: the gradient with respect to ``output``, of its shape; a loss function that
            already holds its own gradient is given ``None``.

    Returns:
        leaf -> gradient buffer of the leaf's shape. The graph's saved buffers are released.

    Raises:
        BackwardError: a function failed, or a saved buffer was changed since the forward pass.
    """
    return dict(gradients(output, grad))


def gradients(
    output: Tensor, grad: Buffer | None = None, *, in_slices: bool = False
) -> Iterator[tuple[Tensor, Buffer]]:
    """As ``backward``, but one leaf after the other, as soon as nothing needs it any more.

    A leaf may be overwritten when it comes; so an update follows the product that it belongs to,
    and memory of gradients is soon free again.

    Args:
        output, grad: as for ``backward``.
        in_slices: whether gradients of leaves that are used only once may have a leading axis of
            slices, whose sum they are; see ``Backend.conv2d_gradient_slices``.
    """
    if output.creator is None:
        return
    uses = _uses(output.creator)
    left = uses.copy()
    partial: dict[Tensor, Buffer] = {}
    pending: dict[Function, Buffer | None] = {output.creator: grad}
    while pending:
        # A function runs after everything that consumed its output, and those were created later.
        function = max(pending, key=lambda f: f.number)
        function.in_slices = tuple(in_slices and uses[parent] == 1 for parent in function.parents)
        results = _run_backward(function, pending.pop(function))
        for parent, result in zip(function.parents, results, strict=True):
            if parent is None or result is None:
                continue
            total: dict[Any, Any] = pending if isinstance(parent, Function) else partial
            if parent in total:
                function.backend.accumulate(total[parent], result)
            else:
                total[parent] = result
        left.subtract(function.parents)
        for leaf in [leaf for leaf in partial if left[leaf] == 0]:
            yield leaf, partial.pop(leaf)


def _uses(last: Function) -> Counter[Any]:
    """How many functions of a graph each leaf, and each function, is a parent of."""
    uses: Counter[Any] = Counter()
    found, seen = [last], {last}
    while found:
        parents = found.pop().parents
        uses.update(parents)
        new = {parent for parent in parents if isinstance(parent, Function)} - seen
        seen |= new
        found += new
    return uses


def _run_backward(function: Function, grad: Buffer | None) -> tuple[Buffer | None, ...]:
    try:
        with function.backend.scope(f"{function.layer} backward"):
            results = function.backward(grad)
    except Exception as error:
        raise BackwardError(
            f"backward of {function.layer} ({type(function).__name__}), whose forward was called "
            f"at {function.called_at}: {error}"
        ) from error
    function.release()
    return results


_INTERNAL = tuple(
    str(Path(__file__).parent / name) for name in ("autograd.py", "nn.py", "functions")
)


def _caller() -> str:
    """``file:line`` of the innermost frame outside the autograd core and the layers."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INTERNAL):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
