"""From stored uint8 images to a batch that a network reads."""

from __future__ import annotations

from fercore.autograd import Tensor
from fercore.backends.interface import Augmentation, Backend, Buffer


def augment(
    backend: Backend,
    images: Buffer,
    labels: Buffer,
    indices: Buffer,
    rng: Buffer,
    augmentation: Augmentation,
) -> tuple[Tensor, Tensor]:
    """Gather rows ``indices [N]`` of ``images [M, H, W]`` (uint8), vary and normalise them.

    Returns ``x [N, H, W, 1]`` and rows of ``labels``: int32 ``[N]``, or targets ``[N, K]``.
    Nothing below this point has a gradient.
    """
    count, (_, height, width) = indices.shape[0], images.shape
    x = Tensor(backend, backend.empty((count, height, width, 1), backend.compute_dtype))
    y = Tensor(backend, backend.empty((count, *labels.shape[1:]), labels.dtype))
    with backend.scope("augment forward"):
        backend.augment(images, labels, indices, rng, x.data, y.data, augmentation=augmentation)
    return x, y
