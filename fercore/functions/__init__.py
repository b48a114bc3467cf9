"""The differentiable operations, one file each, as methods of a backend."""

from fercore.functions.augment import augment
from fercore.functions.batch_norm import BatchNorm
from fercore.functions.conv2d import Conv2d
from fercore.functions.dropout import Dropout
from fercore.functions.flatten import Flatten
from fercore.functions.gather import gather
from fercore.functions.linear import Drop, Linear
from fercore.functions.max_pool import MaxPool
from fercore.functions.relu import Relu
from fercore.functions.softmax_cross_entropy import SoftmaxCrossEntropy

__all__ = [
    "BatchNorm",
    "Conv2d",
    "Drop",
    "Dropout",
    "Flatten",
    "Linear",
    "MaxPool",
    "Relu",
    "SoftmaxCrossEntropy",
    "augment",
    "gather",
]
