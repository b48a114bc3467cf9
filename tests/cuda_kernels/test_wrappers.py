"""Each wrapper in include/: against NumPy, in every order of threads, and on a GPU."""

import numpy as np
import pytest

from cuda_kernels import linear
from tests.backends import oracle
from tests.backends.harness import normal, relative_error, small_integers
from tests.cuda_kernels.harness import FOLDER, kernel, launch, poisoned, to_device

WRAPPERS = FOLDER / "wrappers.cu"


@pytest.fixture(autouse=True)
def has_tensor_cores(runtime):
    if runtime.arch < 80:
        pytest.skip("wrappers.cu needs sm_80")


def run(runtime, name, *, threads=32, shared_bytes=0, blocks=1, **arguments):
    launch(runtime, kernel(name, WRAPPERS, threads, shared_bytes), blocks=blocks, **arguments)


def multiplied(runtime, name, a, b, d, **options):
    """``a b + d``, by one mma."""
    a, b, d = (to_device(runtime, array) for array in (a, b, d))
    run(runtime, name, a=a, b=b, d=d, **options)
    return runtime.copy_out(d)


@pytest.mark.parametrize("numbers", [small_integers, normal])
def test_mma_bf16(runtime, random, numbers):
    a, b = (linear.to_bf16(numbers(random, *shape)) for shape in ((16, 16), (16, 8)))
    d = numbers(random, 16, 8)
    result = multiplied(runtime, "multiply_bf16", a, b, d)
    product = linear.from_bf16(a).astype(float) @ linear.from_bf16(b)
    assert relative_error(result, product + d) <= (0 if numbers is small_integers else 1e-6)


def test_mma_tf32_rounds_or_cuts(runtime, random):
    a, b, d = (normal(random, *shape) for shape in ((16, 8), (8, 8), (16, 8)))
    exact = a.astype(float) @ b + d
    errors = []
    for rounded in (True, False):
        result = multiplied(runtime, "multiply_tf32", a, b, d, rounded=rounded)
        errors.append(relative_error(result, exact))
    assert errors[0] <= 1e-3
    assert errors[1] > 1.3 * errors[0], "the bits below a tf32 must be ignored, not used"


def test_mma_tf32_is_exact_on_small_integers(runtime, random):
    a, b, d = (small_integers(random, *shape) for shape in ((16, 8), (8, 8), (16, 8)))
    result = multiplied(runtime, "multiply_tf32", a, b, d, rounded=False)
    np.testing.assert_array_equal(result, a @ b + d)


def test_ldmatrix(runtime, random):
    x = random.integers(0, 2**16, (32, 8)).astype(np.uint16)
    out = poisoned(runtime, 4, 4, 32, dtype=np.uint32)
    run(runtime, "load_matrices", x=to_device(runtime, x), out=out)
    registers = runtime.copy_out(out)
    for how, count in enumerate((4, 4, 2, 2)):
        for m in range(count):
            matrix = x[8 * m : 8 * m + 8].astype(np.uint32)
            matrix = matrix.T if how % 2 else matrix
            for lane in range(32):
                row, column = lane // 4, lane % 4 * 2
                pair = matrix[row, column] | matrix[row, column + 1] << 16
                assert registers[how, m, lane] == pair


def test_swizzled_rows_use_all_banks(runtime):
    narrow = poisoned(runtime, 8, 4, dtype=np.uint32)
    wide = poisoned(runtime, 8, 8, dtype=np.uint32)
    run(runtime, "places", narrow=narrow, wide=wide)
    for places in map(runtime.copy_out, (narrow, wide)):
        for chunk in places.T:
            assert sorted(chunk) == list(range(8)), "eight rows must lie in eight places"


def test_swizzled_floats_of_four_rows_use_all_banks(runtime):
    banks = poisoned(runtime, 32, dtype=np.uint32)
    run(runtime, "banks_of_floats", banks=banks)
    assert sorted(runtime.copy_out(banks) % 32) == list(range(32))


@pytest.mark.parametrize("count", [32, 19, 0])
def test_asynchronous_copies(runtime, random, count):
    x, out = normal(random, 32, 4)[:count].copy(), poisoned(runtime, 3, 32, 4)
    run(runtime, "copy_rows", shared_bytes=3 * 512, x=to_device(runtime, x), out=out, count=count)
    expected = np.zeros((32, 4), np.float32)
    expected[:count] = x
    for copied in runtime.copy_out(out):
        np.testing.assert_array_equal(copied, expected)


