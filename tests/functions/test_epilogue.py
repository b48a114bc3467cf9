"""Gradients of epilogues, taken over by whoever computes the gradient of their output."""

from __future__ import annotations

import numpy as np
import pytest

from fercore.autograd import Tensor, backward
from fercore.functions import BatchNorm, Conv2d, Dropout, Flatten, Linear
from fercore.nn import Parameter
from tests.functions.checks import Identity
from tests.spy import Spy


class Net:
    """A 5x7 image through a convolution with an epilogue; gradients of what comes above."""

    def __init__(self, backend, random, epilogue="relu", fuse_gradient=True):
        self.spy, self.random = Spy(backend), random
        self.options = {"epilogue": epilogue, "fuse_gradient": fuse_gradient}
        self.parameters = []

    def parameter(self, *shape):
        self.parameters.append(Parameter(self.spy, self.random.standard_normal(shape)))
        return self.parameters[-1]

    def image(self):
        return Tensor(self.spy, self.spy.from_host(self.random.standard_normal((2, 5, 7, 3))))

    def lowest(self):
        return Conv2d(padding=1, **self.options)(self.image(), self.parameter(4, 3, 3, 3), None)

    def gradients(self, *outputs):
        """Of all parameters, in the outputs' sum; and the calls that they took."""
        self.spy.calls.clear()
        (output, *others) = outputs
        for other in others:
            output = Sum()(output, other)
        grad = np.linspace(-1, 1, int(np.prod(output.shape))).reshape(output.shape)
        found = backward(output, self.spy.from_host(grad))
        return [self.spy.to_host(found[one]) for one in self.parameters], self.spy.methods


class Sum(Identity):
    """Of two tensors, each of which gets the whole gradient."""

    def forward(self, x, y):
        total = self.new(x.shape)
        self.backend.fill(total.data, 0.0)
        for term in (x, y):
            self.backend.accumulate(total.data, term.data)
        return total

    def backward(self, grad):
        copies = self.new_grad(grad.shape), self.new_grad(grad.shape)
        for copy in copies:
            self.backend.fill(copy, 0.0)
            self.backend.accumulate(copy, grad)
        return copies


def convolve(net, x):
    return Conv2d()(x, net.parameter(5, 2, 2, 4), None)


def connect(net, x):
    x = Flatten()(x)
    return Linear()(x, net.parameter(6, x.shape[1]), None)


def normalise(net, x):
    statistics = (Tensor(net.spy, net.spy.from_host(np.ones(4))) for _ in range(2))
    norm = BatchNorm(*statistics, None, epilogue="relu", fuse_gradient=net.options["fuse_gradient"])
    return convolve(net, norm(x, net.parameter(4), net.parameter(4)))


def branch(net, x):
    """Two consumers of one tensor."""
    return convolve(net, x), convolve(net, x)


def branch_of_views(net, x):
    return connect(net, x), connect(net, x)


def branch_above_a_view(net, x):
    x = Flatten()(x)
    return tuple(Linear()(x, net.parameter(6, x.shape[1]), None) for _ in range(2))


def drop(net, x):
    rng = net.spy.from_host(np.array([1, 2, 3, 4], np.uint32))
    return connect(net, Dropout(rng, rate=0.5, number=1)(x))


def twice(net, x):
    return convolve(net, Sum()(x, x))


@pytest.mark.parametrize("epilogue", ["relu", "relu_pool"])
@pytest.mark.parametrize(
    ("above", "left"),
    [
        *((convolve, 0), (connect, 0), (normalise, 1)),
        *((branch, 1), (branch_of_views, 1), (branch_above_a_view, 1), (drop, 1), (twice, 1)),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_same_gradients_by_fewer_calls(backend, epilogue, above, left):
    """``left`` gradients of epilogues are not taken over, where another one adds to them."""

    def gradients(fuse_gradient):
        net = Net(backend, np.random.default_rng(5), epilogue, fuse_gradient)
        outputs = above(net, net.lowest())
        return net.gradients(*(outputs if isinstance(outputs, tuple) else (outputs,)))

    (fused, calls), (expected, all_calls) = gradients(True), gradients(False)
    for mine, one in zip(fused, expected, strict=True):
        assert one.any()
        np.testing.assert_array_equal(mine, one, strict=True)
    assert calls.count("epilogue_gradient") == left
    removed = all_calls.count("epilogue_gradient") - left
    assert len(calls) == len(all_calls) - removed
    assert removed == (above in (convolve, connect, normalise))


def test_the_gradient_of_an_output_itself(reference):
    """It is given after the epilogue, whoever else consumes that output."""
    net = Net(reference, np.random.default_rng(5))
    x = net.lowest()
    convolve(net, x)
    net.parameters.pop()  # of the consumer, below which nothing was asked for
    _, calls = net.gradients(x)
    assert calls.count("epilogue_gradient") == 1
