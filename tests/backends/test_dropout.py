"""Dropout: the exact entries that Philox names, their scale, and honest chances."""

import numpy as np
import pytest

from tests.backends import oracle
from tests.backends.harness import Out, assert_close, call, normal, same_bits
from tests.gradient_check import check_gradients


def rng(seed=3, run=5, epoch=7, step=11):
    return np.array([seed, run, epoch, step], np.uint32)


def drop(backend, x, state, rate, layer=0):
    return call(backend, "dropout", x, state, Out(*x.shape), rate=rate, layer=layer)


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (5,), (2, 7), (33, 31), (3, 5, 2, 9)])
@pytest.mark.parametrize("rate", [0.5, 0.3, 0.9])
def test_keeps_the_entries_that_the_rule_keeps(backend, random, shape, rate):
    x = normal(random, *shape)
    for state, layer in ((rng(), 0), (rng(2**32 - 1, 2**31, 0, 2**32 - 1), 9)):
        out = drop(backend, x, state, rate, layer)
        keeps = oracle.dropout_keeps(x.size, state, rate, layer).reshape(shape)
        expected = np.where(keeps, x.astype(np.float64) / (1 - rate), 0)
        np.testing.assert_array_equal(out != 0, keeps)
        assert_close(backend, out, expected)


def test_rate_is_compared_as_it_was_given(backend):
    """0.7 rounded to float32 is 11744051 * 2**-24; this entry's number is exactly that."""
    entry, state = 37, rng(11, 1, 0, 1069)
    word = oracle.philox((entry // 4, 1069, 2, 0), (11, 1))[entry % 4]
    assert word >> 8 == 11744051
    assert float(np.float32(0.7)) == 11744051 / 2**24 < 0.7
    assert drop(backend, np.ones(40, np.float32), state, 0.7, layer=2)[entry] == 0


def test_rate_0_keeps_everything(backend, random):
    x = normal(random, 5, 13)
    assert same_bits(drop(backend, x, rng(), 0.0), x.astype(backend.dtype))


def test_an_entry_does_not_depend_on_how_many_follow(backend, random):
    x = normal(random, 64, 48)
    assert same_bits(drop(backend, x, rng(), 0.5)[:5], drop(backend, x[:5], rng(), 0.5))
    assert same_bits(drop(backend, x, rng(), 0.5).ravel(), drop(backend, x.ravel(), rng(), 0.5))


def test_every_part_of_the_state_but_the_epoch_matters(backend):
    x = np.ones(256, np.float32)
    states = [rng(), rng(seed=4), rng(run=6), rng(step=12)]
    outs = [drop(backend, x, state, 0.5) for state in states]
    outs.append(drop(backend, x, rng(), 0.5, layer=1))
    assert len({out.tobytes() for out in outs}) == 5
    assert same_bits(outs[0], drop(backend, x, rng(epoch=8), 0.5))


@pytest.mark.large
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_chances(backend, rate):
    """Kept shares over entries, and agreements between steps and layers, within 5 sigma."""
    count = 200_000
    x = np.ones(count, np.float32)
    kept = [
        drop(backend, x, rng(step=step), rate, layer) != 0 for step in (0, 1) for layer in (0, 1)
    ]
    sigma = np.sqrt(rate * (1 - rate) / count)
    for mask in kept:
        assert abs(mask.mean() - (1 - rate)) < 5 * sigma
    both = (1 - rate) ** 2
    for other in (*kept[1:], np.roll(kept[0], 1)):
        assert abs((kept[0] & other).mean() - both) < 5 * np.sqrt(both * (1 - both) / count)


def test_finite_differences(reference, random):
    def forward(x):
        out = reference.empty(x.shape)
        reference.dropout(x, rng(), out, rate=0.4, layer=1)
        return out

    check_gradients(
        forward, lambda grad, x: [forward(grad)], lambda: (random.standard_normal((3, 7)),)
    )
