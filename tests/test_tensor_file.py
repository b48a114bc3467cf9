"""Files of arrays with facts: what is written is read, by digest and bit, or refused by name."""

import numpy as np
import pytest

from fercore import tensor_file
from fercore.errors import FercoreError


def test_contents_come_back_under_the_digest_that_writing_gave(tmp_path):
    path = tmp_path / "some.safetensors"
    arrays = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.zeros(0, np.int32)}
    digest = tensor_file.write(path, arrays, {"x": {"y": 1}})
    file = tensor_file.read(path)
    assert file.digest == digest
    assert file.metadata == {"x": {"y": 1}}
    assert file.part("a/").keys() == {"b"}
    for name, array in arrays.items():
        assert file.tensors[name].tobytes() == array.tobytes()
        assert file.tensors[name].dtype == array.dtype


def test_a_digest_moves_with_every_array_name_and_fact(tmp_path):
    path, array = tmp_path / "some.safetensors", np.arange(3, dtype=np.float32)
    digests = {
        tensor_file.write(path, arrays, facts)
        for arrays, facts in (
            ({"a": array}, {}),
            ({"b": array}, {}),
            ({"a": array + 1}, {}),
            ({"a": array[:, None]}, {}),
            ({"a": array}, {"x": 1}),
        )
    }
    assert len(digests) == 5


def test_a_damaged_file_says_what_brings_it_back(tmp_path):
    path = tmp_path / "some.safetensors"
    tensor_file.write(path, {"a": np.arange(300, dtype=np.float32)}, {})
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(FercoreError, match=r"some\.safetensors: .* delete it and bake again"):
        tensor_file.read(path, "bake again")
    path.write_bytes(content[:9])
    with pytest.raises(FercoreError, match=r"some\.safetensors: .* delete it and bake again"):
        tensor_file.read(path, "bake again")


@pytest.mark.parametrize("metadata", ["{", "3"])
def test_damaged_metadata_are_named(tmp_path, metadata):
    from safetensors.numpy import save_file

    path = tmp_path / "some.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path, {"fercore": metadata})
    with pytest.raises(FercoreError, match=r"some\.safetensors: is damaged"):
        tensor_file.read(path)
