"""A whole training step on the numba backend against the reference; small enough to simulate."""

from __future__ import annotations

from fercore.config import Recipe
from tests.conftest import backend_fixture
from tests.narrow import Training, assert_same_step, narrow

RECIPE = Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.01, clip_norm=0.1)

device = backend_fixture([("numba", {})])


def test_a_step_is_that_of_the_reference(device, reference):
    mine, definition = (
        Training(backend, narrow("tiny-bn", backend, seed=3), RECIPE)
        for backend in (device, reference)
    )
    assert_same_step(mine, definition, size=2)
