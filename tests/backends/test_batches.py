"""Turning to the next batch of an epoch; rows of tables, there and back."""

import numpy as np
import pytest

from tests.backends.harness import InPlace, Out, call, same_bits

ORDER = np.array([7, 2, 9, 4, 0, 8, 1], np.int32)
SCHEDULE = np.array([[0.1, 0.2, 0.3, 1.0], [0.5, 0.6, 0.7, 1.0]])


def advance(backend, cursor, size, order=ORDER, schedule=SCHEDULE, rng=(1, 2, 3, 99)):
    return call(
        backend,
        "advance",
        InPlace(np.array(cursor, np.uint32)),
        order,
        schedule,
        Out(size, dtype=np.int32),
        InPlace(np.array(rng, np.uint32)),
        Out(4, dtype=np.float64),
    )


def test_a_step_gets_its_rows_its_number_and_its_rates(backend):
    cursor, indices, rng, rates = advance(backend, (0, 0, 40), 3)
    assert (cursor.tolist(), indices.tolist()) == ([3, 1, 41], [7, 2, 9])
    assert rng.tolist() == [1, 2, 3, 40]
    assert same_bits(rates, SCHEDULE[0])
    cursor, indices, rng, rates = advance(backend, cursor, 4, rng=rng)
    assert (cursor.tolist(), indices.tolist()) == ([7, 2, 42], [4, 0, 8, 1])
    assert rng.tolist() == [1, 2, 3, 41]
    assert same_bits(rates, SCHEDULE[1])


@pytest.mark.parametrize(("done", "rows"), [(5, [8, 1, -1, -1]), (7, [-1] * 4), (30, [-1] * 4)])
def test_beyond_the_end_are_padding_rows_and_the_last_rates(backend, done, rows):
    cursor, indices, _, rates = advance(backend, (done, 2, 0), 4)
    assert (cursor.tolist(), indices.tolist()) == ([done + 4, 3, 1], rows)
    assert same_bits(rates, SCHEDULE[1])


def test_the_number_of_a_step_takes_all_of_its_bits(backend):
    _, _, rng, _ = advance(backend, (0, 0, 2**32 - 2), 1)
    assert rng[3] == 2**32 - 2


def test_more_rows_than_a_block_has_threads(backend, random):
    order = random.permutation(1000).astype(np.int32)
    cursor, indices, *_ = advance(backend, (300, 0, 0), 600, order=order)
    assert cursor.tolist() == [900, 1, 1]
    assert same_bits(indices, order[300:900])


def test_an_order_alone(backend):
    arguments = InPlace(np.array([2, 0, 0], np.uint32)), ORDER, None, Out(3, dtype=np.int32)
    cursor, indices = call(backend, "advance", *arguments, None, None)
    assert (cursor.tolist(), indices.tolist()) == ([5, 1, 1], [9, 4, 0])


@pytest.mark.parametrize("row", [(), (1,), (7,), (3, 5, 2)])
def test_gather_takes_rows_bit_for_bit(backend, random, row):
    table = random.standard_normal((9, *row)).astype(backend.dtype)
    table.reshape(-1)[4] = np.nan
    indices = np.array([8, 0, 4, 4, 1], np.int32)
    assert same_bits(call(backend, "gather", table, indices, Out(5, *row)), table[indices])


def test_gather_fills_what_has_no_row(backend):
    labels, indices = np.array([5, 6, 0], np.int32), np.array([-1, 2, -1, 0], np.int32)
    out = call(backend, "gather", labels, indices, Out(4, dtype=np.int32), padding=-1)
    assert out.tolist() == [-1, 0, -1, 5]
    table = np.full((3, 2), 7, np.float32)
    out = call(backend, "gather", table, indices, Out(4, 2))
    assert out.tolist() == [[0, 0], [7, 7], [0, 0], [7, 7]]


@pytest.mark.parametrize("width", [1, 3, 8])
def test_gather_of_bf16(backend, random, width):
    table = random.integers(0, 2**16, (6, width)).astype(np.uint16)
    indices = np.array([5, -1, 0], np.int32)
    out = call(backend, "gather", table, indices, Out(3, width, dtype=np.uint16))
    assert same_bits(out, np.array([table[5], np.zeros(width), table[0]], np.uint16))


@pytest.mark.parametrize("row", [(), (7,), (2, 3)])
def test_scatter_writes_the_rows_named_and_no_other(backend, random, row):
    values = random.standard_normal((4, *row)).astype(np.float32)
    before = random.standard_normal((6, *row)).astype(np.float32)
    indices = np.array([5, -1, 0, 2], np.int32)
    after = call(backend, "scatter", values, indices, InPlace(before))
    expected = before.copy()
    expected[[5, 0, 2]] = values[[0, 2, 3]]
    assert same_bits(after, expected.astype(backend.dtype))


def test_what_is_held_is_there_to_be_read(backend, random):
    array = random.standard_normal((5, 3)).astype(backend.dtype)
    held = backend.hold(array)
    assert same_bits(backend.to_host(held), array)
    backend.synchronize()


def test_schedule_and_rates_come_together(backend):
    if backend.name == "reference":
        pytest.skip("the reference checks no arguments")
    cursor, indices = np.zeros(3, np.uint32), np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="schedule and rates come together"):
        backend.advance(cursor, ORDER, SCHEDULE, indices, None, None)
    with pytest.raises(ValueError, match="schedule must have a row"):
        backend.advance(cursor, ORDER, SCHEDULE[:0], indices, None, np.zeros(4))
