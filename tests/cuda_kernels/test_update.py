"""The masked update against float64: rules, masks bit for bit, norms, and replay by a graph."""

import numpy as np
import pytest

from cuda_kernels import conv2d, linear, update
from cuda_kernels.emulated import ORDERS, EmulatedRuntime
from tests.backends.harness import normal, same_bits
from tests.cuda_kernels.harness import poisoned, to_device

GATE = 2e-6
SHAPES = [(1,), (300,), (5, 7), (3, 2, 2, 29)]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def scalars(rate=0.05, step=3, clip=0.5):
    return np.array([rate, 1 - 0.9**step, 1 - 0.999**step, clip])


def masks(random, shape):
    """A mask and the entries that it lets move: none, one an output channel, one an entry."""
    yield None, np.ones(shape, bool)
    channel, entry = random.integers(0, 2, shape[:1]), random.integers(0, 2, shape)
    channel[0] = 0
    trailing = (1,) * (len(shape) - 1)
    yield channel.astype(np.uint8), np.broadcast_to(channel.reshape(-1, *trailing) == 1, shape)
    yield (7 * entry).astype(np.uint8), entry == 1


def check(actual, before, expected, chosen):
    """What may move is within the gate (of what it moved from), what may not has its bits."""
    assert same_bits(actual[~chosen], before[~chosen])
    distance = np.linalg.norm(actual[chosen] - expected[chosen])
    assert distance <= GATE * max(np.linalg.norm(a[chosen]) for a in (before, expected))


SGD = {
    "plain": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}


@every_shape
@pytest.mark.parametrize("rule", SGD)
@pytest.mark.parametrize("with_velocity", [True, False])
def test_sgd(runtime, random, shape, rule, with_velocity):
    options = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, **SGD[rule]}
    momentum, decay = options["momentum"], options["weight_decay"]
    for mask, chosen in masks(random, shape):
        p, g, v = (normal(random, *shape) for _ in range(3))
        for array in (p, g, v):
            array[~chosen] = random.choice([np.nan, -0.0, 1e-42, np.inf], (~chosen).sum())
        parameter, velocity = (
            to_device(runtime, p),
            to_device(runtime, v if with_velocity else None),
        )
        update.sgd(
            runtime,
            parameter,
            to_device(runtime, g),
            velocity,
            to_device(runtime, mask),
            to_device(runtime, scalars()),
            **options,
        )
        exact_p, exact_v = p.astype(np.float64), v.astype(np.float64)
        with np.errstate(invalid="ignore"):  # entries that are masked may hold anything
            gradient = 0.5 * g.astype(np.float64) + decay * exact_p
            exact_v = momentum * exact_v + gradient if with_velocity else gradient
            step = gradient + momentum * exact_v if options["nesterov"] else exact_v
            expected = exact_p - 0.05 * step
        check(runtime.copy_out(parameter), p, expected, chosen)
        if with_velocity:
            check(runtime.copy_out(velocity), v, exact_v, chosen)


ADAM = {
    "adam": {},
    "decay": {"weight_decay": 0.01},
    "adamw": {"weight_decay": 0.01, "decoupled": True, "beta1": 0.8, "epsilon": 1e-3},
}


