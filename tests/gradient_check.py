"""Analytical gradients against central finite differences, in float64.

``check_gradients`` compares whole Jacobians; with ``directions`` it compares that many random
directional derivatives instead, for shapes whose Jacobian would be large. Where the function has a
kink within a step (ReLU at 0, two equal entries in a pool) differences mean nothing: such a draw is
noticed from the function alone, whatever the gradient says, and drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

STEP = 1e-5
TOLERANCE = 1e-6
"""Relative; differences with the step above are good to about 1e-9 on values near 1."""
BENT = 1e-2
"""A change of slope within one step that no smooth function of ours reaches."""


class KinkError(ArithmeticError):
    """The function is not smooth within a step of this point."""


def check_gradients(
    forward: Callable[..., np.ndarray],
    backward: Callable[..., Sequence[np.ndarray | None]],
    draw: Callable[[], tuple[np.ndarray, ...]],
    *,
    directions: int = 0,
    attempts: int = 20,
    seed: int = 0,
) -> None:
    """Assert that ``backward(grad, *inputs)`` is the gradient of ``sum(grad * forward(*inputs))``.

    ``draw()`` makes new float64 inputs; ``backward`` returns a gradient for each of them, or
    ``None`` for one that is a constant here. ``directions`` 0 means the full Jacobian.
    """
    random = np.random.default_rng(seed)
    compare = _compare_jacobians if directions == 0 else _compare_directions
    for _ in range(attempts):
        try:
            return compare(forward, backward, draw(), random, directions)
        except KinkError:
            continue
    raise AssertionError(f"a kink at each of {attempts} draws: draw inputs further apart")


def derivative(function: Callable[[float], np.ndarray]) -> np.ndarray:
    """The derivative of ``function`` at 0; raises KinkError where it has none.

    A kink at a distance t from 0 changes the difference quotient by a fraction that depends on
    t / step, so halving the step shows it; unless t is 0, which shows as a sudden bend.
    """
    here = function(0.0)
    quotients = []
    for step in (STEP, STEP / 2):
        ahead, behind = function(step), function(-step)
        quotients.append((ahead - behind) / (2 * step))
        bend = np.abs(ahead - 2 * here + behind) / step
    scale = 1.0 + np.abs(quotients[0]).max(initial=0.0)
    uneven = np.abs(quotients[0] - quotients[1])
    if not bend.max(initial=0.0) <= BENT * scale or not uneven.max(initial=0.0) <= 1e-7 * scale:
        raise KinkError
    return quotients[1]


def _compare_jacobians(forward, backward, inputs, random, _directions):
    shape = forward(*inputs).shape
    rows = []
    for k in range(int(np.prod(shape))):
        unit = np.zeros(shape)
        unit.flat[k] = 1
        rows.append(backward(unit, *inputs))
    for number, array in enumerate(inputs):
        if rows[0][number] is None:
            continue
        analytical = np.stack([row[number].ravel() for row in rows])
        columns = []
        for entry in range(array.size):
            direction = np.zeros_like(array)
            direction.flat[entry] = 1
            columns.append(_along(forward, inputs, {number: direction}).ravel())
        _assert_equal(analytical, np.stack(columns, axis=1), f"Jacobian in input {number}")


def _compare_directions(forward, backward, inputs, random, directions):
    for number in range(directions):
        grad = random.standard_normal(forward(*inputs).shape)
        gradients = backward(grad, *inputs)
        moves = {
            i: random.standard_normal(array.shape)
            for i, array in enumerate(inputs)
            if gradients[i] is not None
        }
        length = np.sqrt(sum(np.vdot(move, move) for move in moves.values()))
        moves = {i: move / length for i, move in moves.items()}
        numerical = np.vdot(grad, _along(forward, inputs, moves))
        analytical = sum(np.vdot(gradients[i], move) for i, move in moves.items())
        _assert_equal(np.array([analytical]), np.array([numerical]), f"direction {number}")


def _along(forward, inputs, moves):
    def moved(distance):
        return forward(
            *(a + distance * moves[i] if i in moves else a for i, a in enumerate(inputs))
        )

    return derivative(moved)


def _assert_equal(analytical, numerical, what):
    error = np.abs(analytical - numerical)
    allowed = TOLERANCE * (1 + np.abs(numerical).max(initial=0.0))
    assert (error <= allowed).all(), (  # a NaN is not <=, so it fails
        f"{what}: off by {np.max(error):.3g}; analytical\n{analytical}\nnumerical\n{numerical}"
    )
