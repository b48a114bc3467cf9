"""Buffers: made, copied, viewed, filled, added."""

import numpy as np
import pytest

from tests.backends.harness import InPlace, assert_exact, call, same_bits, small_integers


def test_empty_has_the_shape_and_dtype_asked_for(backend):
    for shape in ((2, 3, 5), [7], ()):
        buffer = backend.empty(shape)
        assert buffer.shape == tuple(shape)
        assert buffer.dtype == backend.dtype
    assert backend.empty((4,), np.float64).dtype == np.float64
    assert backend.empty((4,), "uint8").dtype == np.uint8


def test_from_host_copies_and_floats_become_the_backends(backend, random):
    for dtype in (np.float16, np.float32, np.float64):
        array = small_integers(random, 3, 4).astype(dtype)
        buffer = backend.from_host(array)
        array[0, 0] = 9
        host = backend.to_host(buffer)
        assert host.dtype == backend.dtype
        assert host[0, 0] != 9


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
def test_from_host_keeps_integers(backend, dtype):
    array = np.array([[0, 1, 255]], dtype)
    assert same_bits(backend.to_host(backend.from_host(array)), array)


def test_from_host_takes_any_strides(backend, random):
    array = small_integers(random, 4, 6).T[::2]
    assert_exact(backend.to_host(backend.from_host(array)), array)


def test_to_host_is_a_copy(backend):
    buffer = backend.from_host(np.ones(3, np.float32))
    host = backend.to_host(buffer)
    host[0] = 5
    assert backend.to_host(buffer).tolist() == [1, 1, 1]


def test_write_replaces_what_a_buffer_holds(backend, random):
    array = small_integers(random, 3, 5)
    buffer = backend.empty((3, 5))
    backend.write(buffer, array)
    assert_exact(backend.to_host(buffer), array)
    rates = backend.empty((4,), np.float64)
    backend.write(rates, np.array([0.1, 0.2, 0.3, 1.0]))
    assert backend.to_host(rates).tolist() == [0.1, 0.2, 0.3, 1.0]


def test_write_refuses_another_shape(backend):
    buffer = backend.empty((3, 5))
    for shape in ((5,), (1, 5), (5, 3), (3, 5, 1)):
        with pytest.raises(ValueError, match="shape"):
            backend.write(buffer, np.zeros(shape, np.float32))


def test_view_shares_memory_at_a_byte_offset(backend):
    arena = backend.from_host(np.zeros(64, np.uint8))
    view = backend.view(arena, 16, (2, 3), np.int32)
    backend.write(view, np.arange(6, dtype=np.int32).reshape(2, 3))
    expected = np.zeros(64, np.uint8)
    expected[16:40:4] = np.arange(6)
    assert same_bits(backend.to_host(arena), expected)
    assert backend.to_host(view).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_view_reinterprets_a_typed_buffer(backend):
    buffer = backend.from_host(np.array([1, 2, 3, 4], np.int32))
    assert backend.to_host(backend.view(buffer, 8, (2,), np.int32)).tolist() == [3, 4]


@pytest.mark.parametrize(("offset", "shape"), [(0, (17,)), (8, (15,)), (-4, (2,))])
def test_view_refuses_to_leave_its_buffer(backend, offset, shape):
    arena = backend.from_host(np.zeros(64, np.uint8))
    with pytest.raises((ValueError, TypeError)):
        backend.view(arena, offset, shape, np.float32)


@pytest.mark.parametrize("dtype", [None, np.int32, np.uint8, np.float64])
def test_fill_sets_every_entry(backend, dtype):
    buffer = backend.empty((3, 7), dtype)
    backend.fill(buffer, 3)
    assert (backend.to_host(buffer) == 3).all()


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5, 7), (129, 65)])
def test_accumulate_adds_in_place(backend, random, shape):
    total, term = small_integers(random, *shape), small_integers(random, *shape)
    assert_exact(call(backend, "accumulate", InPlace(total), term), total.astype(float) + term)


def test_accumulate_refuses_another_shape(backend):
    total = backend.from_host(np.zeros((3, 5), np.float32))
    for shape in ((5,), (1, 5), (5, 3)):
        with pytest.raises(ValueError, match="shape"):
            backend.accumulate(total, backend.from_host(np.ones(shape, np.float32)))


def test_scope_may_surround_any_call(backend):
    with backend.scope("conv1_1 forward"):
        assert_exact(
            call(backend, "accumulate", InPlace(np.ones(1, np.float32)), np.ones(1, np.float32)),
            np.array([2.0]),
        )
