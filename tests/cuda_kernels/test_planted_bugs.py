"""Real kernels, each with one mistake planted: the emulator, or the gate, has to see it."""

import dataclasses
import functools

import pytest

from cuda_kernels import linear, specs
from cuda_kernels.runtime import KernelError
from tests.backends.harness import normal, relative_error
from tests.cuda_kernels.harness import poisoned, to_device

ROWS, IN, OUT = 70, 136, 72


def forward(runtime, name, random, source=None):
    """The relative error of a forward kernel, from its own source or a variant of it."""
    kernel = specs.kernel(name)
    kernel = dataclasses.replace(kernel, source=source or kernel.source)
    x, weight = normal(random, ROWS, IN), normal(random, OUT, IN)
    narrow = kernel.precision == "bf16"
    if narrow:
        x, weight = linear.to_bf16(x), linear.to_bf16(weight)
    out = poisoned(runtime, ROWS, OUT, dtype=x.dtype)
    arguments = {
        "x": to_device(runtime, x),
        "weight": to_device(runtime, weight),
        "bias": None,
        "out": out,
        "n": ROWS,
        "in": IN,
        "o": OUT,
        "with_relu": 0,
    }
    grid = kernel.grid(linear.Product(ROWS, IN, OUT, bytes=0))
    runtime.launch(kernel, grid, (kernel.threads, 1, 1), kernel.shared_bytes, arguments)
    out = linear.from_bf16(out) if narrow else out
    x, weight = (linear.from_bf16(a) if narrow else a for a in (x, weight))
    return relative_error(out, x.astype(float) @ weight.T.astype(float))


@dataclasses.dataclass(frozen=True)
class Bug:
    """``text`` of a kernel's source replaced by ``mistake``.

    The message must name the only line that contains ``line`` and match ``pattern``.
    """

    kernel: str
    text: str
    mistake: str
    line: str = ""
    pattern: str = ""


SIMPLE, MMA = "linear_forward", "linear_forward_bf16_mma"
COMPLETE = "__syncthreads();  // the tiles are complete"
COPY_A_ROW = "operand + (static_cast<u64>(row) * depth + k), row < count && k < depth);"
READS, FETCHES = "load4(&tiles.a[k][row])", "ldmatrix(matrices, rows.chunk"
FRAGMENTS = "mma_m16n8k16_bf16(sum[i][j], of_a[i], pair);"

CAUGHT = {
    "barrier removed before reading": Bug(
        *(SIMPLE, COMPLETE, ""),
        *(READS, "nobody has written yet|race in shared memory: it reads"),
    ),
    "barrier removed before refilling": Bug(
        *(SIMPLE, "__syncthreads();  // nobody reads them any more", ""),
        *("tile[k][row] =", "race in shared memory: it (overwrites|reads)"),
    ),
    "barrier of the pipeline removed": Bug(
        *(MMA, "__syncthreads();                // everybody's", "// everybody's"),
        *(FETCHES, "race in shared memory|written yet|a wait is missing"),
    ),
    "barrier for half of the threads": Bug(
        *(SIMPLE, "= {};", "= {}; if (threadIdx.x < 128) __syncthreads();"),
        *("if (threadIdx.x < 128)", "divergent barrier or .*: threads 0-127 wait at barrier"),
    ),
    "read past the end": Bug(
        *(SIMPLE, "r < rows && t < depth", "r <= rows && t < depth"),
        *("r <= rows", r"(x|weight)\[\d+\] is outside its \d+ entries"),
    ),
    "copy past the end": Bug(
        *(MMA, COPY_A_ROW, COPY_A_ROW.replace("row < count", "row <= count")),
        *("copy_async<16>(rows.chunk", r"(x|weight)\[\d+\.\.\d+\] is outside its \d+ entries"),
    ),
    "write past the end": Bug(
        *(SIMPLE, "if (r < rows && c < columns)", "if (r <= rows && c < columns)"),
        *("out[static_cast<u64>(row) * o + column] =", r"out\[\d+\] is outside its 5040 entries"),
    ),
    "shared memory overflow": Bug(
        *(SIMPLE, "tile[k][row] =", "tile[k][row + 5] ="),
        *("tile[k][row + 5] =", "index 68 of an array of 68 in shared memory"),
    ),
    "wait dropped": Bug(
        *(MMA, "wait_for_copies<stages - 2>();", ""),
        *(FETCHES, "a wait is missing"),
    ),
    "wait for one group too few": Bug(
        *(MMA, "wait_for_copies<stages - 2>();", "wait_for_copies<stages - 1>();"),
        *(FETCHES, "a wait is missing"),
    ),
}

WRONG = {
    "registers of b swapped": Bug(
        MMA,
        "of_b[j / 2][j % 2 * 2], of_b[j / 2][j % 2 * 2 + 1]",
        "of_b[j / 2][j % 2 * 2 + 1], of_b[j / 2][j % 2 * 2]",
    ),
    "registers of a swapped": Bug(
        MMA,
        FRAGMENTS,
        "const u32 swapped[4] = {of_a[i][0], of_a[i][2], of_a[i][1], of_a[i][3]};"
        + FRAGMENTS.replace("of_a[i]", "swapped"),
    ),
    "sums of neighbours swapped": Bug(
        MMA,
        "store(row, column, sum[i][j][0], sum[i][j][1]);",
        "store(row, column, sum[i][j][1], sum[i][j][0]);",
    ),
    "one term too few": Bug(SIMPLE, "k < depth_of_tile; ++k", "k < depth_of_tile - 1; ++k"),
}


def plant(bug, folder):
    """The source with the mistake, under its own name in ``folder``."""
    original = specs.kernel(bug.kernel).source
    text = original.read_text()
    assert text.count(bug.text) == 1, f"{bug.text!r} is not in {original.name} once"
    source = folder / original.name
    source.write_text(text.replace(bug.text, bug.mistake))
    return source


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Builds each variant once for all orders of threads."""
    return functools.cache(lambda bug: plant(bug, tmp_path_factory.mktemp("planted")))


@pytest.mark.parametrize("name", CAUGHT)
def test_mistake_is_caught_with_its_line(emulated, random, planted, name):
    bug = CAUGHT[name]
    source = planted(bug)
    with pytest.raises(KernelError, match=bug.pattern) as caught:
        forward(emulated, bug.kernel, random, source)
    lines = source.read_text().splitlines()
    (number,) = (i for i, line in enumerate(lines, 1) if bug.line in line)
    assert f"{source.name}:{number}" in str(caught.value)


@pytest.mark.parametrize("name", WRONG)
def test_mistake_gives_wrong_numbers(emulated, random, planted, name):
    bug = WRONG[name]
    assert forward(emulated, bug.kernel, random, planted(bug)) > 0.05


@pytest.mark.parametrize("kernel", [SIMPLE, MMA])
def test_without_the_mistakes_nothing_is_caught(emulated, random, kernel):
    assert forward(emulated, kernel, random) <= 2.5e-3