@every_shape
@pytest.mark.parametrize("rule", ADAM)
def test_adam(runtime, random, shape, rule):
    constants = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0}
    options = {**constants, "decoupled": False, **ADAM[rule]}
    beta1, beta2, decay = options["beta1"], options["beta2"], options["weight_decay"]
    rate, c1, c2, clip = scalars()
    for mask, chosen in masks(random, shape):
        p, g, m, v = (normal(random, *shape) for _ in range(4))
        v **= 2
        for array in (p, g, m, v):
            array[~chosen] = random.choice([np.nan, -0.0, 1e-42, np.inf], (~chosen).sum())
        buffers = [to_device(runtime, array) for array in (p, m, v)]
        update.adam(
            runtime,
            buffers[0],
            to_device(runtime, g),
            *buffers[1:],
            to_device(runtime, mask),
            to_device(runtime, scalars()),
            **options,
        )
        with np.errstate(invalid="ignore"):
            exact = [array.astype(np.float64) for array in (p, m, v)]
            gradient = clip * g.astype(np.float64) + (0 if options["decoupled"] else decay) * p
            exact[1] = beta1 * exact[1] + (1 - beta1) * gradient
            exact[2] = beta2 * exact[2] + (1 - beta2) * gradient**2
            step = exact[1] / c1 / (np.sqrt(exact[2] / c2) + options["epsilon"])
            exact[0] -= rate * (step + (decay * exact[0] if options["decoupled"] else 0))
        for buffer, before, expected in zip(buffers, (p, m, v), exact, strict=True):
            check(runtime.copy_out(buffer), before, expected, chosen)


@every_shape
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_a_copy_is_what_moved_rounded(runtime, random, shape, rule):
    for mask, chosen in masks(random, shape):
        before = random.integers(0, 2**16, shape).astype(np.uint16)
        copy, parameter = to_device(runtime, before), to_device(runtime, normal(random, *shape))
        gradient = to_device(runtime, normal(random, *shape))
        moments = [to_device(runtime, np.zeros(shape, np.float32)) for _ in range(2)]
        others = to_device(runtime, mask), to_device(runtime, scalars())
        if rule == "sgd":
            update.sgd(runtime, parameter, gradient, moments[0], *others, copy, momentum=0.9)
        else:
            update.adam(runtime, parameter, gradient, *moments, *others, copy)
        after = linear.to_bf16(runtime.copy_out(parameter))
        assert same_bits(runtime.copy_out(copy), np.where(chosen, after, before))


# -- gradients in slices --------------------------------------------------------------------------

SLICED = [(2, (300,)), (16, (5, 7)), (17, (5, 7)), (41, (3, 2, 2, 29)), (512, (9,))]
"""Few slices are added by a thread each, many by eight together."""

RULES = {
    **{name: (update.sgd, 1, options) for name, options in SGD.items()},
    **{name: (update.adam, 2, options) for name, options in ADAM.items()},
}


def updated(runtime, rule, p, gradient, moments, mask, copy):
    """Parameter, moments and copy after one update."""
    run, _, options = RULES[rule]
    buffers = [to_device(runtime, array) for array in (p, *moments, copy)]
    others = to_device(runtime, mask), to_device(runtime, scalars())
    run(runtime, buffers[0], gradient, *buffers[1:-1], *others, buffers[-1], **options)
    return [runtime.copy_out(buffer) for buffer in buffers if buffer is not None]


def added_by_itself(runtime, partial):
    """What unfused gradients are: the sum of the slices in memory."""
    count = partial[0].size
    total = poisoned(runtime, *partial.shape[1:])
    arguments = {"partial": to_device(runtime, partial), "out": total, "count": count}
    sums = conv2d.ColumnSums(len(partial), count)
    more = {"slices": len(partial), "accumulate": False}
    runtime.run("conv2d_sum_slices", sums, {**arguments, **more})
    return total


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("slices", "shape"), SLICED, ids=str)
def test_slices_are_summed_as_if_by_themselves(runtime, random, rule, slices, shape):
    """To the bit, where zeros may be negative; and near the sum in float64."""
    for mask, chosen in masks(random, shape):
        p, *moments = (normal(random, *shape) ** 2 for _ in range(1 + RULES[rule][1]))
        partial = normal(random, slices, *shape)
        partial[:, chosen & (random.random(shape) < 0.2)] = -0.0
        copy = random.integers(0, 2**16, shape).astype(np.uint16)
        total = added_by_itself(runtime, partial)
        exact = partial.sum(axis=0, dtype=np.float64)
        assert np.linalg.norm(runtime.copy_out(total) - exact) <= GATE * np.linalg.norm(exact)
        partial[:, ~chosen] = np.nan
        sliced = to_device(runtime, partial)
        arguments = moments, mask, copy
        after = updated(runtime, rule, p, sliced, *arguments)
        expected = updated(runtime, rule, p, total, *arguments)
        assert all(same_bits(a, b) for a, b in zip(after, expected, strict=True))
        for now, before in zip(after, (p, *moments, copy), strict=True):
            assert same_bits(now[~chosen], before[~chosen])
        assert same_bits(runtime.copy_out(sliced), partial)


