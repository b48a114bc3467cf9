"""What a run was carried out with."""

from fercore import backends, environment


def test_the_reference_is_described_with_its_dtype():
    facts = environment.describe(backends.get("reference", dtype="float32"))
    assert (facts["backend"], facts["dtype"]) == ("reference", "float32")
    assert facts["numpy"]


def test_a_compiled_backend_says_how_it_computes(compiled_backend):
    facts = environment.describe(compiled_backend)
    assert facts["instructions"]
    assert facts["compiler"]
    if compiled_backend.name == "cpu":
        assert facts["threads"] >= 1
        assert facts["blas"]


def test_only_what_decides_bits_counts_as_a_difference():
    old = {"backend": "cpu", "threads": 2, "instructions": "avx2", "python": "3.11"}
    assert environment.differences(old, {**old, "python": "3.12"}) == []
    assert environment.differences(old, {**old, "threads": 4}) == []
    assert environment.differences(old, {**old, "backend": "cuda"}) == ["backend: cpu -> cuda"]
    del old["instructions"]
    assert environment.differences(old, {**old, "instructions": "avx2"}) == [
        "instructions: unset -> avx2"
    ]
