"""Trained networks for other programs: ONNX, and PyTorch's layout (see ``pytorch``).

The ONNX graph reads pixels and normalises them itself, so that whoever uses it cannot do so in
another way than it was trained with::

    pixels [batch, 1, 48, 48], uint8: gray faces, framed as the training images were
        │  (pixel / 255 - 0.5) / 0.25, the network
    logits [batch, classes], float32
        │  softmax
    probabilities [batch, classes], float32

The batch may have any size. The graph's metadata name the model and, in the order of the outputs,
the classes. Parameters have PyTorch's names and layout, which are ONNX's too (NCHW).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fercore
from fercore import pytorch
from fercore.backends.interface import MEAN, STD
from fercore.data.dataset import CLASSES
from fercore.errors import FercoreError
from fercore.files import write_atomically
from fercore.nn import BatchNorm, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool, Model

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET, IR_VERSION = 17, 8
"""Of 2022: every runtime that is still used knows them, and nothing newer is needed."""

EPSILON = 1e-5
"""Of batch normalisation: ``functions.BatchNorm``'s, which is ONNX's and PyTorch's too."""


def save(path: Path, model: Model) -> None:
    """Write a network for other programs; the ending of ``path`` says which.

    ``.onnx`` is an ONNX graph, ``.safetensors`` a state dict of PyTorch's.
    Raises FercoreError for another ending, a missing ``onnx`` package, or a file that cannot be
    written.
    """
    if path.suffix == ".onnx":
        write_atomically(path, to_onnx(model).SerializeToString(deterministic=True))
    elif path.suffix == ".safetensors":
        pytorch.save(path, model)
    else:
        raise FercoreError(f"{path}: end it in .onnx, or in .safetensors for PyTorch")


def to_onnx(model: Model) -> ModelProto:
    """The network as an ONNX graph that has passed ONNX's own checks.

    Raises FercoreError when the ``onnx`` package is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise FercoreError(
            "ONNX files take the onnx package: pip install 'fercore[onnx]'"
        ) from None
    height, width, channels = model.input_shape
    tensor, number = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        _Nodes(model).nodes,
        model.name,
        [tensor("pixels", TensorProto.UINT8, ["batch", channels, height, width])],
        [tensor(name, number, ["batch", model.classes]) for name in ("logits", "probabilities")],
        [
            *(helper.make_tensor(name, number, [], [value]) for name, value in _INPUT.items()),
            *(numpy_helper.from_array(a, name) for name, a in pytorch.state_dict(model).items()),
        ],
    )
    made: ModelProto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fercore",
        producer_version=fercore.__version__,
    )
    facts = {"model": model.name, "classes": json.dumps(CLASSES[: model.classes])}
    helper.set_model_props(made, facts)
    checker.check_model(made, full_check=True)
    return made


_INPUT = {"input.mean": 255 * MEAN, "input.std": 255 * STD}


class _Nodes:
    """The graph's nodes in order; each has one output, which carries the name of its layer."""

    def __init__(self, model: Model) -> None:
        from onnx import TensorProto

        self.nodes: list[NodeProto] = []
        self.counterparts = pytorch.counterparts(model)
        x = self._add("Cast", "input.cast", "pixels", to=TensorProto.FLOAT)
        x = self._add("Sub", "input.centred", x, "input.mean")
        x = self._add("Div", "input.scaled", x, "input.std")
        for layer in model.layers:
            x = self._layer(layer, x)
        self.nodes[-1].output[0] = "logits"
        self._add("Softmax", "probabilities", "logits", axis=-1)

    def _add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _layer(self, layer: Layer, x: str) -> str:
        """Append what ``layer`` does to ``x``; the name of the result."""
        name = layer.name
        tensors = [
            self.counterparts[f"{name}.{tensor}"].name
            for tensor in (*layer.parameters, *layer.statistics)
        ]
        if isinstance(layer, Conv2d):
            stride, padding = layer.geometry["stride"], layer.geometry["padding"]
            x = self._add("Conv", name, x, *tensors, strides=[stride] * 2, pads=[padding] * 4)
        elif isinstance(layer, BatchNorm):
            x = self._add("BatchNormalization", name, x, *tensors, epsilon=EPSILON)
        elif isinstance(layer, Linear):
            x = self._add("Gemm", name, x, *tensors, transB=1)
        elif isinstance(layer, MaxPool):
            x = self._pool(name, x, **layer.geometry)
        elif isinstance(layer, Flatten):
            x = self._add("Flatten", name, x)
        elif not isinstance(layer, Dropout):
            raise NotImplementedError(f"{name}: no ONNX for a {type(layer).__name__}")
        epilogue = getattr(layer, "epilogue", "none")
        if epilogue != "none":
            x = self._add("Relu", f"{name}.relu", x)
        if epilogue == "relu_pool":
            x = self._pool(f"{name}.pool", x, window=2, stride=2)
        return x

    def _pool(self, name: str, x: str, *, window: int, stride: int) -> str:
        return self._add("MaxPool", name, x, kernel_shape=[window] * 2, strides=[stride] * 2)
