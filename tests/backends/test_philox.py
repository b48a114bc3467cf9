"""Philox4x32-10 against the known answers published with Random123 (kat_vectors)."""

import numpy as np
import pytest

from fercore.backends.philox import philox, uniform
from tests.backends import oracle

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
@pytest.mark.parametrize("generator", [philox, oracle.philox])
def test_known_answers(generator, counter, key, words):
    assert [f"{int(word):08x}" for word in generator(counter, key)] == words.split()


def test_counters_and_keys_broadcast(random):
    first, key = random.integers(0, 2**32, 5), random.integers(0, 2**32, (3, 1))
    words = philox((first, 7, 0, 1), (key, 2))
    assert words.shape == (3, 5, 4)
    assert words.dtype == np.uint32
    for i, j in np.ndindex(3, 5):
        assert tuple(words[i, j]) == oracle.philox((first[j], 7, 0, 1), (key[i, 0], 2))


def test_uniform_is_exact_at_both_ends():
    assert uniform(np.array([0, 255, 256, ONES], np.uint32)).tolist() == [0, 0, 2**-24, 1 - 2**-24]
