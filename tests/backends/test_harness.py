"""The harness must catch what it is for: NaN, unwritten outputs, touched inputs, stray writes."""

import numpy as np
import pytest

from fercore.backends.reference import ReferenceBackend
from tests.backends.harness import InPlace, Out, call, relative_error


def test_relative_error_of_known_vectors():
    assert relative_error(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.ones(3), np.zeros(3)) == float("inf")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_relative_error_refuses_what_is_not_finite(bad):
    good, broken = np.ones(3), np.array([1, bad, 1])
    for pair in ((broken, good), (good, broken), (broken, broken)):
        assert not relative_error(*pair) <= 1e9


def test_relative_error_refuses_other_shapes():
    with pytest.raises(AssertionError):
        relative_error(np.ones((3, 1)), np.ones(3))


class Careless(ReferenceBackend):
    """Does wrong in ``accumulate`` what ``fault`` says."""

    def __init__(self, fault):
        super().__init__("float32")
        self.fault = fault

    def accumulate(self, total, term):
        return self.fault(total, term)


def beyond(array, entries):
    return np.lib.stride_tricks.as_strided(array, (array.size + entries,), array.strides)


FAULTS = {
    "returns": lambda total, term: total,
    "modifies an input": lambda total, term: term.fill(0),
    "writes beyond an output": lambda total, term: beyond(total, 3).fill(0),
    "writes beyond an input": lambda total, term: beyond(term, 3).__setitem__(-1, 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_call_notices_that_a_method(fault):
    backend = Careless(FAULTS[fault])
    with pytest.raises(AssertionError):
        call(backend, "accumulate", InPlace(np.ones(5, np.float32)), np.ones(5, np.float32))


def test_an_output_that_is_not_written_stays_nan():
    backend = Careless(lambda total, term: total[:4].fill(0))
    out = call(backend, "accumulate", Out(5), np.ones(5, np.float32))
    assert np.isnan(out).tolist() == [False] * 4 + [True]


def test_reading_beyond_an_input_gives_nan():
    backend = Careless(lambda total, term: total.fill(beyond(term, 1).sum()))
    assert np.isnan(call(backend, "accumulate", Out(2), np.ones(5, np.float32))).all()
