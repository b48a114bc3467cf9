"""The gradient check itself: it must fail for wrong gradients, and redraw at kinks only."""

import numpy as np
import pytest

from tests.gradient_check import KinkError, check_gradients, derivative


def draw():
    return (np.random.default_rng(1).standard_normal((2, 3)),)


def square(x):
    return x**2


@pytest.mark.parametrize("directions", [0, 3])
def test_accepts_a_right_gradient(directions):
    check_gradients(square, lambda g, x: [2 * x * g], draw, directions=directions)


def one_wrong_entry(g, x):
    gradient = 2 * x * g
    gradient[1, 2] *= 1.001
    return [gradient]


def nan_entry(g, x):
    gradient = 2 * x * g
    gradient[0, 1] = np.nan
    return [gradient]


@pytest.mark.parametrize("directions", [0, 3])
@pytest.mark.parametrize("backward", [one_wrong_entry, nan_entry])
def test_refuses_a_wrong_gradient(backward, directions):
    with pytest.raises(AssertionError, match=r"Jacobian|direction"):
        check_gradients(square, backward, draw, directions=directions)


@pytest.mark.parametrize("distance", [0.0, 1e-7, 2e-6, 4.9e-6, 5.1e-6, 9e-6])
def test_notices_a_kink_within_a_step(distance):
    with pytest.raises(KinkError):
        derivative(lambda t: np.maximum(np.array([t - distance]), 0))


def test_a_kink_further_away_is_not_one():
    assert derivative(lambda t: np.maximum(np.array([t - 2e-5]), 0)) == [0.0]


def test_draws_again_after_a_kink():
    draws = iter([(np.array([0.0, 1.0]),), (np.array([-0.5, 1.0]),)])
    check_gradients(lambda x: np.maximum(x, 0), lambda g, x: [g * (x > 0)], lambda: next(draws))
    assert next(draws, None) is None


def test_gives_up_when_every_draw_has_a_kink():
    with pytest.raises(AssertionError, match="kink at each of 20 draws"):
        check_gradients(np.abs, lambda g, x: [g * np.sign(x)], lambda: (np.zeros(2),))


def test_a_constant_input_is_not_checked():
    check_gradients(lambda x, c: x * c, lambda g, x, c: [g * c, None], lambda: (*draw(), *draw()))
