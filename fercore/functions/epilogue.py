"""What functions with an epilogue have in common: its gradient comes first in ``backward``."""

from __future__ import annotations

from fercore.autograd import Below, Function, Tensor
from fercore.backends.interface import Buffer, Epilogue


class EpilogueFunction(Function):
    """A function whose ``forward`` ends with ``epilogue``.

    Its gradient is computed along with that of the output, by whatever function that comes from, if
    ``fuse_gradient`` and that function can; else by a call of its own.
    """

    def __init__(self, epilogue: Epilogue, fuse_gradient: bool, layer: str) -> None:
        super().__init__(layer)
        self.epilogue, self.fuse_gradient = epilogue, fuse_gradient
        self.handed_over = False

    def save_epilogue(self, before: tuple[int, ...], out: Tensor, argmax: Tensor | None) -> None:
        """Keep what the gradient needs, if there is one; ``before`` is the shape of the map."""
        self._before = before
        if any(self.wanted) and self.epilogue != "none":
            self.save(out=out)
            if argmax is not None:
                self.save(argmax=argmax)

    def hand_over(self) -> Below | None:
        if self.epilogue == "none" or not self.fuse_gradient:
            return None
        self.handed_over = True
        return self.below_epilogue()

    def gradient_before(self, grad: Buffer) -> Buffer:
        """The gradient before the epilogue, from what ``backward`` was given."""
        if self.epilogue == "none" or self.handed_over:
            return grad
        below = self.below_epilogue()
        grad_before = self.new_grad(below.shape)
        self.backend.epilogue_gradient(
            grad, below.out, below.argmax, grad_before, epilogue=self.epilogue
        )
        return grad_before

    def below_epilogue(self) -> Below:
        """What whoever takes the gradient over needs."""
        argmax = self.saved("argmax") if self.epilogue == "relu_pool" else None
        return Below(self._before, self.saved("out"), argmax)