def test_shuffles_and_ballot(runtime, random):
    x, lane = random.integers(0, 100, 32).astype(np.uint32), np.arange(32)
    out = poisoned(runtime, 5, 32, dtype=np.uint32)
    run(runtime, "shuffles", x=to_device(runtime, x), out=out)
    votes = sum(1 << i for i in range(32) if x[i] % 3 == 0)
    expected = [
        np.full(32, x[5]),
        x[lane ^ 3],
        x[np.where(lane + 4 < 32, lane + 4, lane)],
        x[np.where(lane >= 4, lane - 4, lane)],
        np.full(32, votes),
    ]
    np.testing.assert_array_equal(runtime.copy_out(out), expected)


def test_sums(runtime, random):
    x = small_integers(random, 96)
    of_warp, of_block = poisoned(runtime, 96), poisoned(runtime, 2, 96)
    run(runtime, "sums", threads=96, x=to_device(runtime, x), of_warp=of_warp, of_block=of_block)
    warps = x.reshape(3, 32).sum(1).repeat(32)
    np.testing.assert_array_equal(runtime.copy_out(of_warp), warps)
    blocks = runtime.copy_out(of_block)
    np.testing.assert_array_equal(blocks, np.multiply.outer([1, 2], np.full(96, x.sum())))


def test_sums_have_one_order(random):
    """The same bits whatever the order of threads, though float32 sums depend on theirs."""
    from cuda_kernels.emulated import ORDERS, EmulatedRuntime

    x, results = normal(random, 96), set()
    for order in ORDERS:
        runtime = EmulatedRuntime(order)
        of_block = poisoned(runtime, 2, 96)
        run(
            runtime,
            "sums",
            threads=96,
            x=to_device(runtime, x),
            of_warp=poisoned(runtime, 96),
            of_block=of_block,
        )
        results.add(of_block.tobytes())
    assert len(results) == 1


def test_philox(runtime, random):
    counters = random.integers(0, 2**32, (32, 4)).astype(np.uint32)
    words = poisoned(runtime, 32, 4, dtype=np.uint32)
    key = 0xFFFFFFFF, 12345
    run(
        runtime,
        "random_words",
        counters=to_device(runtime, counters),
        words=words,
        key0=key[0],
        key1=key[1],
    )
    expected = [oracle.philox([int(c) for c in counter], key) for counter in counters]
    np.testing.assert_array_equal(runtime.copy_out(words), expected)


def test_conversions(runtime, random):
    bits = random.integers(0, 2**32, 1024, dtype=np.uint32)
    ties = np.array([0x3F808000, 0x3F818000, 0x3F801000, 0x3F803000, 1, 0x80000001], np.uint32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38], np.float32)
    x = np.concatenate([bits.view(np.float32), ties.view(np.float32), special, normal(random, 51)])
    assert len(x) % 32 == 0
    outputs = {
        "narrow": poisoned(runtime, len(x), dtype=np.uint16),
        "back": poisoned(runtime, len(x)),
        "tf32": poisoned(runtime, len(x), dtype=np.uint32),
    }
    run(runtime, "conversions", blocks=len(x) // 32, x=to_device(runtime, x), **outputs)
    narrow, back, tf32 = (runtime.copy_out(outputs[name]) for name in ("narrow", "back", "tf32"))
    np.testing.assert_array_equal(narrow, nearest_bf16(x))
    np.testing.assert_array_equal(back, linear.from_bf16(narrow))
    finite = np.isfinite(x) & (np.abs(x) < 3.4e38)
    np.testing.assert_array_equal(tf32[finite].view(np.float32), nearest_tf32(x[finite]))


def nearest_bf16(x):
    """By arithmetic: multiples of the spacing of bf16 numbers, ties to even."""
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(x.astype(np.float64))
        spacing = np.ldexp(1.0, np.maximum(exponent - 8, -133))
        rounded = (np.rint(x / spacing) * spacing).astype(np.float32)
    bits = (rounded.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(x), 0x7FFF, bits).astype(np.uint16)


def nearest_tf32(x):
    """Multiples of the spacing of tf32 numbers, ties away from zero."""
    _, exponent = np.frexp(x.astype(np.float64))
    spacing = np.ldexp(1.0, np.maximum(exponent - 11, -136))
    quotient = np.abs(x) / spacing
    return (np.copysign(np.floor(quotient + 0.5), x) * spacing).astype(np.float32)


def test_coordinates_in_three_dimensions(runtime):
    out = poisoned(runtime, 12 * 24, dtype=np.uint32)
    one = kernel("coordinates", WRAPPERS, 24)
    runtime.launch(one, (3, 2, 2), (4, 3, 2), 0, {"out": out})
    expected = np.add.outer(np.arange(12) * 1000, np.arange(24)).ravel()
    np.testing.assert_array_equal(runtime.copy_out(out), expected)
