"""Networks to export and import: no two of their numbers are alike by accident."""

from __future__ import annotations

import numpy as np

from fercore import backends, models
from fercore.nn import Model

REFERENCE = backends.get("reference", dtype="float32")


def network(name: str, seed: int = 3) -> Model:
    """A network in which nothing is as it was initialised: biases and statistics are not 0 or 1."""
    model = models.build(name, seed=seed, backend=REFERENCE)
    generator = np.random.default_rng(seed)
    state = model.state()
    for key, array in state.items():
        if key.endswith(("bias", "running_mean")):
            state[key] = generator.normal(0, 0.1, array.shape).astype(np.float32)
        elif "norm" in key:
            state[key] = generator.uniform(0.5, 1.5, array.shape).astype(np.float32)
    model.load_state(state)
    return model
