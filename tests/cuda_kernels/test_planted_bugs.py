"""Real kernels, each with one mistake planted: the emulator, or the gate, has to see it."""

import dataclasses
import functools

import numpy as np
import pytest

from cuda_kernels import dropout, linear, specs
from cuda_kernels.runtime import KernelError
from tests.backends import oracle
from tests.backends.harness import normal, relative_error
from tests.cuda_kernels.harness import poisoned, to_device
from tests.cuda_kernels.planting import plant

ROWS, IN, OUT = 70, 136, 72
RNG, LAYER, RATE = np.array([3, 1, 4, 15], np.uint32), 2, 0.5


def forward(runtime, name, random, source=None):
    """The relative error of a forward kernel with dropout, from its own source or a variant."""
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
        "rng": to_device(runtime, RNG),
        **dropout.settings(RATE, LAYER),
    }
    grid = kernel.grid(linear.Product(ROWS, IN, OUT, bytes=0))
    runtime.launch(kernel, grid, (kernel.threads, 1, 1), kernel.shared_bytes, arguments)
    out = linear.from_bf16(out) if narrow else out
    x, weight = (linear.from_bf16(a) if narrow else a for a in (x, weight))
    kept = oracle.dropout_keeps(ROWS * OUT, RNG, RATE, LAYER).reshape(ROWS, OUT) / (1 - RATE)
    return relative_error(out, x.astype(float) @ weight.T.astype(float) * kept)


@dataclasses.dataclass(frozen=True)
class Bug:
    """``text`` of a kernel's source, or of the header ``file``, replaced by ``mistake``.

    The message must name the only line that contains ``line`` and match ``pattern``.
    """

    kernel: str
    text: str
    mistake: str
    line: str = ""
    pattern: str = ""
    file: str = ""


SIMPLE, MMA = "linear_forward", "linear_forward_bf16_mma"
COMPLETE = "__syncthreads();  // the tiles are complete"
READS, FETCHES = "load4(&tiles.a[k][row])", "ldmatrix(of, &lines.entries[from"
COPIES = "copy_async<16>(&tile.lines.entries[to"
WAIT = "wait_for_copies<stages - 2>();"


def in_header(text, mistake, line="", pattern="", *, file="tile_product.cuh", kernel=MMA):
    return Bug(kernel, text, mistake, line, pattern, file)


CAUGHT = {
    "barrier removed before reading": Bug(
        *(SIMPLE, COMPLETE, ""),
        *(READS, "nobody has written yet|race in shared memory: it reads"),
    ),
    "barrier removed before refilling": Bug(
        *(SIMPLE, "__syncthreads();  // nobody reads them any more", ""),
        *("tile[k][row] =", "race in shared memory: it (overwrites|reads)"),
    ),
    "barrier of the pipeline removed": in_header(
        *("__syncthreads();                // everybody's", "// everybody's"),
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
    "copy past the end": in_header(
        *("place_if(i < count,", "place_if(i <= count,"),
        *(COPIES, r"(x|weight)\[\d+\.\.\d+\] is outside its \d+ entries"),
        file="place.cuh",
    ),
    "copy of what is nowhere": in_header(
        *("image.contains({0, y[pass] + term.y, x[pass] + term.x}));", "true);"),
        *(COPIES, r"(x|weight)\[\d+\.\.\d+\] is outside its \d+ entries"),
    ),
    "write past the end": Bug(
        *(SIMPLE, "if (r < rows && c < columns)", "if (r <= rows && c < columns)"),
        *("out[at] = from_float<Out>(", r"out\[\d+\] is outside its 5040 entries"),
    ),
    "shared memory overflow": Bug(
        *(SIMPLE, "tile[k][row] =", "tile[k][row + 5] ="),
        *("tile[k][row + 5] =", "index 68 of an array of 68 in shared memory"),
    ),
    "wait dropped": in_header(WAIT, "", FETCHES, "a wait is missing"),
    "wait for one group too few": in_header(
        *(WAIT, WAIT.replace("2", "1"), FETCHES, "a wait is missing")
    ),
    "stage refilled while it is read": in_header(
        *("u32 refilled = 0, used = 0;", "u32 refilled = 0, used = 1;"),
        *("", "race in shared memory|a wait is missing|written yet"),
    ),
    "shared memory read past a tile": in_header(
        *("Lines::first(row + 8 *", "Lines::first(row + 64 + 8 *"),
        *(FETCHES, "index [4-9][0-9]{3} of an array of 4096 in shared memory"),
        file="fragments.cuh",
    ),
}

WRONG = {
    "registers of a swapped": in_header(
        *("side == Side::a ? matrix % 2", "side == Side::b ? matrix % 2"), file="fragments.cuh"
    ),
    "registers of b swapped": in_header(
        "y[j % 2 * 2], y[j % 2 * 2 + 1]", "y[j % 2 * 2 + 1], y[j % 2 * 2]", file="fragments.cuh"
    ),
    "sums of neighbours swapped": in_header(
        "pack_bf16(pair[0], pair[1])", "pack_bf16(pair[1], pair[0])", file="tile_epilogue.cuh"
    ),
    "a chunk too few": in_header(
        "chunk < chunks_of_stage; chunk +=", "chunk + 2 < chunks_of_stage; chunk +="
    ),
    "a walk that stands still": in_header("terms.advance(depth_of_stage<Entry>);", ""),
    "terms of tf32 in another order": in_header(
        *("y[j % 2 * 2], y[j % 2 * 2 + 1]", "y[j % 2 * 2 + 1], y[j % 2 * 2]"),
        file="fragments.cuh",
        kernel="linear_forward_tf32_mma",
    ),
    "a word for another": in_header(
        "i % 4 == 0 ? drawn.x", "i % 4 == 0 ? drawn.y", file="dropout.cuh"
    ),
    "words of another entry": in_header(
        *("i % 4 < 2 ? low : high", "i % 4 < 1 ? low : high"), file="dropout.cuh", kernel=SIMPLE
    ),
    "bits of another pair": Bug(MMA, "2 * j + k % 2", "2 * j + k / 2"),
    "one term too few": Bug(SIMPLE, "k < depth_of_tile; ++k", "k < depth_of_tile - 1; ++k"),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Builds each variant once for all orders of threads."""

    def source(bug):
        folder, original = tmp_path_factory.mktemp("planted"), specs.kernel(bug.kernel).source
        return plant(folder, original, bug.text, bug.mistake, bug.file, only=bug.kernel)

    return functools.cache(source)


def places_of(text, folder):
    """FILE:LINE of every line in the folder that contains ``text``."""
    for path in folder.glob("*.cu*"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if text in line:
                yield f"{path.name}:{number}"


@pytest.mark.parametrize("name", CAUGHT)
def test_mistake_is_caught_with_its_line(emulated, random, planted, name):
    bug = CAUGHT[name]
    source = planted(bug)
    with pytest.raises(KernelError, match=bug.pattern) as caught:
        forward(emulated, bug.kernel, random, source)
    (place,) = places_of(bug.line, source.parent) if bug.line else ("",)
    assert place in str(caught.value)


@pytest.mark.parametrize("name", WRONG)
def test_mistake_gives_wrong_numbers(emulated, random, planted, name):
    bug = WRONG[name]
    assert forward(emulated, bug.kernel, random, planted(bug)) > 0.05


@pytest.mark.parametrize("kernel", [SIMPLE, MMA])
def test_without_the_mistakes_nothing_is_caught(emulated, random, kernel):
    assert forward(emulated, kernel, random) <= 2.5e-3
