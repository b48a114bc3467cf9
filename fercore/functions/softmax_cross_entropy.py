"""Softmax and cross-entropy, loss and gradient in one pass."""

from __future__ import annotations

from fercore.autograd import Function, Tensor
from fercore.backends.interface import Buffer


class SoftmaxCrossEntropy(Function):
    """The loss of ``logits [N, K]`` against int32 ``labels [N]``; a label of -1 does not count.

    Labels may also be targets ``[N, K]``: the share of each class, or with ``multi_target`` the
    classes that are all right. Class weights and label smoothing apply to them as
    ``Backend.softmax_cross_entropy`` says.

    The result is ``statistics`` (float64 ``[4]``), to which the loss's parts are added (see
    ``Backend.softmax_cross_entropy``). Its gradient is known after the forward pass, so
    ``autograd.backward`` is given none.
    """

    def __init__(
        self,
        statistics: Buffer,
        *,
        class_weights: Buffer | None = None,
        label_smoothing: float = 0.0,
        multi_target: bool = False,
        layer: str = "loss",
    ) -> None:
        super().__init__(layer)
        self.statistics = statistics
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.multi_target = multi_target

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        grad = self.new(logits.shape) if any(self.wanted) else None
        self.backend.softmax_cross_entropy(
            logits.data,
            labels.data,
            self.class_weights,
            self.statistics,
            None if grad is None else grad.data,
            label_smoothing=self.label_smoothing,
            multi_target=self.multi_target,
        )
        if grad is not None:
            self.save(grad=grad)
        return Tensor(self.backend, self.statistics)

    def backward(self, grad: Buffer | None) -> tuple[Buffer | None, ...]:
        return self.saved("grad"), None
