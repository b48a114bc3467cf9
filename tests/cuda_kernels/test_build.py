"""Building: what is compiled when, by whom, and what is said when it fails."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cuda_kernels import build as building
from cuda_kernels import compilers
from cuda_kernels.build import build, headers, key
from cuda_kernels.compilers import INCLUDE, BuildError

SOURCE = """
#include "target.cuh"
#include "factor.cuh"
KERNEL(scale, 32, Global<float> x) {
    x[threadIdx.x] *= factor;
}
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A kernel with a header that includes another, and a cache of its own."""
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "factor.cuh").write_text(
        '#include "number.cuh"\nconstexpr float factor = number;\n'
    )
    (tmp_path / "number.cuh").write_text("constexpr float number = 2.0F;\n")
    path = tmp_path / "scale.cu"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def announced(monkeypatch):
    lines = []
    monkeypatch.setattr(building, "announce", lines.append)
    return lines


@pytest.mark.parametrize("target", ["host", "sm_80"])
def test_compiles_once_and_says_so(source, announced, target, request):
    if target != "host":
        request.getfixturevalue("cuda_compiler")
    path = build(source, target)
    assert path.is_file()
    assert path.parent == building.cache()
    assert build(source, target) == path
    (line,) = announced
    assert line.startswith(f"cuda_kernels: compiled scale.cu for {target} in ")
    assert line.endswith(" s")
    # Only the result and its lock are left.
    assert sorted(p.suffix for p in path.parent.iterdir()) == sorted([path.suffix, ".lock"])


@pytest.mark.parametrize("target", ["host", "sm_80"])
def test_macros_build_another_with_another_name(source, announced, target, request):
    if target != "host":
        request.getfixturevalue("cuda_compiler")
    paths = {build(source, target, macros) for macros in ((), ("SUFFIX=_b",), ("SUFFIX=_b", "C=1"))}
    assert len(paths) == 3
    assert build(source, target, ("SUFFIX=_b",)) in paths
    names = [name.encode() in path.read_bytes() for path in paths for name in ("scale_b",)]
    assert sorted(names) == [False, True, True]
    assert "compiled scale.cu with SUFFIX=_b C=1 for" in announced[2]
    assert len(announced) == 3


def test_editing_a_header_of_a_header_builds_anew(source, announced):
    first = build(source, "host")
    (source.parent / "number.cuh").write_text("constexpr float number = 3.0F;\n")
    second = build(source, "host")
    assert first != second
    assert len(announced) == 2
    (source.parent / "number.cuh").write_text("constexpr float number = 2.0F;\n")
    assert build(source, "host") == first
    assert len(announced) == 2


def test_every_header_counts(source):
    own = {source.parent / "factor.cuh", source.parent / "number.cuh"}
    on_gpu, on_host = set(headers(source, "sm_80")), set(headers(source, "host"))
    assert on_gpu == own | {INCLUDE / "target.cuh"}
    assert {"emulator.hpp", "machine.hpp", "fiber.hpp"} <= {path.name for path in on_host - on_gpu}


def test_the_key_tells_everything_apart(source, monkeypatch, cuda_compiler):
    keys = {key(source, target) for target in ("host", "sm_80", "sm_90", "sm_90a")}
    assert len(keys) == 4
    before = key(source, "host")
    compiler = compilers.host_compiler()
    monkeypatch.setattr(compiler, "identity", "another version")
    assert key(source, "host") != before
    monkeypatch.undo()
    source.write_text(SOURCE + "\n")
    assert key(source, "host") != before


@pytest.mark.parametrize("target", ["host", "sm_80"])
def test_a_compile_error_shows_the_line(source, target, request):
    if target != "host":
        request.getfixturevalue("cuda_compiler")
    source.write_text(SOURCE.replace("*= factor", "*= facktor"))
    with pytest.raises(BuildError) as caught:
        build(source, target)
    first, line, *_ = str(caught.value).splitlines()
    assert "scale.cu" in first
    assert "5" in first
    assert "facktor" in first
    assert line == "     5 |     x[threadIdx.x] *= facktor;"
    assert "facktor" in caught.value.log
    assert not list(building.cache().glob("scale-*[!k]")), "nothing is kept of a failure"


def test_an_error_in_a_header_shows_the_headers_line(source):
    (source.parent / "number.cuh").write_text("constexpr float number = ;\n")
    with pytest.raises(BuildError, match=r"number\.cuh:1") as caught:
        build(source, "host")
    assert "     1 | constexpr float number = ;" in str(caught.value)


def test_warnings_are_announced(source, announced):
    source.write_text(SOURCE.replace("x[thread", "int unused; x[thread"))
    build(source, "host")
    assert "unused" in announced[1]


def test_processes_that_build_at_once_compile_once(source):
    code = (
        "from pathlib import Path; from cuda_kernels.build import build; "
        f"print(build(Path({str(source)!r}), 'host'))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate() for process in processes]
    assert {path for path, _ in outputs} == {f"{build(source, 'host')}\n"}
    assert "".join(said for _, said in outputs).count("compiled scale.cu for host") == 1


def test_a_cache_that_cannot_be_written_is_named(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FERCORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"file/kernels: cannot be written .*; set FERCORE_CACHE"):
        build(source, "host")


def test_cache_is_the_users_unless_chosen(monkeypatch):
    monkeypatch.delenv("FERCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert building.cache() == Path("/somewhere/fercore/kernels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert building.cache() == Path.home() / ".cache/fercore/kernels"


def test_missing_things_are_named(tmp_path, monkeypatch):
    with pytest.raises(BuildError, match="no such file"):
        build(tmp_path / "none.cu", "host")
    with pytest.raises(BuildError, match="90: not an architecture; they are written like sm_90"):
        compilers.find("90")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    for forget in (compilers.cuda_compiler, compilers.host_compiler):
        monkeypatch.setattr(compilers, forget.__name__, forget.__wrapped__)
    with pytest.raises(BuildError, match=r"no CUDA compiler .* nvidia-cuda-nvrtc, or put nvcc on"):
        compilers.find("sm_90")
    with pytest.raises(BuildError, match=r"g\+\+: not found"):
        compilers.find("host")


def test_another_host_compiler_can_be_chosen(source, tmp_path, monkeypatch, announced):
    wrapper = tmp_path / "my-compiler"
    wrapper.write_text(f'#!/bin/sh\necho used >> {tmp_path}/used\nexec g++ "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(wrapper))
    monkeypatch.setattr(compilers, "host_compiler", compilers.host_compiler.__wrapped__)
    build(source, "host")
    assert (tmp_path / "used").exists()


def test_nvcc_and_nvrtc_agree(source, nvcc, tmp_path):
    """Both compilers, where both are there, make a cubin with the same kernels."""
    from cuda_kernels.cubin import resources

    try:
        nvrtc = compilers.Nvrtc()
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"NVRTC: {str(error).partition(os.linesep)[0]}")
    kernels = []
    for compiler in (nvcc, nvrtc):
        output = tmp_path / f"{type(compiler).__name__}.cubin"
        assert compiler.compile(source, "sm_80", output) == ""
        kernels.append(set(resources(output)))
    assert kernels == [{"scale"}, {"scale"}]
