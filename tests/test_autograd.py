"""The autograd core: what it computes, what it keeps, and how it fails."""

from __future__ import annotations

import collections
import inspect
from typing import Any

import numpy as np
import pytest

from fercore import freeze, masks
from fercore.autograd import BackwardError, Function, Tensor, backward, gradients
from fercore.freeze import Strategy
from fercore.functions import Conv2d, Flatten, Linear, SoftmaxCrossEntropy
from fercore.nn import Context, Model, Parameter
from tests.backends.harness import relative_error
from tests.functions.checks import Identity
from tests.narrow import narrow
from tests.spy import Spy


def leaf(backend: Any, array: Any) -> Parameter:
    return Parameter(backend, np.asarray(array, dtype=np.float64))


def constant(backend: Any, array: Any) -> Tensor:
    return Tensor(backend, backend.from_host(np.asarray(array)))


def multiply(x: Tensor, weight: Tensor, layer: str = "") -> Tensor:
    """``x @ weight.T``"""
    return Linear(layer=layer)(x, weight, None)


# -- a whole network ----------------------------------------------------------------------------

RNG = np.array([3, 0, 1, 5], dtype=np.uint32)


def network_loss(model: Model, backend: Any, images: np.ndarray, labels: np.ndarray) -> Tensor:
    statistics = backend.empty((4,), "float64")
    backend.fill(statistics, 0.0)
    context = Context(training=True, rng=backend.from_host(RNG))
    logits = model(constant(backend, images), context)
    return SoftmaxCrossEntropy(statistics)(logits, constant(backend, labels))


