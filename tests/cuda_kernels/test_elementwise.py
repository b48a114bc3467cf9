"""Whole buffers, entry by entry: every version, at sizes around those of its steps."""

import numpy as np
import pytest

from cuda_kernels import elementwise
from cuda_kernels.specs import UnsuitableError
from tests.backends.harness import normal
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.precisions import numbers_in, rounded, stored, to_store

COUNTS = [1, 3, 4, 255, 1030]
every_version = pytest.mark.parametrize(
    ("precision", "version"), [("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2)]
)
every_count = pytest.mark.parametrize("count", COUNTS)


@every_count
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, -1.7, np.nan])
def test_fill(runtime, count, dtype, value):
    out = poisoned(runtime, count, dtype=dtype)
    elementwise.fill(runtime, out, value)
    np.testing.assert_array_equal(runtime.copy_out(out), np.full(count, value, dtype), strict=True)


@every_version
@every_count
def test_accumulate(runtime, random, precision, version, count):
    runtime.pins["accumulate"] = version
    total, term = (rounded(normal(random, count), precision) for _ in range(2))
    term[::4] = np.nan
    buffer = stored(runtime, total, precision)
    elementwise.accumulate(runtime, buffer, stored(runtime, term, precision), precision=precision)
    expected = rounded(total + term, precision)
    np.testing.assert_array_equal(numbers_in(runtime, buffer), expected, strict=True)


@every_version
@every_count
def test_relu_gradient(runtime, random, precision, version, count):
    runtime.pins["relu_gradient"] = version
    grad, out = (rounded(normal(random, count), precision) for _ in range(2))
    out[::3] = 0
    out[1::7] = np.nan
    before = to_store(runtime, count, precision=precision)
    inputs = (stored(runtime, array, precision) for array in (grad, out))
    elementwise.relu_gradient(runtime, *inputs, before, precision=precision)
    expected = np.where(out > 0, grad, 0).astype(np.float32)
    np.testing.assert_array_equal(numbers_in(runtime, before), expected, strict=True)


def test_nothing_to_do_is_no_launch(runtime):
    launched = []
    runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    elementwise.fill(runtime, runtime.empty((0, 5), np.float32), 1.0)
    assert launched == []


def test_a_grid_smaller_than_the_buffer_strides_over_it(runtime, random):
    count = 5 * elementwise.THREADS + 3
    total, term = normal(random, count), normal(random, count)
    for name in ("accumulate", "accumulate_by_4"):
        kernel = next(one for one in elementwise.KERNELS if one.name == name)
        buffer = to_device(runtime, total)
        arguments = {"total": buffer, "term": to_device(runtime, term), "count": count}
        runtime.launch(kernel, (2, 1, 1), (kernel.threads, 1, 1), 0, arguments)
        np.testing.assert_array_equal(runtime.copy_out(buffer), total + term)


def test_vectors_need_alignment(runtime, random):
    """A view that begins at an odd place is left to version 1; version 2 says why it cannot."""
    memory = to_device(runtime, normal(random, 12))
    total, term = runtime.view(memory, 4, (5,), np.float32), to_device(runtime, normal(random, 5))
    expected = runtime.copy_out(total) + runtime.copy_out(term)
    launched = []
    runtime.on_launch = lambda kernel, grid: launched.append(kernel.name)
    elementwise.accumulate(runtime, total, term)
    assert launched == ["accumulate"]
    np.testing.assert_array_equal(runtime.copy_out(total), expected)
    runtime.pins["accumulate"] = 2
    with pytest.raises(UnsuitableError, match="begin at a multiple of 16 bytes"):
        elementwise.accumulate(runtime, total, term)
