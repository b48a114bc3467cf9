"""Networks in PyTorch's layout and names: written for it, and read from what it trained.

The state dict is that of ``torch.nn`` modules named like the layers::

    fercore                               PyTorch
    conv1_1.weight  [out, kh, kw, in]     conv1_1.weight  [out, in, kh, kw]
    conv1_1.norm.weight, .bias            norm1_1.weight, .bias
    conv1_1.norm.running_mean             norm1_1.running_mean
    conv1_1.norm.running_variance         norm1_1.running_var
    fc1.weight  [out, h * w * c]          fc1.weight  [out, c * h * w]
    every other weight and bias           the same

``fc1`` reads the last feature map, which PyTorch flattens with channels first. Files are
safetensors; one that ``torch.save`` wrote is read by PyTorch itself, with ``weights_only=True``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercore import models, tensor_file
from fercore.backends.interface import MEAN, STD, Backend
from fercore.data.classes import label_of
from fercore.data.dataset import BASIC, CLASSES, class_count
from fercore.errors import FercoreError
from fercore.files import write_atomically
from fercore.nn import BatchNorm, Conv2d, Flatten, Layer, Model

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Counterpart:
    """How a tensor of ours, which has ``shape`` here, is called and laid out in PyTorch.

    Only kernels differ: convolution weights, and those of the first fully connected layer, each of
    whose rows is a kernel as large as the feature map. ``kernel`` is the shape ``[out, h, w, in]``.
    """

    name: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...] | None = None

    @property
    def shape_there(self) -> tuple[int, ...]:
        if self.kernel is None or len(self.shape) == 2:
            return self.shape
        out, height, width, channels = self.kernel
        return out, channels, height, width

    def to_pytorch(self, array: np.ndarray) -> np.ndarray:
        """The tensor there, given ours."""
        if self.kernel is not None:
            array = array.reshape(self.kernel).transpose(0, 3, 1, 2).reshape(self.shape_there)
        return np.ascontiguousarray(array)

    def from_pytorch(self, array: np.ndarray) -> np.ndarray:
        """Ours, given the tensor there."""
        if self.kernel is not None:
            out, height, width, channels = self.kernel
            array = array.reshape(out, channels, height, width).transpose(0, 2, 3, 1)
        with np.errstate(over="ignore"):  # infinity is refused with a sentence
            return np.ascontiguousarray(array.reshape(self.shape), dtype=np.float32)


def counterparts(model: Model) -> dict[str, Counterpart]:
    """Our name of every parameter and running statistic -> its counterpart."""
    found: dict[str, Counterpart] = {}
    shape: tuple[int, ...] = (1, *model.input_shape)
    feature_map: tuple[int, ...] = ()  # what the next layer sees flattened
    for layer in model.layers:
        for name, tensor in {**layer.parameters, **layer.statistics}.items():
            kernel: tuple[int, ...] | None = None
            if name == "weight" and isinstance(layer, Conv2d):
                kernel = tensor.shape
            elif name == "weight" and feature_map:
                kernel = (tensor.shape[0], *feature_map)
            there = Counterpart(_name(layer, name), tensor.shape, kernel)
            found[f"{layer.name}.{name}"] = there
        feature_map = shape[1:] if isinstance(layer, Flatten) else ()
        shape = layer.output_shape(shape)
    return found


def _name(layer: Layer, tensor: str) -> str:
    if isinstance(layer, BatchNorm):
        module = layer.name.removesuffix(".norm").replace("conv", "norm")
        return f"{module}.{tensor.replace('variance', 'var')}"
    return f"{layer.name}.{tensor}"


# -- export -----------------------------------------------------------------------------------


def state_dict(model: Model) -> dict[str, np.ndarray]:
    """The network's tensors (float32) under PyTorch's names, in PyTorch's layout."""
    known = counterparts(model)
    return {
        known[name].name: known[name].to_pytorch(array.astype(np.float32))
        for name, array in model.state().items()
    }


def save(path: Path, model: Model) -> None:
    """Write ``state_dict`` as a safetensors file, for ``load_state_dict(load_file(path))``.

    Its metadata say under ``network`` (JSON) what the tensors are for.
    """
    from safetensors.numpy import save as to_bytes

    write_atomically(path, to_bytes(state_dict(model), {"network": json.dumps(about(model))}))


def about(model: Model) -> dict[str, Any]:
    """What a user of an exported network has to know, as plain values."""
    return {
        "model": model.name,
        "classes": list(CLASSES[: model.classes]),
        "input": f"gray faces of 48x48, (pixel / 255 - {MEAN}) / {STD}",
    }


# -- import -----------------------------------------------------------------------------------


