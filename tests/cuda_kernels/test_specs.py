"""The registry: what it holds agrees with the sources, and choices follow their rules."""

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest

from cuda_kernels import linear, specs
from cuda_kernels.compilers import PACKAGE
from cuda_kernels.specs import Parameter, UnsuitableError, choose, signature

SOURCES = sorted(PACKAGE.glob("*.cu"))
PROBLEM = linear.Product(n=64, i=128, o=256, bytes=1000)


def test_every_kernel_in_a_source_is_registered():
    written = [
        (source, name) for source in SOURCES for name in specs.kernel_names(source.read_text())
    ]
    registered = {(kernel.source, kernel.name_in_source) for kernel in specs.kernels()}
    assert sorted(written) == sorted(registered)
    assert len(written) > 10


def test_versions_of_an_operation_take_the_same_arguments():
    """So that one can stand in for another; only the types of buffers may differ by precision."""
    for kernel in specs.kernels():
        first = next(one for one in specs.kernels() if one.operation == kernel.operation)
        taken, expected = (
            [(parameter.name, parameter.kind) for parameter in one.parameters]
            for one in (kernel, first)
        )
        assert taken == expected, f"{kernel.name} and {first.name}"


def test_no_two_kernels_are_the_same_version():
    names = Counter(kernel.name for kernel in specs.kernels())
    versions = Counter((k.operation, k.precision, k.version) for k in specs.kernels())
    assert {*names.values(), *versions.values()} == {1}


def test_every_kernel_says_its_idea_in_a_line():
    for kernel in specs.kernels():
        assert 10 < len(kernel.why) < 90, kernel.name
        assert "\n" not in kernel.why


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_sources_leave_what_is_exotic_to_the_headers(source):
    text = source.read_text()
    for word in (r"\basm\b", "__shared__", "<<<", "__CUDA_ARCH__", "ON_GPU", "__CUDACC__", "#if"):
        assert not re.search(word, text), f"{source.name} contains {word}"
    assert not re.search(r"#include\s*<", text), "no vendor's or standard headers"
    assert not re.search(r"\batomic", text), "no atomics: their order is not fixed"


# -- signatures -----------------------------------------------------------------------------------


def test_signature():
    source = """
KERNEL(other, 32, Global<float> y) {}
KERNEL(scale, threads,
       Global<const bf16> x,
       Global<float> out, u64 count, double by) {
"""
    assert specs.kernel_names(source) == ["other", "scale"]
    assert signature(source, "scale") == (
        Parameter("x", np.dtype(np.uint16), "input"),
        Parameter("out", np.dtype(np.float32), "output"),
        Parameter("count", np.dtype(np.uint64), "number"),
        Parameter("by", np.dtype(np.float64), "number"),
    )


@pytest.mark.parametrize(
    ("parameter", "words"),
    [("float* x", r"'float\* x'"), ("Global<half> x", "half"), ("unsigned x", "unsigned")],
)
def test_signature_refuses_what_it_does_not_know(parameter, words):
    with pytest.raises(ValueError, match=words):
        signature(f"KERNEL(f, 32, {parameter}) {{", "f")


def test_signature_of_no_kernel():
    with pytest.raises(ValueError, match=r"no KERNEL\(g"):
        signature("KERNEL(f, 32, u32 x) {", "g")


# -- choices --------------------------------------------------------------------------------------


def test_the_newest_version_that_suits_is_chosen():
    chosen = choose("linear_forward", PROBLEM, arch=90, precision="bf16")
    assert chosen.name == "linear_forward_bf16_mma_64x64"
    assert choose("linear_forward", PROBLEM, arch=90).name == "linear_forward"
    assert choose("linear_forward", PROBLEM, arch=75, precision="bf16").version == 1
    odd = dataclasses.replace(PROBLEM, o=7)
    assert choose("linear_forward", odd, arch=90, precision="bf16").version == 1


def test_a_pin_overrules_and_is_not_fallen_back_from():
    pins = {"linear_forward": 1}
    assert choose("linear_forward", PROBLEM, arch=90, precision="bf16", pins=pins).version == 1
    with pytest.raises(UnsuitableError, match=r"version 2 .* needs sm_80, and this is sm_75"):
        choose("linear_forward", PROBLEM, arch=75, precision="bf16", pins={"linear_forward": 2})
    odd = dataclasses.replace(PROBLEM, o=7)
    with pytest.raises(UnsuitableError, match="multiples of 8, not 128 and 7"):
        choose("linear_forward", odd, arch=90, precision="bf16", pins={"linear_forward": 2})
    with pytest.raises(UnsuitableError, match="version 9 of linear_forward: there is no such"):
        choose("linear_forward", PROBLEM, arch=90, pins={"linear_forward": 9})


@pytest.mark.parametrize("precision", ["tf32", "bf16x3"])
def test_fp32_stands_in_where_tensor_cores_do_not_suit(precision):
    def chosen(problem=PROBLEM, arch=90, operation="linear_forward", **pins):
        return choose(operation, problem, arch=arch, precision=precision, pins=pins).name

    assert chosen() == f"linear_forward_{precision}_mma_64x64"
    assert chosen(arch=75) == "linear_forward"
    assert chosen(dataclasses.replace(PROBLEM, o=6)) == "linear_forward"
    assert chosen(dataclasses.replace(PROBLEM, o=12)) == f"linear_forward_{precision}_mma_64x64"
    assert chosen(dataclasses.replace(PROBLEM, aligned=False)) == "linear_forward"
    assert chosen(linear_forward=1) == "linear_forward"
    sums = linear.ColumnSums(n=3, o=5, bytes=80)
    assert chosen(sums, operation="linear_bias_gradient") == "linear_bias_gradient"


@pytest.mark.parametrize(("precision", "most"), [("bf16", 2**33), ("tf32", 2**34)])
def test_tensor_cores_count_entries_in_32_bits(precision, most):
    def chosen(size):
        problem = dataclasses.replace(PROBLEM, bytes=size)
        return choose("linear_forward", problem, arch=90, precision=precision).version

    assert (chosen(most - 1), chosen(most)) == (5, 1)
    huge, pins = dataclasses.replace(PROBLEM, bytes=most), {"linear_forward": 2}
    with pytest.raises(UnsuitableError, match=r"fewer than 2\^32 entries"):
        choose("linear_forward", huge, arch=90, precision=precision, pins=pins)


def test_nothing_stands_in_for_buffers_of_another_type():
    with pytest.raises(UnsuitableError, match="is for fp32, not bf16"):
        choose("fill", PROBLEM, arch=90, precision="bf16")
    with pytest.raises(UnsuitableError, match="is for bf16x3, not fp32"):
        choose("linear_forward", PROBLEM, arch=90, pins={"linear_forward": 2})


def test_every_reason_is_told():
    odd = dataclasses.replace(PROBLEM, o=7)
    with pytest.raises(UnsuitableError) as caught:
        choose("linear_forward", odd, arch=90, precision="tf32", pins={"linear_forward": 2})
    assert str(caught.value).count("not tf32") == 2
    assert "(linear_forward_tf32_mma) needs I and O to be multiples of 4" in str(caught.value)


def test_floors():
    assert PROBLEM.flops == 2 * 64 * 128 * 256
    assert PROBLEM.bytes == 1000


def test_unknown_kernel():
    with pytest.raises(ValueError, match=r"no kernel 'linear'; there are .*linear_forward"):
        specs.kernel("linear")
