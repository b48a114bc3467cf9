"""A step on the backend without memory: the launches of the emulated one."""

from __future__ import annotations

import pytest

from fercore import backends
from fercore.backends.sketch import SketchBackend
from fercore.config import Recipe
from fercore.errors import FercoreError
from tests.narrow import MASKS, Training, narrow

RECIPE = Recipe(optimizer="sgd", weight_decay=0.01, clip_norm=0.5)


@pytest.mark.parametrize("precision", ["fp32", "bf16x3"])
@pytest.mark.parametrize(
    ("name", "masks"), [("tiny-bn", "BL"), ("tiny", "FC"), ("tiny", "channels")]
)
def test_a_step_would_launch_what_it_launches(name, masks, precision):
    try:
        emulated = backends.get("emulated", precision=precision)
    except FercoreError as error:
        pytest.skip(str(error))
    launched: list[tuple[str, tuple[int, ...]]] = []
    sketch = SketchBackend(precision)
    for backend in (emulated, sketch):
        model = narrow(name, backend, seed=None if backend is sketch else 0)
        MASKS[masks](model)
        training = Training(backend, model, RECIPE)
        plan = training.record(3)
        training.prepare(3)
        if backend is sketch:
            sketch.take_launches()
        else:
            emulated.runtime.on_launch = lambda kernel, grid: launched.append((kernel.name, grid))
        plan.replay()
    assert [(one.kernel.name, one.grid) for one in sketch.take_launches()] == launched
    assert len(launched) > 30
    assert sketch.take_launches() == []


def test_it_allocates_nothing_and_counts_everything():
    sketch = SketchBackend()
    huge = sketch.empty((1 << 40,))
    assert sketch.allocated == sketch.peak == 1 << 42
    del huge
    assert sketch.allocated == 0
    assert sketch.peak == 1 << 42