def load_model(
    path: Path, backend: Backend, *, classes: Sequence[str] | None = None, std: float = STD
) -> Model:
    """The network in a checkpoint of PyTorch's: a state dict in a safetensors, .pt or .pth file.

    Which network it is shows in its shapes. ``num_batches_tracked`` is left out.

    Args:
        path: the checkpoint.
        backend: where the network shall live.
        classes: what its outputs stand for, in their order; synonyms will do. Without it they are
            CLASSES, as many as there are outputs.
        std: it was trained on ``(pixel / 255 - 0.5) / std``. Ours divide by 0.25: the first
            convolution takes up the difference. (It cannot for another mean than 0.5, because the
            zeros that it pads with would be another gray.)

    Raises:
        FercoreError: the file cannot be read, is no state dict, fits no network of ``models``,
            or holds a value that is not finite; ``classes`` are not each of ours once.
    """
    order = None if classes is None else _order(classes)
    tensors = _read(path)
    state = {n: array for n, array in tensors.items() if not n.endswith("num_batches_tracked")}
    try:
        name = recognise(state)
        if order is None:
            order = list(range(_outputs(name, state)))
        model = models.build(name, len(order), backend=backend)
        ours = from_state_dict(model, state)
        for tensor in (f"{model.layers[-1].name}.{kind}" for kind in ("weight", "bias")):
            ours[tensor] = ours[tensor][order]
        ours["conv1_1.weight"] = ours["conv1_1.weight"] * np.float32(STD / std)
        model.load_state(ours)
    except FercoreError as error:
        raise FercoreError(f"{path}: {error}") from error
    return model


def recognise(state: State) -> str:
    """The name of the network whose first convolution a state dict has."""
    kernel = state.get("conv1_1.weight")
    known = {}
    for name, architecture in models.ARCHITECTURES.items():
        block = architecture.blocks[0]
        known[name] = (block.channels, models.INPUT_SHAPE[2], block.kernel, block.kernel)
        if kernel is not None and kernel.shape == known[name]:
            return f"{name}-bn" if any(key.startswith("norm") for key in state) else name
    choices = ", ".join(f"{shape} in {name}" for name, shape in known.items())
    found = f"is missing, there is {_some(state)}" if kernel is None else f"is {kernel.shape}"
    raise FercoreError(f"fits no network here: conv1_1.weight {found}; it is {choices}")


def from_state_dict(model: Model, state: State) -> dict[str, np.ndarray]:
    """Our tensors, by our names, for ``model.load_state``.

    Raises FercoreError when a tensor is missing, unknown, of another shape or not of real numbers.
    """
    known = counterparts(model)
    there = {counterpart.name: counterpart for counterpart in known.values()}
    for what, names in (
        ("lacks", there.keys() - state.keys()),
        ("has an unknown", state.keys() - there.keys()),
    ):
        if names:
            raise FercoreError(f"{what} {min(names)}: it is not a {model.name}")
    for name, counterpart in there.items():
        array = state[name]
        if array.shape != counterpart.shape_there:
            raise FercoreError(
                f"{name} has shape {array.shape}, {model.name} needs {counterpart.shape_there}"
            )
        if not np.can_cast(array.dtype, np.float64):
            raise FercoreError(f"{name} holds {array.dtype}, not real numbers")
    return {ours: c.from_pytorch(state[c.name]) for ours, c in known.items()}


def _outputs(name: str, state: State) -> int:
    """How many classes a checkpoint tells apart: all, or the basic ones where it is not all."""
    hidden = models.ARCHITECTURES[name.removesuffix("-bn")].hidden
    bias = state.get(f"fc{len(hidden) + 1}.bias")
    return class_count(bias is not None and bias.shape == (len(CLASSES),))


def _order(classes: Sequence[str]) -> list[int]:
    """For each of our classes, which of ``classes`` it is."""
    labels = [label_of(word, len(CLASSES)) for word in classes]
    count = len(labels)
    if count not in (BASIC, len(CLASSES)) or set(labels) != set(range(count)):
        raise FercoreError(
            f"the classes {', '.join(classes)} do not fit: name each of "
            f"{', '.join(CLASSES[:BASIC])} once, and {', '.join(CLASSES[BASIC:])} if it is one, in "
            "the order of the checkpoint's outputs"
        )
    return [labels.index(label) for label in range(count)]


def _some(state: State) -> str:
    names = sorted(state)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "nothing"


def _read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, by its ending."""
    if path.suffix == ".safetensors":
        tensors, metadata = tensor_file.read_tensors(path)
        if "fercore" in metadata:
            raise FercoreError(f"{path}: is a file of fercore's own; it needs no import")
        return tensors
    if path.suffix in (".pt", ".pth"):
        return _read_with_torch(path)
    raise FercoreError(
        f"{path}: is no checkpoint of PyTorch's by its name; they end in .safetensors, .pt or .pth"
    )


def _read_with_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise FercoreError(
            f"{path}: takes PyTorch to read, which is not installed: install it, or write the file "
            "with safetensors.torch.save_file(model.state_dict(), 'network.safetensors')"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the errors below say
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FercoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # PyTorch's readers raise a dozen kinds on bad bytes
        reason = str(error).strip().partition("\n")[0]
        raise FercoreError(f"{path}: holds nothing that is safe to read ({reason})") from error
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise FercoreError(f"{path}: is no state dict; write torch.save(model.state_dict(), path)")
    # Through float32, because NumPy has no bfloat16.
    return {str(name): value.detach().float().numpy() for name, value in content.items()}