@pytest.mark.parametrize(("slices", "shape"), SLICED, ids=str)
def test_all_orders_of_threads_sum_slices_to_the_same_bits(random, slices, shape):
    p, v, partial = normal(random, *shape), normal(random, *shape), normal(random, slices, *shape)
    found = set()
    for order in ORDERS:
        runtime = EmulatedRuntime(order)
        after = updated(runtime, "nesterov", p, to_device(runtime, partial), [v], None, None)
        found.add(b"".join(array.tobytes() for array in after))
    assert len(found) == 1


def test_few_blocks_sum_many_slices_of_many_entries(runtime, random):
    """A block of eight threads an entry strides over the rest."""
    kernel = next(one for one in update.KERNELS if one.name == "sgd")
    p, partial = normal(random, 3 * 32 + 5), normal(random, 20, 3 * 32 + 5)
    parameter, total = to_device(runtime, p), added_by_itself(runtime, partial)
    arguments = {
        "parameter": parameter,
        "gradient": to_device(runtime, partial),
        "slices": 20,
        "velocity": None,
        "mask": None,
        "copy": None,
        "count": p.size,
        "per_mask": 1,
        "momentum": 0.0,
        "nesterov": False,
        "decay": 0.0,
        "rates": to_device(runtime, scalars(rate=1.0, clip=1.0)),
    }
    runtime.launch(kernel, (2, 1, 1), (kernel.threads, 1, 1), 0, arguments)
    np.testing.assert_array_equal(runtime.copy_out(parameter), p - runtime.copy_out(total))


@pytest.mark.parametrize("shape", [(3,), (4,), (0, 4, 3), (2, 4, 4), (2, 2, 4, 3)])
def test_a_gradient_that_fits_nothing_is_refused(runtime, shape):
    p, rates = poisoned(runtime, 4, 3), to_device(runtime, scalars())
    with pytest.raises(ValueError, match=r"shape \("):
        update.sgd(runtime, p, poisoned(runtime, *shape), None, None, rates)


def test_a_grid_smaller_than_the_parameter_strides_over_it(runtime, random):
    kernel = next(one for one in update.KERNELS if one.name == "sgd")
    p, g = normal(random, 3 * update.THREADS + 5), normal(random, 3 * update.THREADS + 5)
    parameter = to_device(runtime, p)
    arguments = {
        "parameter": parameter,
        "gradient": to_device(runtime, g),
        "velocity": None,
        "mask": None,
        "rates": to_device(runtime, scalars(rate=1.0, clip=1.0)),
        "copy": None,
        "slices": 1,
        "count": p.size,
        "per_mask": 1,
        "momentum": 0.0,
        "nesterov": False,
        "decay": 0.0,
    }
    runtime.launch(kernel, (2, 1, 1), (kernel.threads, 1, 1), 0, arguments)
    np.testing.assert_array_equal(runtime.copy_out(parameter), p - g)


def test_more_entries_than_32_bits_count_are_refused():
    kernel = next(one for one in update.KERNELS if one.name == "sgd")
    assert kernel.refuses(update.Entries(2**32, 0, 0)) == "counts entries in 32 bits"
    assert kernel.refuses(update.Entries(2**32 - 1, 0, 0)) is None


# -- clipping -------------------------------------------------------------------------------------


