"""What the compiled module owes to its build: instruction sets, threads, and its environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fercore.backends

pytest.importorskip("_fercore_cpu", reason="the compiled module is not installed")

INSTRUCTIONS = ("portable", "x86-64-v3", "x86-64-v4")

# One call of every kernel that divides its work among threads. `random(shape)` are small integers
# if the script is given "exact", so that every instruction set must find the same sums; else it is
# also given how to convolve.
SCRIPT = """
import hashlib, sys
import numpy as np
import fercore.backends

exact = sys.argv[1] == "exact"
backend = fercore.backends.get("cpu", convolution="direct" if exact else sys.argv[2])
generator = np.random.default_rng(7)

def random(*shape):
    if exact:
        return backend.from_host(generator.integers(-2, 3, shape).astype(np.float32))
    return backend.from_host(generator.standard_normal(shape, dtype=np.float32))

def zeros(*shape, dtype=np.float32):
    return backend.from_host(np.zeros(shape, dtype))

x, weight, bias = random(5, 27, 31, 19), random(37, 3, 3, 19), random(37)
out, argmax = zeros(5, 13, 15, 37), zeros(5, 13, 15, 37, dtype=np.uint8)
backend.conv2d_forward(x, weight, bias, out, argmax, padding=1, epilogue="relu_pool")
grad, grad_x = random(5, 27, 31, 37), zeros(5, 27, 31, 19)
backend.conv2d_input_gradient(grad, weight, grad_x, padding=1)
grad_weight, grad_bias = zeros(37, 3, 3, 19), zeros(37)
backend.conv2d_weight_gradient(x, grad, grad_weight, grad_bias, padding=1)
x2, weight2, out2 = random(70, 300), random(290, 300), zeros(70, 290)
backend.linear_forward(x2, weight2, None, out2)
grad2, grad_x2, grad_weight2, grad_bias2 = (
    random(70, 290), zeros(70, 300), zeros(290, 300), zeros(290)
)
backend.linear_input_gradient(grad2, weight2, grad_x2)
backend.linear_weight_gradient(x2, grad2, grad_weight2, grad_bias2)
results = [out, argmax, grad_x, grad_weight, grad_bias, out2, grad_x2, grad_weight2, grad_bias2]
if not exact:
    rows, moving = random(5000, 19), zeros(19, dtype=np.uint8)
    moving[:] = 1
    ones, mean, inverse_std, normal = zeros(19), zeros(19), zeros(19), zeros(5000, 19)
    ones[:] = 1
    backend.batch_norm_forward(
        rows, ones, mean, zeros(19), ones.copy(), moving, normal, mean.copy(), inverse_std
    )
    rates = backend.empty((4,), np.float64)
    rates[:] = 1
    backend.clip_gradients([rows], [None], rates, max_norm=1.0)
    results += [normal, inverse_std, rates]
print(hashlib.sha256(b"".join(result.tobytes() for result in results)).hexdigest())
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def digest(*arguments: str, **environment: str) -> str:
    finished = run("-c", SCRIPT, *arguments, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def supported(instructions: str) -> bool:
    return run("-c", "import _fercore_cpu", FERCORE_INSTRUCTIONS=instructions).returncode == 0


def test_build_info_says_what_runs():
    info = fercore.backends.get("cpu").build_info()
    assert info.keys() == {
        *("blas", "blas_core", "compiler", "convolution", "instructions", "threads")
    }
    assert info["instructions"] in INSTRUCTIONS
    assert info["threads"] >= 1


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_instruction_sets_agree_where_sums_are_exact(instructions):
    if not supported(instructions):
        pytest.skip(f"this build or this processor has no {instructions}")
    assert digest("exact", FERCORE_INSTRUCTIONS=instructions) == digest("exact")


def test_threads_are_shared_out_by_the_calling_thread():
    """What one thread has taken to itself leaves another's as it was."""
    script = """
        import threading
        from fercore import backends
        import _fercore_cpu
        backend = backends.get("cpu")
        backend.share(3)
        assert _fercore_cpu.threads() == 2, _fercore_cpu.threads()
        backend.share(100)
        assert _fercore_cpu.threads() == 1
        other = []
        thread = threading.Thread(target=lambda: other.append(_fercore_cpu.threads()))
        thread.start(), thread.join()
        assert other == [6] == [backend.processors]
    """
    finished = run("-c", textwrap.dedent(script), FERCORE_THREADS="6")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("convolution", ["direct", "winograd"])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_bits_do_not_depend_on_the_number_of_threads(threads, convolution):
    two = digest("real", convolution, FERCORE_THREADS="2")
    assert digest("real", convolution, FERCORE_THREADS=threads) == two


@pytest.mark.parametrize("epilogue", ["relu", "relu_pool"])
@pytest.mark.parametrize(("size", "channels"), [(6, 70), (13, 9), (40, 5)])
@pytest.mark.parametrize("convolution", ["direct", "winograd"])
def test_an_image_gets_the_same_bits_in_any_batch(convolution, size, channels, epilogue):
    backend = fercore.backends.get("cpu", convolution=convolution)
    random = np.random.default_rng(3)
    images = random.standard_normal((7, size, size, channels), dtype=np.float32)
    weight = random.standard_normal((21, 3, 3, channels), dtype=np.float32)
    bias = random.standard_normal(21, dtype=np.float32)

    def forward(batch: np.ndarray) -> np.ndarray:
        side = size // 2 if epilogue == "relu_pool" else size
        out = backend.empty((len(batch), side, side, 21))
        backend.conv2d_forward(batch, weight, bias, out, padding=1, epilogue=epilogue)
        return backend.to_host(out)

    together = forward(images)
    for i in range(7):
        assert forward(images[i : i + 1]).tobytes() == together[i : i + 1].tobytes()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FERCORE_THREADS", "0"),
        ("FERCORE_THREADS", "two"),
        ("FERCORE_INSTRUCTIONS", "avx1024"),
    ],
)
def test_a_bad_environment_is_refused_when_the_module_is_loaded(variable, value):
    finished = run("-c", "import _fercore_cpu", **{variable: value})
    assert finished.returncode != 0
    assert variable in finished.stderr
    assert value in finished.stderr


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("variables", "spins"),
    [({}, 1000), ({"GOMP_SPINCOUNT": "77"}, 77), ({"OMP_WAIT_POLICY": "active"}, 30_000_000_000)],
)
def test_threads_soon_wait_asleep_unless_the_user_says_otherwise(monkeypatch, variables, spins):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    code = f"import fercore.backends.cpu, os; print({{n for n in {WAITING} if n in os.environ}})"
    finished = run("-c", code, OMP_DISPLAY_ENV="verbose", **variables)
    said = re.search(r"GOMP_SPINCOUNT = '(\d+)'", finished.stderr)
    if said is None:
        pytest.skip("this build's OpenMP is not GNU's, which tells how long it spins")
    assert int(said[1]) == spins
    assert finished.stdout.strip() == str(set(variables))  # nobody else inherits it
