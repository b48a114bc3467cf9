"""Dropout: which entries are kept, bit for bit, and what becomes of them."""

import numpy as np
import pytest

from cuda_kernels import dropout
from tests.backends import oracle
from tests.backends.harness import normal
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.precisions import PRECISIONS, numbers_in, rounded, stored, to_store


@pytest.mark.parametrize("count", [1, 5, 64, 1027])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dropout(runtime, random, count, rate, precision):
    x = rounded(normal(random, count), precision)
    rng = np.array([7, 2**32 - 1, 3, 11], np.uint32)
    out = to_store(runtime, count, precision=precision)
    dropout.dropout(
        *(runtime, stored(runtime, x, precision), to_device(runtime, rng), out),
        rate=rate,
        layer=5,
        precision=precision,
    )
    words = [oracle.philox((i // 4, 11, 5, 0), (7, 2**32 - 1))[i % 4] for i in range(count)]
    kept = np.array([(word >> 8) * 2.0**-24 >= rate for word in words])
    actual = numbers_in(runtime, out)
    np.testing.assert_array_equal(actual != 0, kept)
    # Of one entry: half a step of float32, or of bf16, and a little of float32.
    gate = {"fp32": 1e-6, "bf16": 2.0**-8 + 1e-6}[precision]
    np.testing.assert_allclose(actual, np.where(kept, x / (1 - rate), 0), rtol=gate)


def test_a_rate_that_is_no_float32_decides_exactly(runtime):
    """At a rate just above a word's number the entry falls, at the number itself it stays."""
    rng = np.array([1, 2, 0, 0], np.uint32)
    number = (oracle.philox((0, 0, 0, 0), (1, 2))[0] >> 8) * 2.0**-24
    for rate, kept in ((number, True), (np.nextafter(number, 1), False)):
        out = poisoned(runtime, 1)
        one = to_device(runtime, np.ones(1, np.float32))
        dropout.dropout(runtime, one, to_device(runtime, rng), out, rate=rate, layer=0)
        assert (runtime.copy_out(out)[0] != 0) == kept
