"""Model files: what is written is read, and what is damaged is named."""

from pathlib import Path

import numpy as np
import pytest

from fercore import backends, checkpoint, models, tensor_file
from fercore.errors import FercoreError


@pytest.fixture(scope="module")
def reference():
    return backends.get("reference", dtype="float32")


def test_a_model_file_holds_the_network_and_its_name(tmp_path, reference):
    model = models.build("tiny-bn", seed=3, backend=reference)
    path = tmp_path / "best.safetensors"
    checkpoint.save_model(path, model, {"epoch": 4})
    loaded = checkpoint.load_model(path, reference)
    assert loaded.name == "tiny-bn"
    assert tensor_file.read(path).metadata["epoch"] == 4
    state = model.state()
    assert loaded.state().keys() == state.keys()
    for name, array in loaded.state().items():
        assert array.tobytes() == state[name].tobytes(), name


def test_equal_states_are_equal_bytes(tmp_path, reference):
    model = models.build("tiny", seed=3, backend=reference)
    contents = set()
    for number in range(4):
        path = tmp_path / f"{number}.safetensors"
        checkpoint.save_model(path, model, {"epoch": 1, "b": 2, "a": 3})
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("kept", [0, 5, 100, 5000])
def test_a_file_cut_short_is_refused_by_name(tmp_path, reference, kept):
    path = tmp_path / "best.safetensors"
    checkpoint.save_model(path, models.build("tiny", backend=reference))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FercoreError, match=r"best\.safetensors: is damaged"):
        checkpoint.load_model(path, reference)


def test_a_flipped_bit_is_noticed(tmp_path, reference):
    path = tmp_path / "best.safetensors"
    checkpoint.save_model(path, models.build("tiny", backend=reference))
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(FercoreError, match=r"best\.safetensors: .*its checksum does not fit"):
        checkpoint.load_model(path, reference)


def test_a_folder_is_no_network(tmp_path, reference):
    with pytest.raises(FercoreError, match=r"is no file; give a network's best\.safetensors"):
        checkpoint.load_model(tmp_path, reference)


def test_classes_and_layout_of_another_version_are_refused(tmp_path, reference):
    model = models.build("tiny", backend=reference)
    path = tmp_path / "best.safetensors"
    for facts in ({"classes": ["a"] * 7}, {"layout": "NCHW"}):
        checkpoint.save_model(path, model, facts)
        with pytest.raises(FercoreError, match=f"its {next(iter(facts))} are not those of this"):
            checkpoint.load_model(path, reference)


def test_a_missing_file_is_named(tmp_path, reference):
    with pytest.raises(FercoreError, match=r"none\.safetensors: cannot be read"):
        checkpoint.load_model(tmp_path / "none.safetensors", reference)


def test_a_file_of_another_program_is_refused(tmp_path, reference):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(FercoreError, match="was not written by fercore"):
        checkpoint.load_model(path, reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc1.bias"), "lacks fc1.bias"),
        (lambda state: state.update(extra=np.zeros(1, np.float32)), "unknown extra"),
        (lambda state: state.update({"fc3.bias": np.zeros(8, np.float32)}), r"fc3.bias has shape"),
        (lambda state: state["conv1_1.weight"].fill(np.nan), "conv1_1.weight holds NaN"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, reference, change, message):
    model = models.build("tiny", backend=reference)
    state = model.state()
    change(state)
    path: Path = tmp_path / "best.safetensors"
    tensor_file.write(path, state, checkpoint.describe(model))
    with pytest.raises(FercoreError, match=message) as caught:
        checkpoint.load_model(path, reference)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model": "tiny", "classes": ["a"] * 7, "training": {}}, "give best.safetensors, beside"),
        ({"model": "tinny", "classes": ["a"] * 7}, "does not name a network .* 'tinny'"),
        ({"model": "tiny"}, "does not name a network .*classes"),
    ],
)
def test_a_file_that_names_no_network_is_refused(tmp_path, reference, metadata, message):
    path = tmp_path / "some.safetensors"
    tensor_file.write(path, models.build("tiny", backend=reference).state(), metadata)
    with pytest.raises(FercoreError, match=rf"some\.safetensors: .*{message}"):
        checkpoint.load_model(path, reference)