def some_batch(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = random.standard_normal((count, 48, 48, 1)).astype(np.float32)
    return images, random.integers(0, 7, count).astype(np.int32)


def network_gradients(model: Model, backend: Any, *batch: np.ndarray) -> dict[str, np.ndarray]:
    found = backward(network_loss(model, backend, *batch))
    return {
        name: backend.to_host(found[parameter])
        for name, parameter in model.parameters().items()
        if parameter.wanted
    }


NETWORKS = ["svgg5", "svgg5-bn", "tiny", "tiny-bn"]


def away_from_start(model: Model, random: np.random.Generator) -> None:
    """Move biases and normalisation off 0 and 1, where mistakes could hide."""
    for name, parameter in model.parameters().items():
        if len(parameter.shape) == 1:
            offset = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.overwrite(offset + 0.2 * random.standard_normal(parameter.shape))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_gradients_are_those_of_finite_differences(reference, random, name):
    """Each tensor alone: along its own gradient, where a wrong one shows most, plus noise."""
    model = narrow(name, reference)
    away_from_start(model, random)
    batch = some_batch(random, 3)
    gradients = network_gradients(model, reference, *batch)
    state = model.state()
    assert set(gradients) == set(model.parameters())

    def loss_after(name, move):
        model.load_state({**state, name: state[name] + move})
        total, weight, _, _ = reference.to_host(network_loss(model, reference, *batch).data)
        return total / weight

    for tensor, gradient in gradients.items():
        noise = random.standard_normal(gradient.shape)
        direction = gradient / np.linalg.norm(gradient) + 0.5 * noise / np.linalg.norm(noise)
        analytical = np.vdot(gradient, direction)
        for step in (1e-5, 1e-6, 1e-7):  # a kink within one step is passed by in a smaller one
            ahead = loss_after(tensor, step * direction)
            numerical = (ahead - loss_after(tensor, -step * direction)) / (2 * step)
            if abs(numerical - analytical) <= 1e-6 * abs(analytical):
                break
        np.testing.assert_allclose(analytical, numerical, rtol=1e-5, err_msg=tensor)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_gradients_are_those_of_the_reference(reference, compiled_backend, random, name):
    batch = some_batch(random, 4)
    mine, definition = narrow(name, compiled_backend), narrow(name, reference)
    away_from_start(mine, random)
    definition.load_state(mine.state())
    actual = network_gradients(mine, compiled_backend, *batch)
    expected = network_gradients(definition, reference, *batch)
    for tensor, gradient in expected.items():
        error = relative_error(actual[tensor], gradient)
        assert error <= 1e-5, f"{tensor}: relative error {error:.2g}"


COUNTED = (
    "conv2d_weight_gradient",
    "conv2d_input_gradient",
    "linear_weight_gradient",
    "linear_input_gradient",
    "batch_norm_backward",
    "max_pool_backward",
)


@pytest.mark.parametrize(
    ("name", "strategy", "counts"),
    [
        ("tiny", freeze.STRATEGIES["BL"], (10, 9, 3, 3, 0, 0)),
        ("tiny", freeze.STRATEGIES["FC"], (0, 0, 3, 2, 0, 0)),
        ("tiny", freeze.STRATEGIES["FC+CL"], (1, 0, 3, 3, 0, 0)),
        ("tiny", Strategy("top", trainable=("fc3.*",)), (0, 0, 1, 0, 0, 0)),
        ("tiny", Strategy("bias", trainable=("fc3.bias",)), (0, 0, 1, 0, 0, 0)),
        ("tiny", Strategy("bottom", trainable=("conv1_1.*",)), (1, 9, 0, 3, 0, 0)),
        ("tiny", Strategy("middle", trainable=("conv3_1.weight",)), (1, 5, 0, 3, 0, 0)),
        ("tiny-bn", freeze.STRATEGIES["BL"], (10, 9, 3, 3, 10, 4)),
        ("tiny-bn", freeze.STRATEGIES["FC"], (0, 0, 3, 2, 0, 0)),
        ("tiny-bn", freeze.STRATEGIES["FC+CL"], (1, 0, 3, 3, 1, 1)),
        ("tiny-bn", Strategy("norm", trainable=("conv4_3.norm.*",)), (0, 0, 0, 3, 1, 1)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_frozen_layers_run_no_gradient(reference, random, name, strategy, counts):
    model = narrow(name, reference)
    freeze.apply(model, strategy)
    spy: Any = Spy(reference)
    loss = network_loss(model, spy, *some_batch(random, 2))
    spy.calls.clear()
    gradients = backward(loss)
    called = collections.Counter(spy.methods)
    assert tuple(called[method] for method in COUNTED) == counts
    wanted = {parameter for parameter in model.parameters().values() if parameter.wanted}
    assert set(gradients) == wanted


@pytest.mark.parametrize(
    ("strategy", "lowest"),
    [
        (freeze.STRATEGIES["FC"], "fc1"),
        (freeze.STRATEGIES["FC+CL"], "conv4_3"),
        (Strategy("top", trainable=("fc3.*",)), "fc3"),
        (freeze.STRATEGIES["BL"], "conv1_1"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_nothing_is_recorded_below_the_lowest_trainable_layer(reference, random, strategy, lowest):
    model = narrow("tiny", reference)
    freeze.apply(model, strategy)
    spy: Any = Spy(reference)
    x = constant(spy, some_batch(random, 2)[0])
    below = True
    for layer in model.layers:
        below = below and layer.name != lowest
        x = layer(x, Context(training=True, dropout=0.0))
        assert x.wanted == (not below), layer.name
        assert (x.creator is None) == below, layer.name
        if below:
            # What the layer returned is all that lives: its input is gone once it was read.
            assert len(spy.alive()) == 1, layer.name


def test_a_network_without_a_trainable_layer_has_no_gradients(reference, random):
    model = narrow("tiny", reference)
    for parameter in model.parameters().values():
        parameter.mask = masks.FROZEN
    assert backward(network_loss(model, reference, *some_batch(random, 2))) == {}


# -- the graph ----------------------------------------------------------------------------------


def test_a_parameter_used_twice_gets_the_sum(backend, random):
    w, x, grad = (random.standard_normal((3, 3)) for _ in range(3))
    parameter = leaf(backend, w)
    output = multiply(multiply(constant(backend, x), parameter), parameter)
    found = backward(output, backend.from_host(grad))
    # out = (x w') w' (with w' the transpose), so both factors have a share.
    expected = grad.T @ (x @ w.T) + (grad @ w).T @ x
    np.testing.assert_allclose(backend.to_host(found[parameter]), expected, rtol=1e-4, atol=1e-5)


def test_gradients_come_one_by_one_once_a_leaf_is_not_needed_any_more(backend, random):
    """So that it may be overwritten at once, as updates do."""
    arrays = [random.standard_normal((3, 3)) for _ in range(5)]
    first, twice, last = (leaf(backend, array) for array in arrays[:3])

    def output():
        x = multiply(multiply(constant(backend, arrays[3]), first), twice)
        return multiply(multiply(x, twice), last)

    grad = backend.from_host(arrays[4])
    expected = {p: backend.to_host(g) for p, g in backward(output(), grad).items()}
    found = []
    for parameter, gradient in gradients(output(), grad):
        found.append(parameter)
        np.testing.assert_array_equal(backend.to_host(gradient), expected[parameter])
        parameter.overwrite(np.zeros((3, 3)))
    assert found == [last, twice, first]


class InSlices(Function):
    """The identity of a parameter; its gradient is delivered in two slices where it may be."""

    def forward(self, x: Tensor) -> Tensor:
        return self.new(x.shape)

    def backward(self, grad: Any) -> tuple[Any, ...]:
        (may_be,) = self.in_slices
        grad_x = self.backend.empty((2, *grad.shape) if may_be else grad.shape)
        self.backend.fill(grad_x, 1.0)
        return (grad_x,)


def test_gradients_are_in_slices_only_if_asked_for_and_of_what_is_used_once(reference):
    once, twice = leaf(reference, np.ones((3, 2))), leaf(reference, np.ones((3, 2)))

    def shapes(**options):
        x = multiply(InSlices()(once), InSlices()(twice))
        output = multiply(x, multiply(InSlices()(twice), constant(reference, np.ones((3, 2)))))
        grad = reference.from_host(np.ones((3, 3)))
        return {p: g.shape for p, g in gradients(output, grad, **options)}

    assert shapes() == {once: (3, 2), twice: (3, 2)}
    assert shapes(in_slices=True) == {once: (2, 3, 2), twice: (3, 2)}


def test_both_inputs_of_a_function_may_be_the_same(backend, random):
    w, grad = random.standard_normal((4, 3)), random.standard_normal((4, 4))
    parameter = leaf(backend, w)
    found = backward(multiply(parameter, parameter), backend.from_host(grad))
    expected = (grad + grad.T) @ w
    np.testing.assert_allclose(backend.to_host(found[parameter]), expected, rtol=1e-4, atol=1e-5)


def test_a_result_used_twice_is_differentiated_once_its_gradient_is_whole(reference, random):
    """The longer way down must be waited for, whichever was made first."""
    w, grad = random.standard_normal((4, 3)), random.standard_normal((4, 4))
    for long_way_first in (False, True):
        spy: Any = Spy(reference)
        ran: list[str] = []

        class Noted(Identity):
            def backward(self, grad: Any) -> tuple[Any, ...]:
                ran.append(self.layer)  # noqa: B023
                return super().backward(grad)

        parameter = leaf(spy, w)
        shared = Noted("shared")(parameter)
        if long_way_first:
            left, right = Noted("b")(Noted("a")(shared)), shared
        else:
            left, right = shared, Noted("b")(Noted("a")(shared))
        found = backward(multiply(left, right), spy.from_host(grad))
        np.testing.assert_allclose(found[parameter], (grad + grad.T) @ w, rtol=1e-12)
        assert ran == ["b", "a", "shared"]
        assert spy.methods.count("accumulate") == 1


def test_the_gradient_that_is_given_is_not_modified(reference, random):
    w, grad = random.standard_normal((4, 3)), random.standard_normal((4, 4))
    before = grad.copy()
    backward(multiply(leaf(reference, w), leaf(reference, w)), grad)
    np.testing.assert_array_equal(grad, before)


def test_an_output_that_is_not_wanted_has_no_gradients(backend):
    output = multiply(constant(backend, np.ones((2, 3))), constant(backend, np.ones((4, 3))))
    assert not output.wanted
    assert output.creator is None
    assert backward(output, backend.from_host(np.ones((2, 4)))) == {}


def test_an_unused_graph_is_freed_at_once(reference):
    spy: Any = Spy(reference)
    parameter = leaf(spy, np.ones((4, 3)))
    output = Linear(epilogue="relu")(constant(spy, np.ones((2, 3))), parameter, None)
    assert len(spy.alive()) == 1
    del output
    assert spy.alive() == []  # without a garbage collection: there is no reference cycle


# -- errors -------------------------------------------------------------------------------------


def two_layers(backend: Any) -> tuple[Tensor, Tensor, Parameter, Parameter, str]:
    """x -> hidden -> output, and where the second layer was called."""
    first, second = leaf(backend, np.ones((5, 3))), leaf(backend, np.ones((4, 5)))
    hidden = multiply(constant(backend, np.ones((2, 3))), first, "lower")
    line = inspect.currentframe().f_lineno + 1
    output = Linear(layer="upper")(hidden, second, None)
    return hidden, output, first, second, f"{__file__}:{line}"


@pytest.mark.parametrize("changed", ["x", "weight"])
def test_a_saved_buffer_changed_in_place_is_an_error(backend, changed):
    hidden, output, _, second, place = two_layers(backend)
    target = hidden if changed == "x" else second
    target.overwrite(np.zeros(target.shape))
    with pytest.raises(BackwardError) as error:
        backward(output, backend.from_host(np.ones((2, 4))))
    message = str(error.value)
    assert "backward of upper (Linear)" in message
    assert f"its saved '{changed}' was changed in place" in message
    assert place in message


def test_a_change_through_a_view_is_noticed(backend):
    x = constant(backend, np.ones((2, 1, 1, 3)))
    output = multiply(Flatten()(x), leaf(backend, np.ones((4, 3))), "fc1")
    x.overwrite(np.zeros(x.shape))
    with pytest.raises(BackwardError, match=r"fc1 .*'x' was changed in place"):
        backward(output, backend.from_host(np.ones((2, 4))))


def test_a_change_of_what_no_gradient_reads_is_allowed(backend):
    weight, bias = constant(backend, np.ones((4, 3))), leaf(backend, np.ones(4))
    x = constant(backend, np.ones((2, 3)))
    output = Linear()(x, weight, bias)
    for tensor in (x, weight, bias):
        tensor.overwrite(np.zeros(tensor.shape))
    found = backward(output, backend.from_host(np.ones((2, 4))))
    assert backend.to_host(found[bias]).tolist() == [2, 2, 2, 2]


def test_loading_weights_between_forward_and_backward_is_an_error(reference, random):
    model = narrow("tiny", reference)
    loss = network_loss(model, reference, *some_batch(random, 2))
    model.load_state(model.state())
    with pytest.raises(BackwardError, match=r"fc3 .*'weight' was changed in place"):
        backward(loss)


def test_a_second_backward_is_an_error(backend):
    _, output, _, _, place = two_layers(backend)
    grad = backend.from_host(np.ones((2, 4)))
    backward(output, grad)
    with pytest.raises(BackwardError, match="released by an earlier backward pass") as error:
        backward(output, grad)
    assert place in str(error.value)


def test_a_failing_backward_names_layer_and_place_of_the_call(reference):
    class Broken(Identity):
        def backward(self, grad: Any) -> tuple[Any, ...]:
            raise ZeroDivisionError("no such gradient")

    line = inspect.currentframe().f_lineno + 1
    output = Broken("conv9_9")(leaf(reference, np.ones(3)))
    with pytest.raises(BackwardError) as error:
        backward(output, np.ones(3))
    assert "backward of conv9_9 (Broken)" in str(error.value)
    assert f"{__file__}:{line}: no such gradient" in str(error.value)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_the_place_of_a_model_s_call_is_the_caller_s(reference, random):
    model = narrow("tiny", reference)
    line = inspect.currentframe().f_lineno + 1
    logits = model(constant(reference, some_batch(random, 2)[0]))
    model.parameters()["fc2.weight"].changed()
    with pytest.raises(BackwardError) as error:
        backward(logits, np.ones(logits.shape))
    assert "backward of fc2 (Linear)" in str(error.value)
    assert f"{__file__}:{line}:" in str(error.value)


def test_a_function_without_a_layer_is_called_by_its_class(reference):
    assert Function().layer == "Function"
    assert Conv2d(layer="conv1_1").layer == "conv1_1"


def test_overwrite_copies_and_counts(backend):
    tensor = constant(backend, np.zeros((2, 3)))
    array = np.ones((2, 3))
    tensor.overwrite(array)
    array[:] = 5
    assert backend.to_host(tensor.data).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert tensor.version.number == 1
    with pytest.raises(ValueError, match="shape"):
        tensor.overwrite(np.ones((3, 2)))
    assert tensor.version.number == 1
