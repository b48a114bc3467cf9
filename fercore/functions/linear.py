"""Fully connected layer with bias, ReLU and dropout as epilogues."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fercore.autograd import Below, Tensor
from fercore.backends.interface import Buffer, Epilogue
from fercore.functions.epilogue import EpilogueFunction


@dataclass(frozen=True)
class Drop:
    """Dropout of ``rate``; see ``functions.Dropout``."""

    rng: Buffer
    rate: float
    number: int


class Linear(EpilogueFunction):
    """``epilogue(x @ weight.T + bias)``: ``x [N, I]``, ``weight [O, I]``, ``bias [O]`` or None.

    ``logits``, a network's answers, have the backend's ``dtype``; other results are activations.
    ``drop`` follows the epilogue, which is ``relu`` then.
    Raises ValueError when the shapes do not fit.
    """

    def __init__(
        self,
        *,
        epilogue: Epilogue = "none",
        logits: bool = False,
        drop: Drop | None = None,
        fuse_gradient: bool = True,
        layer: str = "",
    ) -> None:
        super().__init__(epilogue, fuse_gradient, layer)
        if drop is not None and epilogue != "relu":
            raise ValueError(f"dropout follows relu, not {epilogue}")
        self.logits, self.drop = logits, drop

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        (n, inputs), (outputs, weight_inputs) = x.shape, weight.shape
        if inputs != weight_inputs:
            raise ValueError(f"input has {inputs} features, the weight takes {weight_inputs}")
        out = self.new((n, outputs), self.backend.dtype if self.logits else None)
        drop = self.drop
        self.backend.linear_forward(
            x.data,
            weight.operand,
            None if bias is None else bias.data,
            out.data,
            None if drop is None else drop.rng,
            epilogue=self.epilogue,
            rate=0.0 if drop is None else drop.rate,
            layer=0 if drop is None else drop.number,
        )
        want_x, want_weight, _ = self.wanted
        self.shapes = x.shape, weight.shape
        if want_x:
            self.save(weight=weight)
        if want_weight:
            self.save(x=x)
        self.save_epilogue(out.shape, out, None)
        return out

    def backward(self, grad: Buffer) -> tuple[Buffer | None, ...]:
        want_x, want_weight, want_bias = self.wanted
        x_shape, weight_shape = self.shapes
        backend = self.backend
        grad = self.gradient_before(grad)
        grad_x = grad_weight = grad_bias = None
        if want_x:
            below = self.below(x_shape)
            grad_x = self.new_grad(below.shape)
            backend.linear_input_gradient(
                grad, self.saved("weight"), grad_x, below.out, below.argmax, rate=below.rate
            )
        if want_weight or want_bias:  # last: the update follows while caches hold what it reads
            grad_weight = backend.empty(weight_shape) if want_weight else None
            grad_bias = backend.empty(weight_shape[:1]) if want_bias else None
            x = self.saved("x") if want_weight else None
            backend.linear_weight_gradient(x, grad, grad_weight, grad_bias)
        return grad_x, grad_weight, grad_bias

    def gradient_before(self, grad: Buffer) -> Buffer:
        drop = self.drop
        if drop is not None and not self.handed_over:
            kept = self.new_grad(grad.shape)
            self.backend.dropout(grad, drop.rng, kept, rate=drop.rate, layer=drop.number)
            grad = kept
        return super().gradient_before(grad)

    def below_epilogue(self) -> Below:
        below = super().below_epilogue()
        return below if self.drop is None else replace(below, rate=self.drop.rate)
