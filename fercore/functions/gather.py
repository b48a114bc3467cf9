"""From stored features of images to a batch that a network goes on from."""

from __future__ import annotations

from fercore.autograd import Tensor
from fercore.backends.interface import Backend, Buffer


def gather(
    backend: Backend, features: Buffer, labels: Buffer, indices: Buffer
) -> tuple[Tensor, Tensor]:
    """Rows ``indices [N]`` of ``features [M, ...]`` and of ``labels [M]``; 0 and -1 for none.

    Nothing below this point has a gradient.
    """
    count = indices.shape[0]
    x = Tensor(backend, backend.empty((count, *features.shape[1:]), features.dtype))
    y = Tensor(backend, backend.empty((count, *labels.shape[1:]), labels.dtype))
    with backend.scope("features forward"):
        backend.gather(features, indices, x.data)
        backend.gather(labels, indices, y.data, padding=-1)
    return x, y
