"""Dropout: which entries are kept, bit for bit, and what becomes of them."""

import numpy as np
import pytest

from cuda_kernels import dropout
from tests.backends import oracle
from tests.backends.harness import normal
from tests.cuda_kernels.harness import poisoned, to_device


@pytest.mark.parametrize("count", [1, 5, 64, 1027])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999])
def test_dropout(runtime, random, count, rate):
    x, rng = normal(random, count), np.array([7, 2**32 - 1, 3, 11], np.uint32)
    out = poisoned(runtime, count)
    dropout.dropout(
        runtime, to_device(runtime, x), to_device(runtime, rng), out, rate=rate, layer=5
    )
    words = [oracle.philox((i // 4, 11, 5, 0), (7, 2**32 - 1))[i % 4] for i in range(count)]
    kept = np.array([(word >> 8) * 2.0**-24 >= rate for word in words])
    actual = runtime.copy_out(out)
    np.testing.assert_array_equal(actual != 0, kept)
    np.testing.assert_allclose(actual, np.where(kept, x / (1 - rate), 0), rtol=1e-6)


def test_a_rate_that_is_no_float32_decides_exactly(runtime):
    """At a rate just above a word's number the entry falls, at the number itself it stays."""
    rng = np.array([1, 2, 0, 0], np.uint32)
    number = (oracle.philox((0, 0, 0, 0), (1, 2))[0] >> 8) * 2.0**-24
    for rate, kept in ((number, True), (np.nextafter(number, 1), False)):
        out = poisoned(runtime, 1)
        one = to_device(runtime, np.ones(1, np.float32))
        dropout.dropout(runtime, one, to_device(runtime, rng), out, rate=rate, layer=0)
        assert (runtime.copy_out(out)[0] != 0) == kept
