"""Clipping and the update rules over several steps, an entry at a time in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends import oracle
from tests.backends.harness import InPlace, assert_close, call, in_dtype, normal, same_bits

SHAPES = [(1,), (7,), (5, 9), (6, 6), (3, 2, 3, 4), (33, 65)]
every_shape = pytest.mark.parametrize("shape", SHAPES)
STEPS = 5


def rates(rate=0.05, step=1, clip=1.0, beta1=0.9, beta2=0.999):
    return np.array([rate, 1 - beta1**step, 1 - beta2**step, clip])


def masks(random, shape):
    """No mask, one entry an output channel, one entry a weight; and each as an array of bool."""
    channel, entry = random.integers(0, 2, shape[:1]), random.integers(0, 2, shape)
    trailing = (1,) * (len(shape) - 1)
    yield None, np.ones(shape, bool)
    for mask in (channel, np.zeros_like(channel), np.ones_like(channel)):
        yield mask.astype(np.uint8), np.broadcast_to(mask.reshape(-1, *trailing) == 1, shape)
    yield entry.astype(np.uint8), entry == 1


def fragile(random, shape):
    """Numbers that arithmetic would change: denormals, -0, NaN with a payload, infinities."""
    odd = np.array([1e-42, -0.0, np.inf, -np.inf, 1.5, 3e38], np.float32)
    numbers = random.choice(odd, shape)
    numbers.view(np.uint32)[random.random(shape) < 0.2] = 0x7FC12345
    return numbers


# -- SGD ----------------------------------------------------------------------------------------

SGD = {
    "plain": {},
    "decay": {"weight_decay": 0.01},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}


@every_shape
@pytest.mark.parametrize("rule", SGD)
@pytest.mark.parametrize("clip", [1.0, 0.25])
def test_sgd(backend, random, shape, rule, clip):
    options = SGD[rule]
    update = np.vectorize(
        lambda p, g, v, rate: oracle.sgd(
            p,
            g,
            v,
            rate=rate,
            clip=clip,
            momentum=options.get("momentum", 0.0),
            nesterov=options.get("nesterov", False),
            decay=options.get("weight_decay", 0.0),
        )
    )
    p = normal(random, *shape)
    v = np.zeros(shape, np.float32)
    expected_p, expected_v = p.astype(float), v.astype(float)
    for step in range(STEPS):
        rate, g = 0.1 / (step + 1), normal(random, *shape)
        p, v = call(
            backend,
            "sgd_update",
            InPlace(p),
            g,
            InPlace(v),
            None,
            rates(rate, clip=clip),
            **options,
        )
        expected_p, expected_v = update(expected_p, g.astype(float), expected_v, rate)
    assert_close(backend, p, expected_p)
    assert_close(backend, v, expected_v)


def test_sgd_without_velocity(backend, random):
    p, g = normal(random, 5, 9), normal(random, 5, 9)
    after = call(backend, "sgd_update", InPlace(p), g, None, None, rates(), weight_decay=0.1)
    expected = p - 0.05 * (g + 0.1 * p.astype(float))
    assert_close(backend, after, expected)


@every_shape
@pytest.mark.parametrize("rule", SGD)
def test_sgd_moves_nothing_that_is_masked(backend, random, shape, rule):
    for mask, chosen in masks(random, shape):
        p, g, v = (normal(random, *shape) for _ in range(3))
        free = call(backend, "sgd_update", InPlace(p), g, InPlace(v), None, rates(), **SGD[rule])
        p, g, v = (np.where(chosen, a, fragile(random, shape)) for a in (p, g, v))
        after = call(backend, "sgd_update", InPlace(p), g, InPlace(v), mask, rates(), **SGD[rule])
        for now, unmasked, before in zip(after, free, (p, v), strict=True):
            assert_close(backend, now[chosen], unmasked[chosen])
            assert same_bits(now[~chosen], in_dtype(backend, before)[~chosen])


# -- Adam ---------------------------------------------------------------------------------------

ADAM = {
    "adam": {},
    "adam with decay": {"weight_decay": 0.01},
    "adamw": {"weight_decay": 0.01, "decoupled": True},
    "other constants": {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3},
}


@every_shape
@pytest.mark.parametrize("rule", ADAM)
@pytest.mark.parametrize("clip", [1.0, 0.25])
def test_adam(backend, random, shape, rule, clip):
    options = ADAM[rule]
    beta1, beta2 = options.get("beta1", 0.9), options.get("beta2", 0.999)
    update = np.vectorize(
        lambda p, g, m, v, rate, c1, c2: oracle.adam(
            p,
            g,
            m,
            v,
            rate=rate,
            c1=c1,
            c2=c2,
            clip=clip,
            beta1=beta1,
            beta2=beta2,
            epsilon=options.get("epsilon", 1e-8),
            decay=options.get("weight_decay", 0.0),
            decoupled=options.get("decoupled", False),
        )
    )
    state = normal(random, *shape), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    expected = tuple(array.astype(float) for array in state)
    for step in range(1, STEPS + 1):
        scalars, g = rates(0.01, step, clip, beta1, beta2), normal(random, *shape)
        p, m, v = (InPlace(array) for array in state)
        state = call(backend, "adam_update", p, g, m, v, None, scalars, **options)
        p, m, v = expected
        expected = update(p, g.astype(float), m, v, *scalars[:3])
    for actual, wanted in zip(state, expected, strict=True):
        assert_close(backend, actual, wanted)


@every_shape
@pytest.mark.parametrize("rule", ADAM)
def test_adam_moves_nothing_that_is_masked(backend, random, shape, rule):
    def update(p, g, m, v, mask):
        arguments = InPlace(p), g, InPlace(m), InPlace(v), mask, rates()
        with np.errstate(invalid="ignore"):  # entries that are masked may hold anything
            return call(backend, "adam_update", *arguments, **ADAM[rule])

    for mask, chosen in masks(random, shape):
        p, g, m, v = (normal(random, *shape) for _ in range(4))
        free = update(p, g, m, v**2, None)
        p, g, m, v = (np.where(chosen, a, fragile(random, shape)) for a in (p, g, m, v**2))
        for now, unmasked, before in zip(update(p, g, m, v, mask), free, (p, m, v), strict=True):
            assert_close(backend, now[chosen], unmasked[chosen])
            assert same_bits(now[~chosen], in_dtype(backend, before)[~chosen])


# -- clipping -----------------------------------------------------------------------------------


def clip(backend, gradients, gradient_masks, max_norm):
    before = np.array([0.1, 0.2, 0.3, 7.0])
    after = call(
        backend, "clip_gradients", gradients, gradient_masks, InPlace(before), max_norm=max_norm
    )
    assert after[:3].tolist() == before[:3].tolist()
    return after[3]


def test_clip_is_over_all_gradients_together(backend, random):
    gradients = [normal(random, *shape) for shape in SHAPES]
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients))
    none = [None] * len(gradients)
    for share in (0.1, 0.999):
        assert clip(backend, gradients, none, norm * share) == pytest.approx(share, rel=1e-6)
    for share in (1.001, 10):
        assert clip(backend, gradients, none, norm * share) == 1.0


def test_clip_of_a_known_norm(backend):
    gradients = [np.array([3, 0], np.float32), np.array([[4], [0]], np.float32)]
    assert clip(backend, gradients, [None, None], 2.5) == 0.5
    assert clip(backend, gradients, [None, None], 5.0) == 1.0


def test_clip_leaves_out_what_is_masked(backend, random):
    for shape in SHAPES:
        for mask, chosen in masks(random, shape):
            g = normal(random, *shape)
            norm = np.sqrt((g[chosen].astype(float) ** 2).sum() + 4)
            g = np.where(chosen, g, np.float32(np.nan))
            factor = clip(backend, [g, np.array([2.0], np.float32)], [mask, None], 0.5)
            assert factor == pytest.approx(0.5 / norm, rel=1e-6)


def test_clip_without_any_gradient(backend):
    assert clip(backend, [np.zeros((3, 4), np.float32)], [None], 1.0) == 1.0
    assert clip(backend, [np.ones((3, 4), np.float32)], [np.zeros(3, np.uint8)], 1.0) == 1.0
    assert clip(backend, [], [], 1.0) == 1.0


def test_clip_tells_of_nan(backend):
    assert np.isnan(clip(backend, [np.array([1, np.nan], np.float32)], [None], 1.0))


def test_large_gradients_do_not_overflow_the_norm(backend):
    assert clip(backend, [np.full(4, 1e30, np.float32)], [None], 1.0) == pytest.approx(5e-31)
