"""Turning to the next batch, and rows of tables, in every order of threads."""

import numpy as np
import pytest

from cuda_kernels import batches
from cuda_kernels.runtime import KernelError
from tests.backends.harness import same_bits
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import with_mistake


def check_advance(runtime, random, size=300):
    """Two steps of an epoch, more rows than threads; the second runs out of them."""
    order = random.permutation(2 * size - 7).astype(np.int32)
    schedule = random.random((2, 4))
    cursor = to_device(runtime, np.array([0, 0, 11], np.uint32))
    rng = to_device(runtime, np.array([1, 2, 3, 0], np.uint32))
    rates = poisoned(runtime, 4, dtype=np.float64)
    indices = poisoned(runtime, size, dtype=np.int32)
    rows = np.concatenate([order, np.full(7, -1, np.int32)])
    inputs = to_device(runtime, order), to_device(runtime, schedule)
    for step in (0, 1):
        batches.advance(runtime, cursor, *inputs, indices, rng, rates)
        assert same_bits(runtime.copy_out(indices), rows[step * size : (step + 1) * size])
        assert same_bits(runtime.copy_out(rates), schedule[step])
        assert runtime.copy_out(rng).tolist() == [1, 2, 3, 11 + step]
        assert runtime.copy_out(cursor).tolist() == [(step + 1) * size, step + 1, 12 + step]


def check_rows(runtime, random, dtype=np.float32):
    """Gathered, and scattered to where they came from."""
    table = random.integers(0, 2**16, (9, 5, 3)).astype(dtype)
    indices = to_device(runtime, np.array([8, -1, 0, 3], np.int32))
    out = poisoned(runtime, 4, 5, 3, dtype=dtype)
    batches.gather(runtime, to_device(runtime, table), indices, out, padding=2)
    expected = np.stack([table[8], np.full((5, 3), 2, dtype), table[0], table[3]])
    assert same_bits(runtime.copy_out(out), expected)
    if dtype == np.float32:
        back = to_device(runtime, np.full((9, 5, 3), 7, dtype))
        batches.scatter(runtime, out, indices, back)
        named = np.isin(np.arange(9), (8, 0, 3))[:, None, None]
        assert same_bits(runtime.copy_out(back), np.where(named, table, np.float32(7)))


def test_advance(runtime, random):
    check_advance(runtime, random)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16])
def test_rows(runtime, random, dtype):
    check_rows(runtime, random, dtype)


def test_a_step_captured_once_goes_through_an_epoch(runtime):
    """The device alone turns to the next batch: nothing is written between two replays."""
    order = np.arange(10, 17, dtype=np.int32)
    cursor = to_device(runtime, np.zeros(3, np.uint32))
    indices = poisoned(runtime, 3, dtype=np.int32)
    inputs = cursor, to_device(runtime, order), None, indices, None, None
    batches.advance(runtime, *inputs)  # a kernel is built before, never inside, a graph
    with runtime.capture() as graph:
        batches.advance(runtime, *inputs)
    seen = []
    for _ in range(2):
        graph.replay()
        seen += runtime.copy_out(indices).tolist()
    assert seen == [13, 14, 15, 16, -1, -1]


MISTAKES = {
    "no barrier before the cursor moves": ("    __syncthreads();\n", ""),
    "beyond the end": ("row < rows ? order[row] : -1", "order[row]"),
    "rates of the first step": ("min(step, steps - 1)", "min(step, 0U)"),
    "one number too late": ("rng[3] = number;", "rng[3] = number + 1;"),
    "padding rows scattered": ("if (index >= 0) table", "if (index >= -1) table"),
    "a row too long": (
        "indices[i / words];\n        out",
        "indices[i / (words + 1)];\n        out",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_seen(random, tmp_path, name):
    seen = 0
    for runtime in with_mistake(tmp_path, batches.SOURCE, *MISTAKES[name]):
        try:
            check_advance(runtime, random)
            check_rows(runtime, random)
        except (AssertionError, KernelError):
            seen += 1
    # A missing barrier shows in the orders in which the first thread is not the last.
    assert seen >= (2 if "barrier" in name else 3)