def clip(runtime, gradients, masks, max_norm):
    """The clipping factor; the other rates must stay."""
    buffers = [to_device(runtime, gradient) for gradient in gradients]
    rates = to_device(runtime, np.array([0.1, 0.2, 0.3, np.nan]))
    sums = poisoned(runtime, update.partials(buffers), dtype=np.float64)
    mask_buffers = [to_device(runtime, mask) for mask in masks]
    update.clip(runtime, buffers, mask_buffers, sums, rates, max_norm=max_norm)
    after = runtime.copy_out(rates)
    assert after[:3].tolist() == [0.1, 0.2, 0.3]
    return after[3]


SIZES = [(1,), (1023,), (4, 257), (3, 5, 5, 70)]


def test_clip_takes_all_gradients_together(runtime, random):
    gradients = [normal(random, *shape) for shape in SIZES]
    none = [None] * len(gradients)
    norm = np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in gradients))
    assert clip(runtime, gradients, none, 0.1 * norm) == pytest.approx(0.1, rel=1e-12)
    assert clip(runtime, gradients, none, 1.001 * norm) == 1.0
    assert clip(runtime, [], [], 1.0) == 1.0


def test_clip_leaves_out_what_is_masked(runtime, random):
    for shape in SHAPES:
        for mask, chosen in masks(random, shape):
            gradient = np.where(chosen, normal(random, *shape), np.float32(np.nan))
            norm = np.sqrt((gradient[chosen].astype(np.float64) ** 2).sum() + 9)
            factor = clip(runtime, [np.full(1, 3, np.float32), gradient], [None, mask], 0.5)
            assert factor == pytest.approx(0.5 / norm, rel=1e-12)


def test_clip_of_numbers_beyond_a_float32_square(runtime):
    assert clip(runtime, [np.full(4, 1e30, np.float32)], [None], 1.0) == pytest.approx(5e-31)
    assert clip(runtime, [np.full(4, 1e-30, np.float32)], [None], 1e-31) == pytest.approx(0.05)
    assert np.isnan(clip(runtime, [np.array([1, np.nan], np.float32)], [None], 1.0))


def test_a_large_gradient_has_a_bounded_number_of_partial_sums(runtime):
    sizes = [1, 1024, 1025, 5 * 10**6]
    assert [update.partials([np.empty(size, np.uint8)]) for size in sizes] == [1, 1, 2, 1024]


def test_all_orders_of_threads_give_the_same_bits(random):
    gradients = [normal(random, 5000), normal(random, 33)]
    factors = {clip(EmulatedRuntime(order), gradients, [None, None], 1e-3) for order in ORDERS}
    assert len(factors) == 1


# -- replay ---------------------------------------------------------------------------------------


def test_a_captured_update_reads_the_rates_of_its_replay(runtime, random):
    p, g = normal(random, 70), normal(random, 70)
    parameter, gradient, rates = (
        to_device(runtime, array) for array in (p, g, scalars(rate=0.0, clip=1.0))
    )
    sums = runtime.empty((update.partials([gradient]),), np.float64)

    def step():
        update.clip(runtime, [gradient], [None], sums, rates, max_norm=1e9)
        update.sgd(runtime, parameter, gradient, None, None, rates)

    step()
    with runtime.capture() as graph:
        step()
    expected = p
    for rate in (0.5, 0.25):
        runtime.copy_in(rates, scalars(rate=rate, clip=np.nan))
        graph.replay()
        expected = expected - np.float32(rate) * g
        np.testing.assert_array_equal(runtime.copy_out(parameter), expected)


def test_a_mask_that_fits_nothing_is_refused(runtime):
    p, g = poisoned(runtime, 4, 3), poisoned(runtime, 4, 3)
    rates, mask = to_device(runtime, scalars()), poisoned(runtime, 3, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"mask of shape \(3,\) fits a parameter of shape \(4, 3"):
        update.sgd(runtime, p, g, None, mask, rates)
